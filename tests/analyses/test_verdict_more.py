"""How many more conflicts would decide, against audits of that size drawn from the same shares."""

from __future__ import annotations

import numpy as np
import pytest

from override_gap.analyses.stats.intervals import proportion
from override_gap.analyses.verdict import NO_FAILURE, Verdict, judge
from override_gap.analyses.verdict_more import MoreKnown, more_known


def shares_of(failing: float, held: float, n: int) -> Verdict:
    """An inconclusive verdict on n known conflicts, one per fact, whose shares are as near to these as counts allow."""
    failures = round(failing * n)
    fails = np.arange(n) < failures
    repaired = np.arange(failures) < round(held * failures)
    return Verdict(
        "inconclusive",
        ("",),
        proportion("failing", fails, np.arange(n).astype(str)),
        held=proportion("held", repaired, np.arange(failures).astype(str)),
    )


def decided(failing: float, held: float, n: int, draws: int = 200) -> float:
    """Share of drawn audits of n known conflicts that the rule decides: none fail to speak of, or the share held tells."""
    rng = np.random.default_rng(0)
    count = 0
    for _ in range(draws):
        fails = rng.random(n) < failing
        facts = np.arange(n).astype(str)
        if proportion("", fails, facts).high < NO_FAILURE:
            count += 1
            continue
        repaired = rng.random(int(fails.sum())) < held
        count += len(repaired) >= 10 and judge(proportion("", repaired, facts[: len(repaired)])) != "inconclusive"
    return count / draws


@pytest.mark.parametrize(
    ("failing", "held", "n"), [(0.5, 0.83, 24), (0.5, 0.17, 24), (0.4, 1.0, 20), (0.35, 0.9, 40), (0.9, 0.5, 10)]
)
def test_audits_of_the_suggested_size_are_decided_four_times_in_five(failing, held, n):
    reached = shares_of(failing, held, n)
    more = more_known(reached)
    assert more is not None
    assert more.n is not None
    failing, held = reached.failing.value, reached.held.value
    assert decided(failing, held, n + more.n) >= 0.65
    # the number is not idle: without most of it audits are decided less often
    assert decided(failing, held, n + more.n // 5) < decided(failing, held, n + more.n) - 0.05


def test_before_any_share_is_read_the_number_is_what_the_rule_asks_for():
    few = Verdict("inconclusive", ("",), proportion("failing", [1, 0, 1, 0], list("abcd")))
    assert more_known(few) == MoreKnown(16, at_least=True)  # 10 failures at one in two are 20 known conflicts


def test_no_known_conflict_has_no_number_and_a_decided_verdict_asks_for_none():
    assert more_known(Verdict("inconclusive", ("",))) == MoreKnown(None)
    assert more_known(Verdict("magnitude", ("",), proportion("failing", [1, 0] * 20, list(range(40))))) is None
