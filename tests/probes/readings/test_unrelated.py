"""What an adapter costs on unrelated rows, against passes over the bare model with the update written into its weights."""

from __future__ import annotations

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import LowRank
from override_gap.probes.readings.unrelated import POSITIONS, UnrelatedRows, read_costs, row_of
from tests.conftest import tiny

ROWS = [(3, 5, 7, 9, 4, 6), (8, 3, 5), tuple(range(2, 16)), (4, 4, 9, 7)]


def by_hand(layers: list[int], chosen: list[int], gain: float) -> tuple[float, float]:
    """KL(f || g) averaged per row over its last positions but the first, then over rows; and the arg max kept at the end."""
    subject = tiny("llama")
    model = subject.model
    before = [model(torch.tensor([ROWS[n]])).logits[0].log_softmax(-1).detach() for n in chosen]
    with torch.no_grad():
        for path, update in adapter(layers).updates.items():
            assert isinstance(update, LowRank)
            model.get_submodule(path).weight += gain * update.scale * update.B @ update.A
    after = [model(torch.tensor([ROWS[n]])).logits[0].log_softmax(-1).detach() for n in chosen]
    with torch.no_grad():
        for path, update in adapter(layers).updates.items():
            assert isinstance(update, LowRank)
            model.get_submodule(path).weight -= gain * update.scale * update.B @ update.A
    kl = [float((f.exp() * (f - g)).sum(-1)[1:][-POSITIONS:].mean()) for f, g in zip(before, after, strict=True)]
    kept = [float(f[-1].argmax() == g[-1].argmax()) for f, g in zip(before, after, strict=True)]
    return sum(kl) / len(kl), sum(kept) / len(kept)


def adapter(layers: list[int]) -> Adapter:
    """Updates of the down projections of some layers."""
    subject, draw = tiny("llama"), torch.Generator().manual_seed(3)
    sites = {p: s for p, s in subject.sites.items() if p.endswith("down_proj") and int(p.split(".")[2]) in layers}
    return Adapter(
        "drawn",
        {
            p: LowRank(
                torch.randn(2, s.d_in, generator=draw), torch.randn(s.d_out, 2, generator=draw), scale=0.3 / s.d_in**0.5
            )
            for p, s in sites.items()
        },
    )


@pytest.mark.parametrize("keep_blocks", [True, False])
@pytest.mark.parametrize("layers", [[0], [1], [0, 1]])
def test_costs_are_those_of_the_model_with_the_update_in_its_weights(layers: list[int], keep_blocks: bool) -> None:
    """Adapters of upper layers resume from the base's blocks: shorter rows than the longest, in another order, two gains."""
    subject = tiny("llama")
    unrelated = UnrelatedRows.read(subject, [row_of(row) for row in ROWS], keep_blocks=keep_blocks)
    assert (unrelated.block_outputs is not None) is keep_blocks
    drawn, chosen, gains = adapter(layers), [[3, 1], [2, 0, 1]], [1.0, 4.0]
    found = read_costs(subject, unrelated, chosen, [drawn, drawn], gains)
    for cost, rows, gain in zip(found, chosen, gains, strict=True):
        kl, kept = by_hand(layers, rows, gain)
        assert cost.kl > 1e-3
        assert cost.kl == pytest.approx(kl, rel=1e-3)
        assert cost.kept == pytest.approx(kept)


def test_the_layers_below_the_adapter_do_not_run() -> None:
    """Counted on the model: with the base's blocks kept an adapter of layer 1 runs layer 1 alone."""
    subject = tiny("llama")
    unrelated = UnrelatedRows.read(subject, [row_of(row) for row in ROWS], keep_blocks=True)
    read_costs(
        subject, unrelated, [[0, 1]], [adapter([1])], [1.0]
    )  # the first use of a map measures how its input holds rows
    passes = {0: 0, 1: 0}

    def count(layer: int) -> None:
        passes[layer] += 1

    maps = {n: subject.sites[f"model.layers.{n}.mlp.up_proj"].module for n in passes}
    handles = [m.register_forward_hook(lambda *_, n=n: count(n)) for n, m in maps.items()]
    try:
        read_costs(subject, unrelated, [[0, 1]], [adapter([1])], [2.0])
    finally:
        for handle in handles:
            handle.remove()
    assert passes == {0: 0, 1: 1}
