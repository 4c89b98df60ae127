"""Adapters against each other: products against dense matrices, shares and ranks of sets whose truth is known."""

from __future__ import annotations

import math

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.geometry import effective_rank, gram, mean_cosine, own_share, singular_values, stable_rank
from override_gap.margins.updates import Dense, LowRank, Update, Vector

UP, DOWN, BIAS = "model.layers.0.mlp.up_proj", "model.layers.3.mlp.down_proj", "model.layers.3.mlp.down_proj.bias"


def others(count: int) -> torch.Tensor:
    """Every document with every other."""
    return ~torch.eye(count, dtype=torch.bool)


def low(draw: torch.Generator, d_out: int, d_in: int, rank: int, scale: float = 1.0) -> LowRank:
    return LowRank(torch.randn(rank, d_in, generator=draw), torch.randn(d_out, rank, generator=draw), scale)


def mixed(n: int) -> Adapter:
    """Low rank and dense updates, a vector, and a shared part; ranks differ between documents."""
    draw = torch.Generator().manual_seed(n)
    down: Update = low(draw, 6, 7, 2, 0.5) if n % 2 else Dense(torch.randn(6, 7, generator=draw))
    updates = {UP: low(draw, 5, 4, 1 + n % 3, 2.0), DOWN: down, BIAS: Vector(torch.randn(6, generator=draw))}
    return Adapter(str(n), updates, {UP: LowRank(torch.ones(1, 4), torch.ones(5, 1), 0.3)})


def flat(adapter: Adapter, layer: int) -> torch.Tensor:
    """All of a layer's changes as one vector, by forming every matrix."""
    whole: dict[str, torch.Tensor] = {}
    for path, update in adapter.parts():
        if f".{layer}." in path:
            whole[path] = whole.get(path, torch.tensor(0.0, dtype=torch.float64)) + update.dense().double()
    return torch.cat([whole[path].flatten() for path in sorted(whole)])


@pytest.mark.parametrize("alike", [True, False])
def test_products_are_those_of_the_whole_matrices(alike: bool) -> None:
    if alike:
        draw = torch.Generator().manual_seed(0)
        adapters = [Adapter(str(n), {UP: low(draw, 5, 4, 2, n + 1.0), DOWN: low(draw, 6, 7, 3)}) for n in range(4)]
    else:
        adapters = [mixed(n) for n in range(4)]
    products = gram(adapters)
    assert list(products) == [0, 3]
    for layer, found in products.items():
        rows = torch.stack([flat(adapter, layer) for adapter in adapters])
        assert torch.allclose(found, rows @ rows.T, atol=1e-5)


def test_products_do_not_change_where_factors_are_rotated_or_the_scale_is_moved() -> None:
    draw = torch.Generator().manual_seed(1)
    plain = [low(draw, 6, 7, 3, 2.0) for _ in range(3)]
    turn = torch.linalg.qr(torch.randn(3, 3, generator=draw)).Q
    other = [LowRank(turn @ u.A * 4.0, u.B @ turn.T, u.scale / 4.0) for u in plain]
    one, two = (gram([Adapter(str(n), {DOWN: u}) for n, u in enumerate(updates)])[3] for updates in (plain, other))
    assert torch.allclose(one, two, rtol=1e-5)


def test_the_own_share_of_a_common_part_and_independent_ones_is_what_was_put_in() -> None:
    draw = torch.Generator().manual_seed(2)
    common = torch.randn(400, generator=draw, dtype=torch.float64)
    common *= 2.0 / torch.linalg.norm(common)
    shares = []
    for _ in range(200):
        own = torch.randn(12, 400, generator=draw, dtype=torch.float64) / 20.0  # expected squared norm 1
        rows = common + own
        shares.append(own_share(rows @ rows.T, others(12)).item())
    mean, error = torch.tensor(shares).mean().item(), torch.tensor(shares).std().item() / math.sqrt(len(shares))
    assert mean == pytest.approx(1 / 5, abs=4 * error)
    assert error < 0.01


def test_one_adapter_for_all_has_no_own_share_and_orthogonal_ones_have_nothing_else() -> None:
    same, apart = torch.ones(5, 5, dtype=torch.float64), torch.eye(5, dtype=torch.float64)
    assert own_share(same, others(5)).item() == pytest.approx(0.0)
    assert own_share(apart, others(5)).item() == pytest.approx(1.0)
    assert effective_rank(same) == pytest.approx(1.0)
    assert effective_rank(apart) == pytest.approx(5.0)
    assert own_share(torch.ones(1, 1, dtype=torch.float64), others(1)).isnan().all()


def test_a_document_that_is_drawn_twice_is_no_pair_with_itself() -> None:
    products = torch.tensor([[1.0, 0.2, 0.4], [0.2, 2.0, 0.6], [0.4, 0.6, 4.0]], dtype=torch.float64)
    weights = torch.tensor([[2.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    # pairs of drawn documents: (a, b) four times in either order, and the two copies of a, which are left out
    first, alone = own_share(products, others(3), weights).tolist()
    assert first == pytest.approx(1 - 0.2 / ((2 * 1.0 + 2.0) / 3))
    assert math.isnan(alone)


def test_cosines_are_those_of_the_pairs_asked_for() -> None:
    products = torch.tensor([[1.0, 1.0, 0.0], [1.0, 4.0, -3.0], [0.0, -3.0, 9.0]], dtype=torch.float64)
    pairs = torch.tensor([[True, True, False], [True, True, True], [False, True, True]])
    assert mean_cosine(products, pairs) == pytest.approx((0.5 - 0.5) / 2)
    assert mean_cosine(products, ~pairs) == pytest.approx(0.0)
    assert math.isnan(mean_cosine(products, torch.zeros(3, 3, dtype=torch.bool)))


def test_singular_values_of_factors_are_those_of_the_matrix() -> None:
    draw = torch.Generator().manual_seed(3)
    parts = [low(draw, 6, 9, 2, 0.5), low(draw, 6, 9, 1)]
    dense = sum(part.dense().double() for part in parts)
    values = singular_values(parts)
    assert torch.allclose(values, torch.linalg.svdvals(dense)[:3], atol=1e-6)
    assert torch.allclose(singular_values([Dense(dense)])[:3], values, atol=1e-6)
    assert stable_rank(values) == pytest.approx(
        (dense**2).sum().item() / torch.linalg.matrix_norm(dense, 2).item() ** 2
    )
    assert singular_values([Vector(torch.tensor([3.0, 4.0]))]).tolist() == pytest.approx([5.0])
