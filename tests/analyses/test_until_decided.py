"""What is decided, the level of an early run's verdict, and what is said of it."""

import pytest

from override_gap.analyses.looks import level_of, looks_of, shown
from override_gap.analyses.readings import RunFrame
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.summary import summarise
from override_gap.analyses.until_decided import UntilDecided, is_decided, of_items
from override_gap.analyses.verdict import Verdict, verdict
from tests.analyses.searched import searched_run
from tests.analyses.test_causes import CASES


def share(low: float, high: float) -> Estimate:
    return Estimate("", (low + high) / 2, low, high, 40, 20)


@pytest.mark.parametrize(
    ("label", "failing", "held", "decided"),
    [
        ("no-failure", (0.0, 0.19), None, True),
        ("magnitude", (0.3, 0.8), (0.7, 1.0), True),
        ("magnitude", (0.15, 0.8), (0.7, 1.0), False),  # fewer than 20% may fail
        ("representational", (0.3, 0.8), (0.0, 0.3), True),
        ("mixed", (0.3, 0.8), (0.4, 0.6), True),
        ("mixed", (0.3, 0.8), (0.4, 0.7), False),  # may be magnitude
        ("mixed", (0.3, 0.8), (0.3, 0.6), False),  # may be representational
        ("inconclusive", (0.3, 0.8), (0.7, 1.0), False),  # the search ended before, or answers are second choices
    ],
)
def test_a_label_is_decided_where_no_other_is_possible(label, failing, held, decided):
    assert is_decided(Verdict(label, (), share(*failing), held=held and share(*held))) is decided


def run_with(looks, stopped=None, planned=(2, 4, 6, 8, 10)) -> RunFrame:
    run = searched_run(dict.fromkeys(range(50), CASES["too weak"]))
    until = {
        "rule": "decided",
        "units_at_looks": list(planned),
        "looks": [{"units": n, "share": at} for n, at in enumerate(looks, 1)],
        "stopped": stopped,
    }
    return RunFrame({**run.manifest, "until": until}, run.readings, run.layers, search=run.search)


def test_an_early_run_reads_its_verdict_at_the_level_of_its_look():
    plain = searched_run(dict.fromkeys(range(50), CASES["too weak"]))
    early = run_with([0.2, 0.4], {"units": 2, "items": 60, "unmeasured": 90})
    # the second of five equal looks: 3.3569 (Reboussin et al. 2000), 2 Phi - 1 = 99.92%
    assert level_of(early.manifest) == pytest.approx(0.999212, abs=1e-5)
    found = verdict(early)
    assert found.held.low == pytest.approx(verdict(plain, level_of(early.manifest)).held.low)
    assert found.held.low < verdict(plain).held.low
    assert found.failing.level == found.held.level == pytest.approx(level_of(early.manifest))
    assert "at look 2 of at most 5, after 60 of 150 items" in found.sentence
    assert "99.921% instead of 95%" in found.sentence
    assert summarise(early)["until"]["stopped"] == {"units": 2, "items": 60, "unmeasured": 90}
    assert "estimates lie" in summarise(early)["until"]["says"]


def test_a_run_that_went_on_reads_it_as_a_last_look():
    # five equal looks: the last bound is 2.0310, 95.77%
    assert level_of(run_with([0.2, 0.4, 0.6, 0.8, 1.0]).manifest) == pytest.approx(0.957747, abs=2e-5)
    went_on = run_with([0.2, 0.4, 0.6, 0.8])
    assert level_of(went_on.manifest) == pytest.approx(0.957747, abs=2e-5)
    assert "looked at 4 times before its end" in verdict(went_on).sentence


def test_a_run_that_nobody_looked_at_is_as_ever():
    plain = searched_run(dict.fromkeys(range(50), CASES["too weak"]))
    for run in (plain, run_with([]), run_with([1.0])):
        assert looks_of(run.manifest) is None
        assert level_of(run.manifest) == 0.95
        assert verdict(run).sentences == verdict(plain).sentences
    assert summarise(plain)["until"] is None


def test_levels_are_shown_with_the_digits_that_matter():
    assert [shown(level) for level in (0.95, 0.9577, 0.9978, 0.999212, 0.999999)] == [
        "95.0%", "95.8%", "99.78%", "99.921%", "99.99990%",
    ]  # fmt: skip


def test_a_part_of_a_run_is_read_alone():
    run = searched_run(dict.fromkeys(range(50), CASES["too weak"]))
    items = frozenset(sorted(run.readings["item"].unique())[:70])
    part = of_items(run, items)
    assert set(part.readings["item"]) == items
    assert set(part.search["item"]) <= items
    assert verdict(part).failing.n == 70


def test_looks_need_a_sensible_number():
    assert UntilDecided().looks == 5
    with pytest.raises(ValueError, match="1 to 20 looks, got 0"):
        UntilDecided(0)
