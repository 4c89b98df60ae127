"""Each cause on a row of gains whose cause is plain by construction."""

import numpy as np
import pytest

from override_gap.analyses.causes import MEANING, causes
from tests.analyses.searched import gain_rows, searched_run

GAINS = (1, 1.5, 2, 3, 4)

CASES = {
    "too weak": lambda i: gain_rows(i, GAINS[:3], (-2, -1, 0.5), kl=0.1),
    "at a price": lambda i: gain_rows(i, GAINS, (-4, -3, -2, -1, 0.5), kl=[0.1, 0.2, 0.3, 0.5, 0.8]),
    "too strong": lambda i: gain_rows(i, (0.5, 0.75, 1), (1, -0.5, -2), broken_at=1.5),
    "third token": lambda i: gain_rows(i, GAINS, (-2, -1, 0.5, 1, 2), first=[False] * 5, broken_at=6),
    # 0.6 nats an octave less each time, a limit of about -1.6
    "saturates": lambda i: gain_rows(i, (1, 2, 4, 8), (-4.0, -2.8, -2.2, -1.9), broken_at=12),
    "broken first": lambda i: gain_rows(i, (1, 2, 4), (-9, -8, -6), broken_at=6),
    "no content": lambda i: gain_rows(i, GAINS, (-2, -1.8, -1.5, -1, 0.5), rank=0.6, broken_at=6),
    "undecided": lambda i: gain_rows(i, GAINS, (-9, -8, -7, -5, -3)),
}


@pytest.mark.parametrize("cause", CASES)
def test_each_cause_is_named(cause):
    assert set(CASES) == set(MEANING)
    found = causes(searched_run(dict.fromkeys(range(12), CASES[cause])))
    assert found is not None
    assert set(found.items["cause"]) == {cause}
    assert found.share(cause).value == 1.0


def test_a_margin_that_peaks_inside_the_range_saturates():
    found = causes(searched_run({0: lambda i: gain_rows(i, GAINS, (-6, -3, -2, -2.5, -4), broken_at=6)}))
    assert found is not None
    assert list(found.items["cause"]) == ["saturates"]


def test_a_flip_without_content_is_no_rescue():
    """The answer comes first at gain 2, but rose less than others there: an edit that lowers the old answer does this."""
    rows = lambda i: gain_rows(i, GAINS, (-2, -1, 0.5, 1, 2), rank=0.8, broken_at=6)  # noqa: E731
    found = causes(searched_run({0: rows}))
    assert found is not None
    assert list(found.items["cause"]) == ["no content"]


FADING = [1.0, 0.5, 0.5, 0.5, 0.5]


def only_lowered(item):
    """Where no answer moves but y_pre falls by 2 nats and the alternatives by 0.1: an excess of 0 - 2 + 0.2."""
    rows = gain_rows(item, GAINS, (-2, -1, 0.5, 1, 2), rank=FADING, first=[False] * 5, broken_at=6)
    return [{**row, "push": 0.0, "pull": -2.0, "push_excess": -1.8} for row in rows]


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        (
            lambda i: gain_rows(i, GAINS, (-2, -1, 0.5, 1, 2), rank=FADING, first=[False] * 5, broken_at=6),
            "third token",
        ),
        (lambda i: gain_rows(i, GAINS, (-4.0, -2.8, -2.2, -1.9, -1.8), rank=FADING, broken_at=6), "saturates"),
        (lambda i: gain_rows(i, GAINS, (-4, -2, -1, 0.5, 1), rank=[0.5, 0.5, 1, 0.5, 0.5], broken_at=6), "no content"),
        (only_lowered, "no content"),
    ],
)
def test_an_item_that_is_never_held_is_judged_where_it_is_turned_up_least_and_where_it_wins(rows, cause):
    """The rank at other gains is left out of it; what is not raised itself has no content, whatever its rank."""
    found = causes(searched_run({0: rows}))
    assert found is not None
    assert list(found.items["cause"]) == [cause]


def test_the_cheapest_repairs_are_affordable_until_together_they_lose_too_much():
    """Ten repairs that lose nothing and ten that lose a fifth: 0.2 k / (10 + k) stays within 5% up to k = 3."""
    cheap = lambda i: gain_rows(i, (1, 1.5), (-1, 1), kl=0.05)  # noqa: E731
    dear = lambda i: gain_rows(i, (1, 1.5), (-1, 1), kl=0.2, kept=0.8)  # noqa: E731
    found = causes(searched_run({n: cheap if n < 10 else dear for n in range(20)}))
    assert found is not None
    assert (found.items["cause"] == "too weak").sum() == 13
    assert (found.items["cause"] == "at a price").sum() == 7


def test_of_the_smaller_gains_that_repair_the_cheapest_counts():
    """Held at 0.5 for 0.6 nats and at 0.25 for 0.1: the second is affordable. Where 0.25 was not held, it is not."""
    both = lambda i: gain_rows(i, (0.25, 0.5, 1), (1, 1, -2), kl=[0.1, 0.6, 0.9], broken_at=1.5)  # noqa: E731
    upper = lambda i: gain_rows(i, (0.25, 0.5, 1), (-1, 1, -2), kl=[0.1, 0.6, 0.9], broken_at=1.5)  # noqa: E731
    found = causes(searched_run({0: both, 1: upper}))
    assert found is not None
    assert list(found.items["cause"]) == ["too strong", "too strong"]
    assert list(found.items["gain"]) == [0.25, 0.5]
    assert list(found.items["affordable"]) == [True, False]


def test_words_count_once_at_any_gain():
    said = lambda i: gain_rows(i, (1, 1.5, 2), (-1, 1, 2), words=[None, False, True])  # noqa: E731
    silent = lambda i: gain_rows(i, (1, 1.5, 2), (-1, 1, 2))  # noqa: E731
    found = causes(searched_run({0: said, 1: silent}))
    assert found is not None
    assert found.items["words"].iloc[0] == 1
    assert np.isnan(found.items["words"].iloc[1])


def test_a_run_without_search_has_no_causes():
    assert causes(searched_run({0: lambda i: []})) is None


def test_what_it_costs_is_not_known_so_nothing_is_said_to_break():
    """Memory ran out for the cost: no gain is known to break the model, and the item is undecided, not broken first."""
    rows = lambda i: [{**gain_rows(i, (1,), (-2,))[0], "kl": None, "kept": None, "net_margin": None, "push": None}]  # noqa: E731
    found = causes(searched_run({0: rows}))
    assert found is not None
    assert list(found.items["cause"]) == ["undecided"]
