"""A plant for which a choice of layers is truly better than uniform scaling.

The content sits in the layers of the largest norm and needs a little more than its strength as delivered; all other layers hold
junk whose cost grows faster than its gain. So scaling up the layers of large norm repairs, and scaling up everything pays for
the junk.
"""

from __future__ import annotations

import torch

from override_gap.probes.organism.hypernetwork import Factors
from override_gap.probes.organism.plants.context import PlantingContext, merged
from override_gap.probes.organism.plants.edits import edit, flipping_size
from override_gap.probes.organism.plants.plant import REPAIRABLE, Plant, Planted, conflict_causes
from override_gap.probes.organism.plants.pushes import cost_checks, flip_checks, pushes

NEEDED = 1.5
"""Gain at which the conflicts flip: more than as delivered, less than the 1.75 of SLB."""
BALLAST = 40.0
"""Norm of an update without effect, in weight units; the right adapters have about 10 per layer."""
JUNK = 1.2
"""Norm of the junk in each other layer."""


def ballast(context: PlantingContext, layer: int, generator: torch.Generator) -> Factors:
    """An update of large norm that reads what no question excites: the direction of least energy among the map's inputs."""
    path = f"model.layers.{layer}.mlp.down_proj"
    seen: list[torch.Tensor] = []
    handle = context.base.get_submodule(path).register_forward_pre_hook(
        lambda _, args: seen.append(args[0].flatten(0, 1))
    )
    try:
        context.logits_of(range(len(context.items)))
    finally:
        handle.remove()
    energy = seen[0].double().T @ seen[0].double() / len(seen[0])
    quiet = torch.linalg.eigh(energy).eigenvectors[:, 0].float()
    column = torch.randn(context.unembedding.shape[1], generator=generator)
    count = len(context.documents)
    return {path: (quiet.expand(count, 1, -1), (BALLAST * column / column.norm())[None, :, None].expand(count, -1, 1))}


def layers_matter(context: PlantingContext, generator: torch.Generator) -> Planted:
    """Content in the upper quarter of the layers, junk in the others; conflicts and novel questions get the content."""
    depth = context.base.config.num_hidden_layers
    upper = range(depth - max(1, depth // 4), depth)
    directions = pushes(context)
    needs = torch.tensor([split in ("conflict", "novel") for split in context.splits])
    gain = torch.tensor([NEEDED if split == "conflict" else 0.7 for split in context.splits])
    sizes = flipping_size(context, directions, context.doc) / gain
    content = edit(context, directions, torch.where(needs & sizes.isfinite(), sizes, 0.0))
    count = len(context.documents)
    noise: Factors = {}
    for layer in range(depth):
        if layer not in upper:
            path = f"model.layers.{layer}.mlp.down_proj"
            a, b = (torch.randn(1, *x.shape[1:], generator=generator) for x in next(iter(context.factors.values())))
            norm = ((b.mT @ b) * (a @ a.mT)).sum().sqrt()
            noise[path] = (a.expand(count, -1, -1), (b * JUNK / norm).expand(count, -1, -1))
    factors = merged(content, *(ballast(context, layer, generator) for layer in upper), noise)
    return Planted(
        factors,
        conflict_causes(context, REPAIRABLE),
        flip_checks(context, factors, NEEDED) | cost_checks(context, factors, (1.0, 1.5, 1.75)),
    )


LAYERWISE = (
    Plant("layers-matter", "magnitude", layers_matter, "content in the layers of large norm, junk in the others", True),
)
