"""Norms and products of updates against the dense matrices, and the laws of scale."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.updates import Dense, LowRank, LowRankBatch, inner


def low(seed: int, rank: int = 3, d_out: int = 7, d_in: int = 5, scale: float = 1.3) -> LowRank:
    draw = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(rank, d_in, generator=draw), torch.randn(d_out, rank, generator=draw), scale)


@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(-4, 4))
def test_frobenius_matches_the_dense_matrix(seed: int, rank: int, scale: float) -> None:
    update = low(seed, rank, scale=scale)
    assert update.frobenius() == pytest.approx(torch.linalg.norm(update.dense().double()).item(), rel=1e-5, abs=1e-6)


def test_frobenius_survives_cancelling_factors() -> None:
    a, b = torch.randn(1, 50), torch.randn(40, 1)
    update = LowRank(torch.cat([a, a]), torch.cat([b, -b * (1 + 1e-4)], dim=1))
    wanted = 1e-4 * (torch.linalg.norm(a) * torch.linalg.norm(b)).item()
    assert update.frobenius() == pytest.approx(wanted, rel=1e-2)


@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_inner_product_matches_the_dense_one(seed: int, left_dense: bool, right_dense: bool) -> None:
    left, right = low(seed), low(seed + 1, rank=2, scale=-0.7)
    wanted = (left.dense().double() * right.dense().double()).sum().item()
    a = Dense(left.dense()) if left_dense else left
    b = Dense(right.dense()) if right_dense else right
    assert inner(a, b) == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_apply_is_the_product_with_the_dense_matrix() -> None:
    update, x = low(4), torch.randn(2, 3, 5)
    assert torch.allclose(update.apply(x), x @ update.dense().T, atol=1e-5)
    assert torch.allclose(Dense(update.dense()).apply(x), x @ update.dense().T, atol=1e-5)


def test_doubling_the_scale_doubles_the_norm() -> None:
    update = low(5)
    assert LowRank(update.A, update.B, 2 * update.scale).frobenius() == pytest.approx(2 * update.frobenius(), rel=1e-6)


def test_bounds_of_stacked_norms_hold_and_tell_zero_and_what_is_not_finite() -> None:
    updates = [low(n, scale=1.5 - n) for n in range(6)]
    updates[3] = LowRank(torch.zeros_like(updates[3].A), updates[3].B)
    updates[4] = LowRank(updates[4].A, updates[4].B * 1e38)
    updates[5] = LowRank(updates[5].A, torch.full_like(updates[5].B, float("inf")))
    batch = LowRankBatch.of(updates)
    assert batch is not None
    bounds = batch.largest_norms().tolist()
    assert batch.frobenius().tolist()[:3] == pytest.approx([update.frobenius() for update in updates[:3]], rel=1e-12)
    for update, bound in zip(updates[:3], bounds, strict=False):
        assert update.frobenius() <= bound * (1 + 1e-12)
        assert bound > 0
    assert bounds[3] == 0
    assert 1e37 < bounds[4] < float("inf")
    assert not bounds[5] < float("inf")


def test_only_updates_of_one_layout_are_stacked() -> None:
    same = [low(n, scale=1.5 - n) for n in range(3)]
    batch = LowRankBatch.of(same)
    assert batch is not None
    for n, update in enumerate(same):
        assert torch.equal(batch.scale[n].float() * (batch.B[n] @ batch.A[n]), update.dense())
    half = LowRank(same[0].A.half(), same[0].B.half())
    for other in (low(9, rank=1), low(9, d_in=6), half, Dense(torch.zeros(7, 5))):
        assert LowRankBatch.of([*same, other]) is None
    assert LowRankBatch.of([]) is None


def test_layer_norms_add_up_paths_and_parts() -> None:
    paths = ["model.layers.0.mlp.down_proj", "model.layers.0.self_attn.o_proj", "model.layers.2.mlp.down_proj"]
    document = {path: low(n) for n, path in enumerate(paths)}
    shared = {paths[0]: low(9, rank=1)}
    norms = Adapter("a", document, shared).layer_norms(3)
    first = torch.cat(
        [(document[paths[0]].dense() + shared[paths[0]].dense()).flatten(), document[paths[1]].dense().flatten()]
    )
    assert norms[0].item() == pytest.approx(torch.linalg.norm(first).item(), rel=1e-5)
    assert norms[1].item() == 0
    assert Adapter("a", document, shared).norm() == pytest.approx(torch.linalg.norm(norms).item(), rel=1e-6)
    with pytest.raises(ValueError, match="none of the model's 2 layers"):
        Adapter("a", document).layer_norms(2)


def test_the_hash_follows_the_content() -> None:
    first, again, other = (Adapter("a", {"layers.0.x": low(s)}) for s in (1, 1, 2))
    assert first.hash() == again.hash() != other.hash()
    assert Adapter("a", {"layers.0.x": low(1, scale=2)}).hash() != first.hash()


@pytest.mark.parametrize(
    ("path", "layer"), [("model.layers.12.mlp.down_proj", 12), ("transformer.h.3.attn.c_attn", 3), ("lm_head", None)]
)
def test_layer_of_a_path(path: str, layer: int | None) -> None:
    assert layer_of(path) == layer


def test_factors_of_different_rank_are_refused() -> None:
    with pytest.raises(ValueError, match="of one rank"):
        LowRank(torch.ones(2, 4), torch.ones(5, 3))
