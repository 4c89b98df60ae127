"""Batches of rows of similar length: every row once, the least cost, little padding."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from override_gap.probes.readings.batching import PASS_COST, batches, padding_waste


def cost(lengths: list[int], parts: list[range]) -> int:
    return sum(len(part) * max(lengths[n] for n in part) + PASS_COST for part in parts)


def every_cut(count: int, most: int) -> list[list[range]]:
    """All ways to cut `count` rows into neighbouring runs of at most `most`."""
    cuts = []
    for k in range(count):
        for inner in combinations(range(1, count), k):
            edges = [0, *inner, count]
            parts = [range(a, b) for a, b in pairwise(edges)]
            if max(map(len, parts)) <= most:
                cuts.append(parts)
    return cuts


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8).map(sorted), st.integers(1, 8))
def test_no_other_cut_costs_less(lengths: list[int], most: int) -> None:
    parts = batches(lengths, most)
    assert [n for part in parts for n in part] == list(range(len(lengths)))
    assert max(map(len, parts)) <= most
    assert cost(lengths, parts) == min(cost(lengths, other) for other in every_cut(len(lengths), most))


def test_padding_of_questions_of_mixed_length_stays_below_a_tenth() -> None:
    lengths = sorted([8, 9, 9, 10, 11, 12, 14, 16] * 24)
    assert padding_waste(lengths, batches(lengths, 32)) < 0.10
    assert padding_waste([4, 8], [range(2)]) == pytest.approx(0.25)
    assert batches([], 4) == []
