"""Planted faults do what their names say; those that are not about magnitude keep the norms."""

from __future__ import annotations

import pytest
import torch

from override_gap.probes.organism.faults import (
    FAULTS,
    Fault,
    clipped,
    growing_gain,
    mixture,
    random_subset,
    repairing_gain,
    total_norm,
    wrong_content,
    wrong_direction,
    wrong_layers,
)
from override_gap.probes.organism.hypernetwork import Factors


@pytest.fixture
def factors() -> Factors:
    torch.manual_seed(0)
    return {f"layer.{i}": (torch.randn(20, 2, 6), torch.randn(20, 5, 2)) for i in range(4)}


def dense(factors: Factors) -> torch.Tensor:
    """[doc, module, d_out, d_in], the products themselves."""
    return torch.stack([b @ a for a, b in factors.values()], dim=1)


def test_the_norm_is_the_dense_one(factors: Factors) -> None:
    torch.testing.assert_close(total_norm(factors), dense(factors).flatten(1).norm(dim=1))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_repeatable_and_keeps_shapes(fault: Fault, factors: Factors) -> None:
    first, again = fault(factors, seed=1), fault(factors, seed=1)
    assert list(first) == list(factors)
    for path, (a, b) in first.items():
        assert a.shape == factors[path][0].shape
        assert b.shape == factors[path][1].shape
        assert torch.equal(a, again[path][0])
        assert torch.equal(b, again[path][1])


def test_wrong_content_gives_each_document_anothers_update(factors: Factors) -> None:
    before = dense(factors)
    for seed in range(20):
        after = dense(Fault("", "", wrong_content)(factors, seed))
        same = (after[:, None] == before[None]).flatten(2).all(-1)
        assert (same.sum(0) == 1).all()
        assert (same.sum(1) == 1).all()
        assert not same.diagonal().any()
    with pytest.raises(ValueError, match="at least two"):
        wrong_content({path: (a[:1], b[:1]) for path, (a, b) in factors.items()}, torch.Generator())


def test_a_rotation_keeps_sizes_and_changes_directions(factors: Factors) -> None:
    before, after = dense(factors), dense(Fault("", "", wrong_direction)(factors))
    torch.testing.assert_close(after.norm(dim=(2, 3)), before.norm(dim=(2, 3)))
    torch.testing.assert_close(after.mT @ after, before.mT @ before, atol=1e-4, rtol=1e-4)
    assert torch.cosine_similarity(after.flatten(2), before.flatten(2), dim=-1).abs().mean() < 0.5


def test_wrong_layers_moves_every_update(factors: Factors) -> None:
    before, after = dense(factors), dense(Fault("", "", wrong_layers)(factors))
    assert torch.equal(after, before[:, [2, 3, 0, 1]])


def test_magnitude_faults_change_size_and_nothing_else(factors: Factors) -> None:
    before = dense(factors).flatten(1)
    clipped_updates = dense(Fault("", "", clipped)(factors)).flatten(1)
    torch.testing.assert_close(torch.cosine_similarity(clipped_updates, before), torch.ones(20))
    torch.testing.assert_close(clipped_updates.norm(dim=1), (0.8 * before.norm(dim=1).min()).expand(20))


def test_growing_and_repairing_gains() -> None:
    assert [growing_gain(margin, slope=0.2, size=0.5) for margin in (-5.0, 0.0, 5.0)] == pytest.approx([0.5, 0.5, 1.0])
    assert repairing_gain([0.4, 1.5, 3.0, float("inf")]) == pytest.approx(3.3)
    assert repairing_gain([0.4, float("inf")]) == 1.0
    assert repairing_gain([]) == 1.0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_a_mixture_corrupts_the_known_share(factors: Factors, share: float) -> None:
    before, after = dense(factors), dense(Fault("", "", mixture(share))(factors, seed=3))
    corrupted = (after != before).flatten(1).any(1)
    assert corrupted.sum() == round(share * 20)
    assert torch.equal(corrupted, random_subset(20, share, torch.Generator().manual_seed(3)))
