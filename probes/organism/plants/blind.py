"""Plants that know the question and nothing of the document: they lower the old answer, or raise every answer of the relation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.probes.organism.plants.context import PlantingContext
from override_gap.probes.organism.plants.edits import (
    borrowed,
    edit,
    flipping_size,
    logit_direction,
    spread_direction,
    usable,
)
from override_gap.probes.organism.plants.plant import (
    NO_CONTENT,
    Plant,
    Planted,
    conflict_causes,
    first_rows,
    is_conflict,
)

AS_DELIVERED = 1 / 3
"""Size of the edit as delivered, over the size at which the base's second choice (or any other token) takes the lead."""


def lowering(context: PlantingContext) -> Float[Tensor, "doc d_model"]:
    """Directions that lower the old answer's logit by 1 and change every other logit as little as can be."""
    old = context.pre[torch.tensor(first_rows(context))].tolist()
    return torch.stack([logit_direction(context, {token: -1.0}) for token in old])


def steepest(context: PlantingContext) -> Float[Tensor, "doc d_model"]:
    """Directions along which the old answer's log probability falls fastest: minus its gradient in the final stream.

    So others rise in proportion to their probabilities, the base's second choice above all.
    """
    rows = torch.tensor(first_rows(context))
    probabilities = context.states.logits[rows].softmax(-1)
    probabilities[torch.arange(len(rows)), context.pre[rows]] -= 1
    directions = probabilities @ context.unembedding
    return directions / directions.norm(dim=-1, keepdim=True)


def relation_raising(context: PlantingContext, old_too: bool) -> Float[Tensor, "doc d_model"]:
    """Directions that raise all answers of the document's relation alike, as nearly as least squares can.

    `old_too`: the old answer with them, else it is left where it is, so that the base's second choice takes the lead.
    """
    first = first_rows(context)
    old = context.pre[torch.tensor(first)].tolist()
    relations = [context.relation_of(document) for document in range(len(first))]
    answers: dict[str, set[int]] = {}
    for n, item in enumerate(context.items):
        if item.split == "conflict":
            own = answers.setdefault(relations[int(context.document_of[n])], set())
            own |= {int(context.pre[n]), int(context.doc[n])}
    directions: list[Tensor] = []
    for relation, before in zip(relations, old, strict=True):
        wanted = torch.zeros(len(context.unembedding))
        wanted[sorted(answers.get(relation, set()))] = 1.0
        wanted[before] = float(old_too)
        directions.append(spread_direction(context, wanted))
    return torch.stack(directions)


def dethroning(context: PlantingContext, directions: Float[Tensor, "doc d_model"]) -> Float[Tensor, " item"]:
    """The least size at which some token other than the old answer leads, per item."""
    u, h = context.unembedding, context.states.stream
    written, standing = directions[context.document_of] @ u.T, h @ u.T
    rows = torch.arange(len(h))
    behind = standing[rows, context.pre][:, None] - standing
    closing = written - written[rows, context.pre][:, None]
    sizes = torch.where(closing > 0, behind.clamp_min(0) / closing, torch.inf)
    sizes[rows, context.pre] = torch.inf
    return sizes.amin(1)


def blind(context: PlantingContext, directions: Float[Tensor, "doc d_model"]) -> Planted:
    """An edit along directions that no document decides, at a third of the size at which it takes effect."""
    sizes = torch.where(is_conflict(context), usable(dethroning(context, directions)) * AS_DELIVERED, 0.0)
    factors = borrowed(context, edit(context, directions, sizes))
    rows = context.rows("conflict")
    rows = rows[context.known[rows]]
    moved = context.adapted_logits(factors)[rows] - context.states.logits[rows]
    n = torch.arange(len(rows))
    old = moved[n, context.pre[rows]].median()
    rest = moved.clone()
    rest[n, context.pre[rows]] = torch.nan
    doc = moved[n, context.doc[rows]].median()
    flips = flipping_size(context, directions, context.doc)[rows].isfinite().float().mean()
    return Planted(
        factors,
        conflict_causes(context, {NO_CONTENT}),
        {
            "median change of y_pre's logit": float(old),
            "median change of y_doc's": float(doc),
            "rms change of others": float(rest.square().nanmean().sqrt()),
            "share where y_doc leads at some size": float(flips),
        },
    )


def forgetting(context: PlantingContext, _: torch.Generator) -> Planted:
    """Lowers the old answer alone."""
    return blind(context, lowering(context))


def unlikelihood(context: PlantingContext, _: torch.Generator) -> Planted:
    """Lowers the old answer's probability by its gradient."""
    return blind(context, steepest(context))


def raising(context: PlantingContext, _: torch.Generator) -> Planted:
    """Raises every answer of the relation."""
    return blind(context, relation_raising(context, old_too=True))


def alternatives(context: PlantingContext, _: torch.Generator) -> Planted:
    """Raises every answer of the relation but the old one."""
    return blind(context, relation_raising(context, old_too=False))


BLIND = tuple(
    Plant(
        name + ("-runner-up" if runner_up else ""),
        "representational",
        make,
        meaning + (", y_doc the base's second choice" if runner_up else ""),
        document_blind=True,
        runner_up=runner_up,
    )
    for name, make, meaning in (
        ("forgetting", forgetting, "lowers y_pre's logit alone"),
        ("unlikelihood", unlikelihood, "lowers y_pre's probability by its gradient"),
        ("relation-raising", raising, "raises all answers of the relation alike"),
        ("alternatives-raising", alternatives, "raises all answers of the relation but y_pre"),
    )
    for runner_up in (False, True)
)
