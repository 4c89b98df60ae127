"""Null adapters against dense matrices and singular values."""

from __future__ import annotations

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.null_adapters import AdapterMean, random_like, rank_of
from override_gap.margins.shared_part import without_shared
from override_gap.margins.updates import Dense, LowRank, Update, Vector

PATHS = ("model.layers.0.mlp.down_proj", "model.layers.1.mlp.up_proj")


def low(rng: torch.Generator, rank: int = 2, shape: tuple[int, int] = (12, 20), scale: float = 0.7) -> LowRank:
    return LowRank(torch.randn(rank, shape[1], generator=rng), torch.randn(shape[0], rank, generator=rng), scale)


def matrix(update: Update) -> torch.Tensor:
    """An update written out by its definition."""
    return update.scale * update.B @ update.A if isinstance(update, LowRank) else update.delta


def test_a_random_adapter_has_the_norm_and_rank_of_what_acts_at_every_weight(rng: torch.Generator) -> None:
    bias = PATHS[0] + ".bias"
    own = Adapter(
        "own",
        {PATHS[0]: low(rng), PATHS[1]: Dense(matrix(low(rng, rank=1, scale=3.0))), bias: Vector(torch.ones(12))},
        {PATHS[0]: low(rng, rank=1, scale=2.0)},
    )
    drawn = random_like(own, "a document", seed=0)
    assert set(drawn.paths) == set(own.paths)
    assert not drawn.shared
    wanted = {
        PATHS[0]: matrix(own.updates[PATHS[0]]) + matrix(own.shared[PATHS[0]]),
        PATHS[1]: matrix(own.updates[PATHS[1]]),
    }
    for path, rank in ((PATHS[0], 3), (PATHS[1], 1)):
        made = matrix(drawn.updates[path])
        torch.testing.assert_close(torch.linalg.norm(made), torch.linalg.norm(wanted[path]), rtol=1e-5, atol=1e-5)
        assert torch.linalg.matrix_rank(made).item() == rank
        cosine = (made * wanted[path]).sum() / torch.linalg.norm(made) ** 2
        assert abs(cosine) < 0.5
    torch.testing.assert_close(torch.linalg.norm(matrix(drawn.updates[bias])), torch.tensor(12.0).sqrt())


def test_the_direction_depends_on_document_seed_and_place(rng: torch.Generator) -> None:
    update = low(rng)
    own = Adapter("own", dict.fromkeys(PATHS, update))
    drawn = [random_like(own, *by) for by in (("a", 0), ("a", 0), ("b", 0), ("a", 1))]
    matrices = [matrix(adapter.updates[PATHS[0]]) for adapter in drawn]
    assert torch.equal(matrices[0], matrices[1])
    different = [*matrices[1:], matrix(drawn[0].updates[PATHS[1]])]
    assert all(not torch.allclose(a, b) for n, a in enumerate(different) for b in different[:n])


@pytest.mark.parametrize("rank", [1, 5, 32, 33, 40])
def test_the_rank_of_a_matrix_is_found_from_few_products(rng: torch.Generator, rank: int) -> None:
    whole = Dense(matrix(low(rng, rank, shape=(60, 80))))
    assert rank_of(whole) == (rank if rank <= 32 else 60)


def test_a_matrix_of_full_rank_has_a_random_one_of_full_rank(rng: torch.Generator) -> None:
    own = Adapter("own", {PATHS[0]: Dense(torch.randn(12, 20, generator=rng))})
    made = matrix(random_like(own, "a", 0).updates[PATHS[0]])
    assert torch.linalg.matrix_rank(made).item() == 12
    torch.testing.assert_close(torch.linalg.norm(made), torch.linalg.norm(matrix(own.updates[PATHS[0]])))


@pytest.mark.parametrize("count", [1, 3, 30])
def test_the_mean_is_that_of_the_matrices(rng: torch.Generator, count: int) -> None:
    shared = {PATHS[1]: low(rng)}
    adapters = [
        Adapter(
            f"a{n}",
            {
                PATHS[0]: low(rng, rank=1 + n % 3) if n % 5 else Dense(torch.randn(12, 20, generator=rng)),
                **({PATHS[1]: low(rng)} if n % 2 else {}),
                PATHS[0] + ".bias": Vector(torch.randn(12, generator=rng)),
            },
            shared,
        )
        for n in range(count)
    ]
    total = AdapterMean()
    for adapter in adapters:
        total.add(adapter)
    mean = total.adapter("mean")
    assert mean.shared == shared
    for path in {path for adapter in adapters for path in adapter.updates}:
        expected = sum(matrix(a.updates[path]) for a in adapters if path in a.updates) / count
        torch.testing.assert_close(matrix(mean.updates[path]), expected, rtol=1e-4, atol=1e-5)


def test_the_mean_of_many_holds_no_more_numbers_than_the_weight(rng: torch.Generator) -> None:
    total = AdapterMean()
    for _ in range(50):
        total.add(Adapter("a", {PATHS[0]: low(rng)}))
    assert isinstance(total.adapter("mean").updates[PATHS[0]], Dense)
    few = AdapterMean()
    for _ in range(3):
        few.add(Adapter("a", {PATHS[0]: low(rng)}))
    assert isinstance(few.adapter("mean").updates[PATHS[0]], LowRank)


def test_no_mean_where_shared_parts_differ(rng: torch.Generator) -> None:
    total = AdapterMean()
    total.add(Adapter("a", {PATHS[0]: low(rng)}, {PATHS[1]: low(rng)}))
    with pytest.raises(ValueError, match="adapter b differs from the others in the part that every document shares"):
        total.add(Adapter("b", {PATHS[0]: low(rng)}, {PATHS[1]: low(rng)}))


def test_a_random_adapter_has_the_rank_of_both_parts_together(rng: torch.Generator) -> None:
    """Where a common part was taken out of the whole, the parts' ranks add up to more than the rank of what acts."""
    full, warm = (LowRank(torch.randn(2, 9, generator=rng), torch.randn(8, 2, generator=rng), 16.0) for _ in "fw")
    split = without_shared(Adapter("full", {"x": full}), Adapter("warm", {"x": warm}))
    assert split.updates["x"].rank + split.shared["x"].rank == 6
    drawn = random_like(split, "text", 0).updates["x"]
    assert torch.linalg.matrix_rank(drawn.dense(), rtol=1e-5).item() == drawn.rank == 2
    assert drawn.frobenius() == pytest.approx(full.frobenius(), rel=1e-3)
    apart = Adapter("d2l", {"x": full}, {"x": warm})
    assert random_like(apart, "text", 0).updates["x"].rank == 4
