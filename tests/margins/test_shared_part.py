"""Adapters delivered whole, split into what is common and what is the document's, against the matrices themselves."""

from __future__ import annotations

import pytest
import torch

from override_gap.margins.adapter import Adapter, join
from override_gap.margins.shared_part import without_shared
from override_gap.margins.updates import Dense, LowRank, Rescaled, Vector


def low(rng: torch.Generator, rank: int = 2, scale: float = 16.0) -> LowRank:
    return LowRank(torch.randn(rank, 5, generator=rng), torch.randn(4, rank, generator=rng), scale)


def test_both_parts_add_up_to_what_was_delivered(rng: torch.Generator) -> None:
    matrix = torch.randn(4, 5, generator=rng)
    full = {"f": low(rng), "m": Dense(matrix), "v": Vector(torch.arange(4.0)), "own": low(rng), "mixed": Dense(matrix)}
    shared = {
        "f": low(rng, 3, 2.0),
        "m": Dense(2 * matrix),
        "v": Vector(torch.ones(4)),
        "mixed": low(rng),
        "only": low(rng),
    }
    split = without_shared(Adapter("full", full), Adapter("warm", shared))
    for path in full.keys() | shared.keys():
        parts = [part[path].dense() for part in (split.updates, split.shared) if path in part]
        wanted = full[path].dense() if path in full else torch.zeros(4, 5)
        torch.testing.assert_close(sum(parts), wanted, atol=1e-4, rtol=1e-5)
    assert split.updates["f"].rank == 5
    assert split.shared.keys() == shared.keys()


def test_a_zero_is_no_part_and_what_both_say_alike_leaves_nothing(rng: torch.Generator) -> None:
    """Every document keeps factors of one rank at every weight, so that factors can be averaged over documents."""
    same = low(rng)
    copy = LowRank(same.A.clone(), same.B.clone(), same.scale)
    zero = LowRank(same.A, torch.zeros(4, 2), 16.0)
    split = without_shared(Adapter("full", {"x": same, "y": same}), Adapter("warm", {"x": copy, "y": zero}))
    assert split.updates["y"] is same
    assert split.shared == {"x": copy}
    assert split.updates["x"].rank == 4
    assert split.updates["x"].dense().abs().max() < 1e-4


def test_joined_the_shared_part_acts_once(rng: torch.Generator) -> None:
    warm = Adapter("warm", {"x": low(rng)})
    full = [Adapter(str(n), {"x": low(rng)}) for n in range(2)]
    joined = join([without_shared(adapter, warm) for adapter in full])
    wanted = full[0].updates["x"].dense() + full[1].updates["x"].dense() - warm.updates["x"].dense()
    torch.testing.assert_close(joined.updates["x"].dense() + joined.shared["x"].dense(), wanted, atol=1e-4, rtol=1e-5)


def test_what_has_no_difference_is_refused(rng: torch.Generator) -> None:
    dora = Rescaled(torch.ones(4, 5), torch.ones(4), low(rng))
    with pytest.raises(ValueError, match="DoRA"):
        without_shared(Adapter("full", {"x": dora}), Adapter("warm", {"x": low(rng)}))
    with pytest.raises(ValueError, match=r"has shape \[4, 5\], the shared one \[3, 5\]"):
        without_shared(Adapter("f", {"x": low(rng)}), Adapter("w", {"x": Dense(torch.ones(3, 5))}))
    with pytest.raises(ValueError, match="has a shared part already"):
        without_shared(Adapter("f", {"x": low(rng)}, {"x": low(rng)}), Adapter("w", {"x": low(rng)}))
