"""The verdict follows from causes that are plain by construction, and is inconclusive where data are few."""

import pandas as pd
import pytest

from override_gap.analyses.readings import RunFrame
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.verdict import judge, verdict
from override_gap.probes.store.schema import SEARCH
from tests.analyses.searched import LIGHT, gain_rows, searched_run
from tests.analyses.test_causes import CASES
from tests.simulate import simulate_readings

LABELS = {
    "too weak": "magnitude",
    "at a price": "magnitude",
    "too strong": "magnitude",
    "third token": "representational",
    "saturates": "representational",
    "broken first": "representational",
    "no content": "representational",
    "undecided": "inconclusive",
}


@pytest.mark.parametrize(("cause", "label"), LABELS.items())
def test_pure_causes_decide_the_label(cause, label):
    found = verdict(searched_run(dict.fromkeys(range(50), CASES[cause])))
    assert found.label == label
    assert found.causes is not None


def test_half_and_half_is_mixed():
    found = verdict(searched_run({n: CASES["too weak" if n % 2 else "no content"] for n in range(80)}))
    assert found.label == "mixed"
    assert found.held.value == pytest.approx(0.5)
    assert found.rescued.value == pytest.approx(1.0), "without content the flip still counts as a flip"
    assert "no content 40" in found.sentence


def test_a_search_that_ended_early_is_inconclusive_and_names_the_next_gain():
    found = verdict(searched_run({n: CASES["undecided" if n % 2 else "no content"] for n in range(80)}))
    assert found.label == "inconclusive"
    assert "uniform-8" in found.sentence, "the range ended at gain 4"
    assert found.searched.undecided == 40
    few = verdict(searched_run({n: CASES["undecided" if n < 3 else "no content"] for n in range(80)}))
    assert few.label == "representational", "three undecided of eighty change nothing"


def test_too_strong_is_said_of_an_adapter_that_a_smaller_gain_repairs():
    found = verdict(searched_run(dict.fromkeys(range(50), CASES["too strong"])))
    assert "too strong" in found.sentence
    assert found.rescued.value == 0, "no gain above 1 repairs any"
    assert found.affordable.value == 1, "at gain 0.5 each costs 0.05 nats and keeps every answer"
    assert "100% [" in found.sentences[1]


def test_words_and_price_stand_in_the_sentence():
    rows = lambda i: gain_rows(i, (1, 1.5, 2), (-1, 1, 2), words=[None, int(i[-1]) % 2 == 0, None])  # noqa: E731
    found = verdict(searched_run(dict.fromkeys(range(50), rows)))
    right = round(found.in_words.value * found.in_words.n)
    assert f"{right} of 50 answers are right" in found.sentence
    assert "cost little" in found.sentence
    assert found.affordable.value == 1


def test_without_retention_questions_the_price_says_on_what_it_was_read():
    run = searched_run(dict.fromkeys(range(50), lambda i: gain_rows(i, (1, 1.5, 2), (-1, 1, 2))))
    words = "read on other documents' questions, since no item is a retention question"
    assert words in verdict(run).sentence
    asked = run.readings.iloc[:1].assign(item="r0", split="retention")
    with_retention = RunFrame(run.manifest, pd.concat([run.readings, asked]), run.layers, run.drawn, run.search)
    assert "cost little" in verdict(with_retention).sentence
    assert words not in verdict(with_retention).sentence


def test_where_nothing_is_repaired_no_price_of_repair_is_stated():
    found = verdict(searched_run(dict.fromkeys(range(50), CASES["no content"])))
    assert found.held.value == 0
    assert "no gain repairs the failures (no content 50)" in found.sentences[0]
    assert "cost" not in found.sentence
    assert found.as_json()["sentence"] == " ".join(found.as_json()["sentences"])


def test_the_range_and_the_breaking_gain_are_named():
    found = verdict(searched_run(dict.fromkeys(range(50), CASES["third token"])))
    assert (found.searched.low, found.searched.high, found.searched.breaks) == (1, 4, 6)
    assert "breaks the model at a median gain of 6" in found.sentence


def test_the_cost_of_a_gain_is_stated_where_every_document_was_read():
    """Documents cost 0.1 or 0.3 nats at gain 2; at gain 4 half of them were not read, since they were held before."""
    cheap = lambda i: gain_rows(i, (1, 2), (-1, 1), kl=[0.05, 0.1], kept=1.0)  # noqa: E731
    dear = lambda i: gain_rows(i, (1, 2, 4), (-2, -1, 1), kl=[0.05, 0.3, 1.2], kept=[1.0, 0.5, 0.5])  # noqa: E731
    run = searched_run({n: cheap if n % 2 else dear for n in range(50)})
    each = run.readings.assign(document=run.readings["item"])
    costs = verdict(RunFrame(run.manifest, each, search=run.search)).searched.costs
    assert [(cost.gain, cost.documents) for cost in costs] == [(1, 50), (2, 50)]
    assert costs[1].kl.value == pytest.approx(0.2)
    assert costs[1].kept.value == pytest.approx(0.75)
    assert costs[1].kept.high <= 1
    assert costs[0].as_json()["kept"]["low"] is None, "every document keeps all: no interval of no width"


@pytest.mark.parametrize(("points", "questions"), [(1, 30), (3, 30), (4, 8)])
def test_few_data_are_inconclusive(points, questions):
    found = verdict(simulate_readings(0, points, questions, **LIGHT))
    assert found.label == "inconclusive"
    assert "do not decide" in found.sentence


def test_without_a_search_there_is_no_verdict():
    run = searched_run(dict.fromkeys(range(50), CASES["too weak"]))
    found = verdict(RunFrame(run.manifest, run.readings, search=pd.DataFrame(columns=SEARCH.names)))
    assert found.label == "inconclusive"
    assert "--probes search" in found.sentence


def test_without_a_weight_update_the_magnitude_question_does_not_apply():
    def opaque(fault):
        run = simulate_readings(0, fault=fault, **LIGHT)
        adapters = {**run.manifest["adapters"], "static": False}
        return verdict(RunFrame({**run.manifest, "adapters": adapters}, run.readings.assign(critical_gain=None)))

    found = opaque("magnitude")
    assert found.label == "inconclusive"
    assert "no gain to vary" in found.sentence
    assert found.failing is not None
    assert f"{found.failing.value:.0%}" in found.sentence
    assert opaque("no-failure").label == "no-failure", "little fails, so the question does not arise"


def test_unknown_old_answers_are_no_conflicts():
    run = searched_run(dict.fromkeys(range(50), CASES["too weak"]))
    found = verdict(RunFrame(run.manifest, run.readings.assign(known=False), search=run.search))
    assert found.label == "inconclusive"


@pytest.mark.parametrize(
    ("low", "high", "label"),
    [
        (0.70, 0.95, "magnitude"),
        (0.01, 0.30, "representational"),
        (0.30, 0.60, "mixed"),
        (0.60, 0.95, "inconclusive"),
        (0.05, 0.50, "inconclusive"),
    ],
)
def test_the_rule_reads_the_interval(low, high, label):
    assert judge(Estimate("", (low + high) / 2, low, high, 50, 20)) == label


def test_few_relations_are_taken_as_they_are_and_many_as_a_sample():
    """One relation holds every failure that is not held: by relation the share is known far less well than by point.

    Points cross these relations, so that what many of them say has the terms of both, which is never narrower than either.
    """

    def of(relations):
        run = searched_run({n: CASES["too weak" if n % 5 else "no content"] for n in range(100)})
        names = run.readings["item"].map(
            {item: f"r{n % relations}" for n, item in enumerate(sorted(set(run.readings["item"])))}
        )
        return verdict(RunFrame(run.manifest, run.readings.assign(cluster=names), search=run.search)).held

    few, many = of(5), of(15)
    assert (few.low, few.high) == few.by_point
    assert few.by_cluster[0] < few.low
    assert many.low <= min(many.by_point[0], many.by_cluster[0])


def test_a_run_that_read_nothing_of_content_says_so() -> None:
    """Folders of earlier versions lack the columns: an answer that comes first is taken as given, and that is said."""

    def rows(item):
        return [{**row, "rise_rank": None, "rise_rank_base": None} for row in gain_rows(item, (1, 1.5), (-1.0, 1.0))]

    found = verdict(searched_run(dict.fromkeys(range(100), rows)))
    assert found.label == "magnitude"
    assert found.sentences[-1].startswith("For 100 of them nothing was read that tells content")
    assert "nothing was read" not in verdict(searched_run(dict.fromkeys(range(100), CASES["too weak"]))).sentence


@pytest.mark.parametrize(("place", "label"), [(0, "inconclusive"), (1, "magnitude")])
def test_answers_that_an_unread_edit_of_the_relation_would_bring_up_are_no_evidence_of_content(place, label) -> None:
    """The base puts each document's answer first among those of its relation: raising these alike flips every item."""

    def rows(item):
        return [{**row, "doc_place_relation": place} for row in gain_rows(item, (1, 1.5), (-1.0, 1.0))]

    found = verdict(searched_run(dict.fromkeys(range(100), rows)))
    assert found.label == label
    assert ("unread" in found.sentence) == (place == 0)
