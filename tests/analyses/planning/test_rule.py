"""The rule for many audits gives the labels of the verdict, audit by audit; simulated audits have the stated truth."""

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.planning.rule import LABELS, Tallies, claims, labels, true_label
from override_gap.analyses.planning.simulated import Truth, audits, draw, sizes
from override_gap.analyses.stats.clusters import labelled
from override_gap.analyses.stats.intervals import proportion
from override_gap.analyses.until_decided import is_decided
from override_gap.analyses.verdict import Verdict, judge, read_by_rule, verdict
from tests.analyses.searched import searched_run
from tests.analyses.test_causes import CASES


def one_by_one(audits: Tallies, number: int, level: float) -> tuple[str, bool]:
    """Label and decision of one audit through the verdict's own functions."""

    def questions(x, m):
        return np.concatenate([[1.0] * int(a) + [0.0] * int(b - a) for a, b in zip(x, m, strict=True)])

    def points(m):
        at = np.repeat(np.arange(len(m)), m.astype(int))
        names = np.array([f"p{n}" for n in at], dtype=object)
        if audits.relation is None:
            return names
        return labelled(names, np.array([f"r{audits.relation[n]}" for n in at], dtype=object))

    known, failing, held = audits.known[number], audits.failing[number], audits.held[number]
    if known.sum() < 10 or (known > 0).sum() < 5:
        return "inconclusive", False
    rate = read_by_rule(proportion("", questions(failing, known), points(known), level), points(known))
    if rate.high < 0.2:
        return "no-failure", True
    if failing.sum() < 10 or (failing > 0).sum() < 5:
        return "inconclusive", False
    share = read_by_rule(proportion("", questions(held, failing), points(failing), level), points(known))
    return judge(share), is_decided(Verdict(judge(share), (), rate, held=share))


@pytest.mark.parametrize(
    ("truth", "points"),
    [
        (Truth(0.65, 0.6, 0.72, 2.7), 40),
        (Truth(0.65, 0.6, 0.8, 2.7, 15, 0.3, 0.1), 72),
        (Truth(1.0, 0.15, 0.3, 1.0, 20, 0.3, 0.1), 200),
        (Truth(0.5, 0.3, 0.3, 2.0, 8, 0.3, 0.1), 60),
        (Truth(1.0, 0.6, 0.97, 1.0, 12, 0.2, 0.2), 30),
    ],
    ids=["points", "relations", "few failures", "few relations", "nearly all held"],
)
def test_labels_are_those_of_the_verdict(truth, points):
    drawn = audits(np.random.default_rng(3), truth, points, 16)
    for level in (0.95, 0.993):
        found, decided = labels(drawn, level)
        assert [(LABELS[label], bool(at)) for label, at in zip(found, decided, strict=True)] == [
            one_by_one(drawn, n, level) for n in range(16)
        ]


@pytest.mark.parametrize(("failing", "held"), [(60, 60), (60, 44), (60, 30), (60, 12), (9, 9), (14, 14)])
def test_labels_are_those_of_the_verdict_on_a_whole_run(failing, held):
    run = searched_run({n: CASES["too weak" if n < held else "no content"] for n in range(failing)})
    rows = run.select("conflict", "as-delivered", "known")
    fails = rows["success_top1"].to_numpy() == 0
    order = np.sort(rows.loc[fails, "item"].to_numpy())[:held]
    columns = (np.ones(len(rows)), fails, rows["item"].isin(order))
    counts = [
        pd.Series(np.asarray(x, dtype=float)).groupby(rows["point"].to_numpy()).sum().to_numpy()[None] for x in columns
    ]
    for level in (0.95, 0.98):
        found, _ = labels(Tallies(*counts), level)
        assert LABELS[found[0]] == verdict(run, level).label


def test_draws_have_the_stated_share_and_correlations():
    of_point, relation = np.repeat(np.arange(60), 4), np.arange(60) % 6
    for share in (0.2, 0.9):
        y = draw(np.random.default_rng(1), 4000, of_point, relation, share, 0.3, 0.1)
        assert y.mean() == pytest.approx(share, abs=0.005)
        within = np.corrcoef(y[:, 0], y[:, 1])[0, 1], np.corrcoef(y[:, 8], y[:, 11])[0, 1]
        assert np.mean(within) == pytest.approx(0.3, abs=0.04)
        pairs = [(4 * p, 4 * q) for p in range(6) for q in range(p + 6, 60, 6)]
        across = np.mean([np.corrcoef(y[:, a], y[:, b])[0, 1] for a, b in pairs])
        assert across == pytest.approx(0.1, abs=0.02)
        assert np.corrcoef(y[:, 0], y[:, 4])[0, 1] == pytest.approx(0.0, abs=0.05), "another relation"


def test_sizes_are_as_equal_as_whole_numbers_allow():
    assert sizes(72, 194 / 72).sum() == 194
    assert set(sizes(72, 194 / 72)) == {2, 3}
    assert sizes(5, 0.2).tolist() == [1, 1, 1, 1, 1]


def test_the_true_label_and_what_claims_otherwise():
    assert [true_label(*truth) for truth in ((0.1, 0.9), (0.5, 0.9), (0.5, 0.2), (0.5, 0.5), (0.5, 2 / 3), (0.2, 1))] == [
        "no-failure", "magnitude", "representational", "mixed", None, None,
    ]  # fmt: skip
    every = np.arange(5, dtype=np.int8)
    assert claims(every, 0.2, 2 / 3).tolist() == [1, 1, 1, 0, 0], "at its bound a claim is not so"
    assert claims(every, 0.1, 0.95).tolist() == [0, 0, 1, 1, 0]
