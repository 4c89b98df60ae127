"""Batching: which rows of a sorted list run together, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence

#: What one more forward pass costs beside its tokens, in tokens: a pass starts some thirty operations a layer and reads every
#: weight. `python -m benchmarks.pass_start`, on one CPU thread, finds some 25 for SmolLM2 on one machine and 53 on another, and
#: 100 and more for the organism. A larger number buys fewer passes with more padding.
START = 36


def batches(lengths: Sequence[int], most: int) -> list[range]:
    """Runs of neighbouring rows, at most `most` each, that cost the least: rows x longest row + START, summed.

    Lengths are in tokens and ascend. The least is found exactly, by dynamic programming over where the last batch starts.
    """
    assert list(lengths) == sorted(lengths), "rows are sorted by length first"
    best, start = [0], [0]
    for end in range(1, len(lengths) + 1):
        options = [
            (best[first] + (end - first) * lengths[end - 1] + START, first) for first in range(max(0, end - most), end)
        ]
        cost, first = min(options)
        best.append(cost)
        start.append(first)
    cuts, end = [], len(lengths)
    while end:
        cuts.append(range(start[end], end))
        end = start[end]
    return cuts[::-1]


def padding_waste(lengths: Sequence[int], parts: Sequence[range]) -> float:
    """The share of the fed positions that is padding."""
    fed = sum(len(part) * max(lengths[n] for n in part) for part in parts)
    return 1 - sum(lengths) / fed if fed else 0.0
