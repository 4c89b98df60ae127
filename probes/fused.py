"""Fused maps: where the wrapped model runs split copies of one, which of its output rows each copy writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.sites import Ports, Site

# how TransformerLens calls its splitters, and the parts that each returns, in order
SPLITTERS = {"split_qkv_matrix": ("q", "k", "v"), "split_gate_up_matrix": ("gate", "in")}


@torch.no_grad()
def fused_sites(bridge: Any, sites: Mapping[str, Site]) -> dict[str, Site]:
    """Sites that the wrapped model no longer calls, because it runs split copies of them: re-pointed at the copies.

    Families lay queries, keys and values out in different ways (one after another, interleaved by head, by group, by
    shard). No table of layouts is kept here: each fused weight's rows are numbered, TransformerLens's own splitter is
    run on the numbers, and the copies' rows say where they came from.
    """
    moved: dict[str, Site] = {}
    for component in (module for block in bridge.blocks for module in block.modules()):
        for name, parts in SPLITTERS.items():
            split = vars(component).get(name)
            if callable(split):
                moved |= _followed(component, split, parts, sites)
    return moved


def _followed(
    component: Any, split: Callable[..., Any], names: Sequence[str], sites: Mapping[str, Site]
) -> dict[str, Site]:
    own = component.original_component
    copies = [getattr(component, name).original_component for name in names]
    inside = {id(module) for module in own.modules()} - {id(copy) for copy in copies}
    maps = [site for site in sites.values() if id(site.ports[0][0]) in inside]
    with _numbered(maps) as starts:
        labels = [_labels(part.weight) for part in split(own)]
    moved = {}
    for site, start in zip(maps, starts, strict=True):
        ours = [(label >= start) & (label < start + site.d_out) for label in labels]
        if not any(mine.any() for mine in ours):
            continue
        chosen = [(copy, label - start) for copy, label, mine in zip(copies, labels, ours, strict=True) if mine.all()]
        written = torch.cat([rows for _, rows in chosen]) if chosen else torch.empty(0, dtype=torch.long)
        whole = torch.equal(written.sort().values, torch.arange(site.d_out))
        ports: Ports = tuple(chosen) if whole else ()
        moved[site.path] = replace(site, ports=ports)
    return moved


@contextmanager
def _numbered(maps: Sequence[Site]) -> Iterator[list[int]]:
    """Put row numbers in the place of the maps' weights, counted on from map to map; the weights return on exit.

    Accelerate's hook, where there is one, is away meanwhile: it would fetch the weights from disk in their place.
    """
    kept = [(site.ports[0][0], site.ports[0][0].get_parameter("weight")) for site in maps]
    hooks = [(module, vars(module).pop("_hf_hook")) for module, _ in kept if "_hf_hook" in vars(module)]
    starts, first = [], 1
    try:
        for site, (module, weight) in zip(maps, kept, strict=True):
            # float32 holds whole numbers up to 2^24, more rows than any layer has
            numbers = torch.arange(first, first + site.d_out, dtype=torch.float32)
            grid = numbers[:, None].expand(-1, site.d_in)
            grid = grid if isinstance(module, nn.Linear) else grid.T
            assert grid.shape == weight.shape
            module.weight = nn.Parameter(grid, requires_grad=False)
            starts.append(first)
            first += site.d_out
        yield starts
    finally:
        for module, weight in kept:
            module.weight = weight
        for module, hook in hooks:
            vars(module)["_hf_hook"] = hook


def _labels(weight: Float[Tensor, "d_out d_in"]) -> Tensor:
    """The row numbers in a split weight; -1 where a row is not one whole row of the fused weight."""
    weight = weight.detach().cpu()
    first = weight[:, 0]
    whole = (weight == first[:, None]).all(1) & (first == first.round())
    return torch.where(whole, first, torch.full_like(first, -1)).long()
