"""Adapters joined into one: its effective weights are the sum of theirs."""

from __future__ import annotations

import pytest
import torch

from override_gap.margins.adapter import Adapter, join
from override_gap.margins.condition_names import robustness_family
from override_gap.margins.condition_parser import parse_conditions
from override_gap.margins.conditions import reword
from override_gap.margins.updates import Dense, LowRank, Vector


def low(rng: torch.Generator, rank: int, scale: float) -> LowRank:
    return LowRank(torch.randn(rank, 5, generator=rng), torch.randn(4, rank, generator=rng), scale)


def test_joined_updates_are_the_sum(rng: torch.Generator) -> None:
    adapters = [
        Adapter("a", {"l.0.up": low(rng, 2, 1.7), "l.0.down": low(rng, 1, 2.0), "l.0.n": Vector(torch.ones(4))}),
        Adapter("b", {"l.0.up": low(rng, 3, -0.5), "l.0.n": Vector(torch.arange(4.0))}),
        Adapter("c", {"l.0.up": low(rng, 1, 0.1), "l.0.down": Dense(torch.randn(4, 5, generator=rng))}),
    ]
    joined = join(adapters)
    assert joined.updates["l.0.up"].rank == 6
    for path in ("l.0.up", "l.0.down", "l.0.n"):
        wanted = torch.stack([a.updates[path].dense() for a in adapters if path in a.updates]).sum(0)
        assert torch.allclose(joined.updates[path].dense(), wanted, atol=1e-6)


def test_the_shared_part_acts_once_and_must_be_the_same(rng: torch.Generator) -> None:
    bias = low(rng, 2, 3.0)
    copy = LowRank(bias.A.clone(), bias.B.clone(), 3.0)
    joined = join(
        [Adapter("a", {"x": low(rng, 1, 1.0)}, {"x": bias}), Adapter("b", {"x": low(rng, 1, 1.0)}, {"x": copy})]
    )
    assert torch.equal(joined.shared["x"].dense(), bias.dense())
    with pytest.raises(ValueError, match="differ in the part that every document shares"):
        join([Adapter("a", {"x": bias}, {"x": bias}), Adapter("b", {"x": bias}, {"x": low(rng, 2, 3.0)})])


def test_variants_by_name() -> None:
    names = [c.name for c in parse_conditions("joined,hedged,stated-4,in-context-joined-3")]
    assert names == [
        "base",
        "as-delivered",
        "joined-2",
        "joined-4",
        "joined-8",
        "hedged",
        "stated-4",
        "in-context-joined-3",
    ]
    assert robustness_family("uniform-2") is None
    assert robustness_family("stated-3") == ("stated", 3)
    assert reword(parse_conditions("stated-3")[2].wording, "a {document}") == "a {document} a {document} a {document}"
    with pytest.raises(ValueError, match="documents is 2 to 32"):
        parse_conditions("joined-1")
