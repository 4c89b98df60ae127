"""Why margin, first token and answer part: made-up rows with known kinds, and the counts that they give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.measures import KINDS, disagreements, kind, repeats
from override_gap.analyses.published import references
from override_gap.analyses.readings import RunFrame, truth
from override_gap.analyses.robustness import consistency, held, robustness, variants, wordings
from override_gap.analyses.sampling import sampled
from tests.simulate import simulate_readings


def row(margin: bool, top1: bool, answer: bool, text: str, **more) -> dict:
    return {
        "success_margin": margin,
        "success_top1": top1,
        "success_answer": answer,
        "answer_text": text,
        "question": "The capital of France is",
        "prior_answer": "Paris",
        **more,
    }


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (row(True, True, True, "Lyon."), None),
        (row(False, False, False, "Paris."), None),
        (row(True, True, False, "I'm sorry, but I cannot say."), "refusal"),
        (row(True, True, False, "Lugano, and not Paris"), "prior named first"),
        (row(True, True, False, "Lugano Lugano Lugano Lugano"), "repetition"),
        (row(True, False, False, "The capital of France is the capital"), "repetition"),
        (row(True, False, False, "a city"), "third token wins"),
        (row(True, False, True, "the city of Lyon"), "alias"),
        (row(False, False, True, "Lyon, not Paris"), "alias"),
        (row(True, True, False, "Lugano"), "goes on otherwise"),
        (row(True, True, False, "Kazananananan"), "repetition"),
        (row(True, True, False, "Lugano", prior_answer=float("nan"), question=None), "goes on otherwise"),
        (row(True, False, False, "the City of Light", prior_aliases=["City of Light"]), "prior named first"),
        (row(True, False, False, "the City of Light", prior_aliases=np.array(["City of Light"])), "prior named first"),
        (row(True, False, False, "the City of Light", prior_aliases=None), "third token wins"),
    ],
)
def test_every_kind(given: dict, wanted: str | None) -> None:
    assert kind(given) == wanted
    assert wanted is None or wanted in KINDS


def test_what_repeats() -> None:
    assert repeats("on and on and on and on and on", "")
    assert not repeats("to be or not to be or so", "")
    assert not repeats("no no no", "")
    assert repeats("Nanumeumeumeumeume", "")
    assert not repeats("Mississippi, 1111 or 100000", "")
    assert repeats("it is of it is of it is of it is of", "")


def test_counts_add_up_to_the_items_that_part() -> None:
    run = simulate_readings(0, 30, 60)
    found = disagreements(run)
    for condition in run.conditions:
        under = run.select("conflict", condition)
        under = under[~np.isnan(truth(under["success_answer"]))]
        columns = under[["success_margin", "success_top1", "success_answer"]].astype(float).sum(axis=1)
        here = [one for one in found if one["condition"] == condition]
        assert sum(one["count"] for one in here) == columns.isin([1, 2]).sum()
        assert all(one["n"] == len(under) for one in here)
    assert found


def frame(rows: list[dict], drawn: list[dict] | None = None) -> RunFrame:
    """Readings of conflicts from what a test cares about."""
    numbers = dict.fromkeys(["prior_logprob", "prior_margin", "push", "pull", "adapter_margin", "net_margin"], 0.0)
    filled = [
        {"split": "conflict", "known": True, "status": "ok", "error": None, "success_margin": one["success_top1"]}
        | numbers
        | one
        for one in rows
    ]
    return RunFrame({}, pd.DataFrame(filled), drawn=pd.DataFrame(drawn or []))


def test_wordings_and_their_consistency_by_hand() -> None:
    won = {"p0": (1, 1), "p1": (0, 0), "p2": (1, 0), "p3": (1, 1)}
    run = frame(
        [
            {"item": f"{p}-{n}", "point": p, "condition": "slb", "wording": str(n), "success_top1": bool(pair[n])}
            for p, pair in won.items()
            for n in (0, 1)
        ]
    )
    shares = {one["wording"]: one["value"] for one in wordings(run) if one["measure"] == "top1"}
    assert shares == {"0": 0.75, "1": 0.5}
    [found] = [one for one in consistency(run) if one["measure"] == "top1"]
    assert (found["points"], found["all"], found["none"], found["mixed"]) == (4, 2, 1, 1)
    assert found["expected_mixed"] == pytest.approx(4 * 2 * 0.625 * 0.375)


def test_two_facts_of_a_point_in_one_wording_are_no_two_wordings() -> None:
    wordings_of = {"p0": ("0", "0"), "p1": ("0", "1")}
    run = frame(
        [
            {"item": f"{p}-{n}", "point": p, "condition": "slb", "wording": wording, "success_top1": True}
            for p, pair in wordings_of.items()
            for n, wording in enumerate(pair)
        ]
    )
    [found] = [one for one in consistency(run) if one["measure"] == "top1"]
    assert found["points"] == 1


def test_a_published_share_of_a_variant_stands_beside_the_measured_one() -> None:
    one = {"split": "conflict", "condition": "joined-3", "measure": "top1", "value": 0.5, "source": "a paper"}
    rows = [
        {"item": f"i{n}", "point": f"p{n}", "condition": condition, "success_top1": n < 4}
        for condition in ("as-delivered", "joined-3")
        for n in range(10)
    ]
    run = replace(frame(rows), manifest={"plan": {"references": [one]}})
    [found] = references(run)
    assert (found["measured"]["value"], found["within"]) == (0.4, True)
    with pytest.raises(ValueError, match="unknown key 'layer'"):
        references(replace(run, manifest={"plan": {"references": [{**one, "layer": 3}]}}))


def test_variants_stay_out_of_the_policies_and_are_compared_with_the_plain_document() -> None:
    rows = [
        {"item": f"i{n}", "point": f"p{n}", "condition": condition, "success_top1": wins(n)}
        for condition, wins in {
            "base": lambda n: False,
            "as-delivered": lambda n: n < 8,
            "joined-4": lambda n: n < 5,
            "in-context": lambda n: True,
            "in-context-joined-4": lambda n: n < 9,
            "hedged": lambda n: n < 2,
        }.items()
        for n in range(10)
    ]
    run = frame(rows)
    assert run.conditions == ["base", "as-delivered", "in-context"]
    found = {one["condition"]: one for one in variants(run) if one["measure"] == "top1"}
    assert {name: one["value"] for name, one in found.items()} == {
        "joined-4": 0.5,
        "in-context-joined-4": 0.9,
        "hedged": 0.2,
    }
    assert found["joined-4"]["difference"]["value"] == pytest.approx(-0.3)
    assert found["in-context-joined-4"]["reference"] == "in-context"
    assert found["in-context-joined-4"]["difference"]["value"] == pytest.approx(-0.1)
    assert found["joined-4"]["documents"] == 4
    assert robustness(frame([one for one in rows if one["condition"] == "base"])) is None


def test_what_holds_is_counted_among_what_was_won() -> None:
    rows = [
        {"item": f"i{n}", "point": f"p{n}", "condition": condition, "success_top1": wins(n)}
        for condition, wins in {
            "as-delivered": lambda n: n < 8,
            "contested": lambda n: n >= 6,  # 6 and 7 of the eight won hold; 8 and 9 were never won
            "contested-base": lambda n: n in (0, 1, 2, 9),
        }.items()
        for n in range(10)
    ]
    [found] = [one for one in held(frame(rows)) if one["measure"] == "top1"]
    assert (found["value"], found["n"]) == (0.25, 8)
    assert (found["control"]["value"], found["control"]["n"]) == (0.375, 8)
    assert held(frame(rows[:10])) == []


def test_drawn_answers_are_averaged_within_items() -> None:
    rows = [
        {"item": f"i{n}", "point": f"p{n}", "condition": "as-delivered", "success_top1": True, "success_answer": n == 0}
        for n in range(4)
    ]
    successes = {"i0": (1, 1), "i1": (1, 0), "i2": (0, 0)}
    drawn = [
        {
            "item": i,
            "point": f"p{i[1]}",
            "split": "conflict",
            "condition": "as-delivered",
            "temperature": 0.7,
            "draw": n,
        }
        | {"success_answer": bool(won)}
        for i, pair in successes.items()
        for n, won in enumerate(pair)
    ]
    [found] = sampled(frame(rows, drawn))
    assert found["value"] == pytest.approx(0.5)
    assert (found["n"], found["draws"]) == (3, 2)
    assert found["greedy"]["value"] == pytest.approx(1 / 3), "only items that were drawn"
    assert found["unanimous"] == pytest.approx(2 / 3)
    assert len(sampled(frame(rows))) == 0


@pytest.mark.parametrize("rate", [0.0, 0.9, 1.0])
def test_intervals_of_drawn_answers_stay_shares_and_never_vanish(rate: float) -> None:
    rows = [
        {
            "item": f"i{n}",
            "point": f"p{n}",
            "condition": "as-delivered",
            "success_top1": True,
            "success_answer": rate > 0,
        }
        for n in range(5)
    ]
    drawn = [
        {"item": f"i{n}", "point": f"p{n}", "split": "conflict", "condition": "as-delivered", "temperature": 1.0}
        | {"draw": draw, "success_answer": draw + 10 * n < 50 * rate}
        for n in range(5)
        for draw in range(10)
    ]
    [found] = sampled(frame(rows, drawn))
    assert found["value"] == pytest.approx(rate)
    for own in (found, found["greedy"]):
        assert 0 <= own["low"] < own["high"] <= 1
