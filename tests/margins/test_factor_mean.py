"""The mean of factors, as DyPRAG joins documents, against its definition written out and against the mean of the updates."""

from __future__ import annotations

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.factor_mean import mean_of_factors
from override_gap.margins.updates import Dense, LowRank, Vector


def low(rng: torch.Generator, rank: int = 2, scale: float = 1.7) -> LowRank:
    return LowRank(torch.randn(rank, 5, generator=rng), torch.randn(4, rank, generator=rng), scale)


def test_factors_are_averaged_before_they_are_multiplied(rng: torch.Generator) -> None:
    pair = [low(rng), low(rng)]
    mean = mean_of_factors([Adapter(str(n), {"x": update}) for n, update in enumerate(pair)]).updates["x"]
    (A0, B0), (A1, B1) = ((update.A, update.B) for update in pair)
    written_out = 1.7 / 4 * (B0 @ A0 + B0 @ A1 + B1 @ A0 + B1 @ A1)  # each B meets both documents' A
    torch.testing.assert_close(mean.dense(), written_out)
    of_updates = (pair[0].dense() + pair[1].dense()) / 2
    assert (mean.dense() - of_updates).norm() > 0.3 * of_updates.norm(), "not the mean of the updates"


def test_it_depends_on_how_an_update_is_written_as_factors(rng: torch.Generator) -> None:
    one, other = low(rng), low(rng)
    turned = LowRank(-other.A, -other.B, other.scale)
    assert torch.equal(turned.dense(), other.dense())
    means = [mean_of_factors([Adapter("a", {"x": one}), Adapter("b", {"x": u})]).updates["x"] for u in (other, turned)]
    assert not torch.allclose(means[0].dense(), means[1].dense(), atol=0.1)


def test_what_has_no_factors_is_averaged_whole_and_the_shared_part_acts_once(rng: torch.Generator) -> None:
    shared, matrix = {"y": low(rng, 3)}, torch.randn(4, 5, generator=rng)
    parts = [{"x": Dense(matrix), "n": Vector(torch.ones(4))}, {"x": Dense(3 * matrix), "n": Vector(torch.zeros(4))}]
    mean = mean_of_factors([Adapter("a", parts[0], shared), Adapter("b", parts[1], shared)])
    torch.testing.assert_close(mean.updates["x"].dense(), 2 * matrix)
    assert torch.equal(mean.updates["n"].dense(), torch.full((4,), 0.5))
    assert torch.equal(mean.shared["y"].dense(), shared["y"].dense())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"x": (3, 1.7)}, "rank 2 and scale 1.7, rank 3 and scale 1.7"),
        ({"x": (2, 0.5)}, "factors are averaged where ranks and scales are equal"),
        ({"x": (2, 1.7), "y": (2, 1.7)}, "adapters a and b: only one changes y"),
    ],
)
def test_factors_that_have_no_mean_are_refused(other: dict, message: str, rng: torch.Generator) -> None:
    updates = {path: low(rng, *form) for path, form in other.items()}
    with pytest.raises(ValueError, match=message):
        mean_of_factors([Adapter("a", {"x": low(rng)}), Adapter("b", updates)])


def test_different_shared_parts_have_no_mean(rng: torch.Generator) -> None:
    with pytest.raises(ValueError, match="differ in the part that every document shares"):
        mean_of_factors([Adapter("a", {"x": low(rng)}, {"x": low(rng)}), Adapter("b", {"x": low(rng)})])
