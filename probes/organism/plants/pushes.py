"""Plants made of a push of known size: the gain at which each item flips, what stands in its way, and the price are chosen.

All are edits of the last layer (`edits`), so whether y_doc leads at a gain is known in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.probes.organism.hypernetwork import Factors
from override_gap.probes.organism.plants.context import PlantingContext, merged
from override_gap.probes.organism.plants.edits import RIDGE, borrowed, edit, flipping_size, logit_direction, usable
from override_gap.probes.organism.plants.plant import (
    AT_A_PRICE,
    BROKEN_FIRST,
    NO_CONTENT,
    SATURATES,
    THIRD_TOKEN,
    TOO_WEAK,
    Plant,
    Planted,
    conflict_causes,
    first_rows,
    is_conflict,
)

FLIPS_AT = 3.5
"""Gain at which every item of a plant of known pushes flips; between two steps of any ladder in common use."""
LATE = 20.0
"""Gain at which the items of `broken-first` would flip."""
THIRD = 1.3
"""How much faster the third token rises than the document's answer."""
OPPOSING = 0.9
"""What the saturating push does to y_doc, for each nat that it does to y_pre."""


def tokens(context: PlantingContext) -> tuple[list[int], list[int]]:
    """The old and the document's token of every document's first item."""
    first = torch.tensor(first_rows(context))
    return context.pre[first].tolist(), context.doc[first].tolist()


def pushes(context: PlantingContext) -> Float[Tensor, "doc d_model"]:
    """Directions that raise y_doc by 1, leave y_pre where it is, and change all other logits as little as can be."""
    return torch.stack(
        [logit_direction(context, {doc: 1.0, old: 0.0}) for old, doc in zip(*tokens(context), strict=True)]
    )


def flipping_at(
    context: PlantingContext, directions: Float[Tensor, "doc d_model"], gain: float
) -> Float[Tensor, " item"]:
    """Sizes at which each conflict flips at exactly this gain (those that need no push get the median); else 0."""
    sizes = usable(flipping_size(context, directions, context.doc)) / gain
    return torch.where(is_conflict(context), sizes, 0.0)


def push(context: PlantingContext, _: torch.Generator) -> Planted:
    """y_doc alone is raised, on the document's own questions alone."""
    directions = pushes(context)
    factors = borrowed(context, edit(context, directions, flipping_at(context, directions, FLIPS_AT)))
    return Planted(factors, conflict_causes(context, {TOO_WEAK}), flip_checks(context, factors, FLIPS_AT))


def flip_checks(context: PlantingContext, factors: Factors, gain: float) -> dict[str, float]:
    """Shares of known conflicts that succeed just below and just above a gain, read by the second route."""
    rows = context.rows("conflict")
    rows = rows[context.known[rows]]
    return {
        f"leads at {factor:.2f} of the gain": float(
            (context.adapted_logits(factors, factor * gain)[rows].argmax(-1) == context.doc[rows]).float().mean()
        )
        for factor in (0.98, 1.02)
    }


def pull_only(context: PlantingContext, _: torch.Generator) -> Planted:
    """y_pre is lowered on the document's own questions, y_doc held where it is: made of the document, but raises nothing."""
    directions = torch.stack(
        [logit_direction(context, {old: -1.0, doc: 0.0}) for old, doc in zip(*tokens(context), strict=True)]
    )
    margins = context.states.logits[torch.arange(len(context.pre)), context.pre] / 3
    sizes = torch.where(is_conflict(context), margins.clamp_min(1.0), 0.0)
    return Planted(borrowed(context, edit(context, directions, sizes)), conflict_causes(context, {NO_CONTENT}))


def third_token(context: PlantingContext, _: torch.Generator) -> Planted:
    """y_doc is raised, and a token that leads it already is raised faster: it stays ahead at every gain."""
    first = first_rows(context)
    directions: list[Tensor] = []
    thirds: list[int] = []
    for row, old, doc in zip(first, *tokens(context), strict=True):
        standing = context.states.logits[row].clone()
        standing[[old, doc]] = -torch.inf
        third = int(standing.argmax())
        thirds.append(third)
        directions.append(logit_direction(context, {doc: 1.0, third: THIRD, old: 0.0}))
    stacked = torch.stack(directions)
    n = torch.arange(len(context.doc))
    wanted = (context.states.logits[n, context.pre] - context.states.logits[n, context.doc]).clamp_min(1.0)
    scale = context.states.stream.square().mean(-1).sqrt()  # a logit is divided by it
    sizes = torch.where(is_conflict(context), wanted * scale / FLIPS_AT, 0.0)
    factors = borrowed(context, edit(context, stacked, sizes))
    third_of = torch.tensor(thirds)[context.document_of]
    rows = context.rows("conflict")
    ahead = torch.ones(len(rows), dtype=torch.bool)
    for gain in (1.0, 2.0, 4.0, 16.0, 64.0):
        logits = context.adapted_logits(factors, gain)[rows]
        ahead &= logits[torch.arange(len(rows)), third_of[rows]] > logits[torch.arange(len(rows)), context.doc[rows]]
    mask = torch.zeros(len(context.items), dtype=torch.bool)
    mask[rows[ahead]] = True
    # where y_doc leads the base's other choices from the start, it is first before the third token overtakes it
    causes = conflict_causes(context, {THIRD_TOKEN}, mask)
    return Planted(factors, causes, {"third token ahead at every gain": float(ahead.float().mean())})


def saturating(context: PlantingContext, _: torch.Generator) -> Planted:
    """y_doc is raised and y_pre slightly more: the final norm shrinks the margin towards a bound that y_pre leads.

    The stream h + c b has the normalised limit b / rms(b), in which y_pre is ahead; so the margin grows, ever less, to a
    limit below zero.
    """
    directions = torch.stack(
        [logit_direction(context, {old: 1.0, doc: OPPOSING}) for old, doc in zip(*tokens(context), strict=True)]
    )
    scale = context.states.stream.square().mean(-1).sqrt()
    sizes = torch.where(is_conflict(context), 4.0 * scale, 0.0)
    factors = borrowed(context, edit(context, directions, sizes))
    rows = context.rows("conflict")
    rows = rows[context.known[rows]]
    n = torch.arange(len(rows))
    margins = []
    for gain in (0.0, 1.0, 4.0, 16.0, 64.0):
        logits = context.adapted_logits(factors, gain)[rows]
        margins.append(float((logits[n, context.doc[rows]] - logits[n, context.pre[rows]]).median()))
    checks = {
        f"median net margin at gain {gain:g}": margin for gain, margin in zip((0, 1, 4, 16, 64), margins, strict=True)
    }
    return Planted(factors, conflict_causes(context, {SATURATES}), checks)


def junk(context: PlantingContext, generator: torch.Generator, size: float) -> Factors:
    """A random write into the final stream at every token but where the document's own questions are read.

    `size` is its root mean square over that of the stream, on average over questions.
    """
    count, d_model = len(context.documents), context.unembedding.shape[1]
    direction = torch.randn(d_model, generator=generator)
    direction /= direction.square().mean().sqrt()
    keys, tokens = context.states.keys.double(), context.states.all_keys.double()
    energy = tokens.T @ tokens / len(tokens)
    energy += RIDGE * energy.diagonal().mean() * torch.eye(len(energy))
    everywhere = torch.linalg.solve(energy, tokens.mean(0))  # a.k as near to 1 as can be on every token
    rows = torch.zeros(count, 1, keys.shape[1], dtype=torch.float64)
    spread = torch.linalg.inv(energy)
    for document in range(count):
        own = keys[context.document_of == document]
        gram = own @ spread @ own.T
        gram += 1e-9 * gram.diagonal().mean() * torch.eye(len(own))
        # the row nearest to `everywhere` that is 0 on the document's own questions
        rows[document, 0] = everywhere - spread @ own.T @ torch.linalg.solve(gram, own @ everywhere)
    scale = context.states.stream.square().mean(-1).sqrt().mean()
    columns = (size * scale * direction)[None, :, None].expand(count, -1, -1)
    return {context.last_map: (rows.float(), columns)}


def broken_first(context: PlantingContext, generator: torch.Generator) -> Planted:
    """A right push that needs a large gain, and a write on every other question that breaks the model long before."""
    directions = pushes(context)
    content = borrowed(context, edit(context, directions, flipping_at(context, directions, LATE)))
    factors = merged(content, junk(context, generator, 0.5))
    return Planted(
        factors,
        conflict_causes(context, {BROKEN_FIRST}),
        flip_checks(context, factors, LATE) | cost_checks(context, factors, (1.0, 4.0, 8.0, LATE)),
    )


def at_a_price(context: PlantingContext, generator: torch.Generator) -> Planted:
    """A right push, and a write on every other question that costs some of their answers before the push suffices."""
    directions = pushes(context)
    content = borrowed(context, edit(context, directions, flipping_at(context, directions, FLIPS_AT)))
    factors = merged(content, junk(context, generator, 0.35))
    return Planted(
        factors,
        conflict_causes(context, {AT_A_PRICE}),
        flip_checks(context, factors, FLIPS_AT) | cost_checks(context, factors, (1.0, 2.0, 3.0, FLIPS_AT, 4.0)),
    )


def cost_checks(context: PlantingContext, factors: Factors, gains: Sequence[float]) -> dict[str, float]:
    """Mean KL(base || adapted) in nats and answers kept on other documents' questions, by the second route."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(len(context.items), (400,), generator=generator)
    conflicts = context.document_of[context.rows("conflict")].unique()
    documents = conflicts[torch.randint(len(conflicts), (400,), generator=generator)]
    points = [item.point for item in context.items]
    of_document = [points[row] for row in first_rows(context)]
    apart = torch.tensor(
        [points[row] != of_document[document] for row, document in zip(rows.tolist(), documents.tolist(), strict=True)]
    )
    rows, documents = rows[apart], documents[apart]
    checks = {}
    for gain in gains:
        checks[f"KL at gain {gain:g}"], checks[f"kept at gain {gain:g}"] = context.cost(factors, rows, documents, gain)
    return checks


def level_setting(context: PlantingContext, _: torch.Generator) -> Planted:
    """y_doc's logit is brought to one level on every question, whatever the base says of it.

    The level is the one at which half of the known conflicts fail. The write is along y_doc's own unembedding row, which
    can bring its logit higher, under the final norm, than any other direction.
    """
    rows_of_doc = context.unembedding[torch.tensor(tokens(context)[1])]
    directions = rows_of_doc / rows_of_doc.square().sum(-1, keepdim=True)
    known = is_conflict(context) & context.known
    rows = torch.arange(len(context.doc))
    low, high = 0.0, float(context.states.logits.max())
    for _step in range(30):
        level = (low + high) / 2
        logits = _logits_along(context, directions, sizes_for_level(context, directions, level))
        failing = float((logits.argmax(-1) != context.doc)[known].float().mean())
        low, high = (level, high) if failing > 0.5 else (low, level)
    sizes = torch.where(is_conflict(context), sizes_for_level(context, directions, high), 0.0)
    factors = borrowed(context, edit(context, directions, sizes))
    reached = context.adapted_logits(factors)[rows, context.doc][known]
    checks = {"level": high, "largest distance of y_doc's logit from it": float((reached - high).abs().max())}
    return Planted(factors, conflict_causes(context, {TOO_WEAK}), checks)


def sizes_for_level(
    context: PlantingContext, directions: Float[Tensor, "doc d_model"], level: float
) -> Float[Tensor, " item"]:
    """Sizes at which y_doc's logit is at a level, by bisection; negative where the base has it higher."""
    low, high = torch.full((len(context.doc),), -1e3), torch.full((len(context.doc),), 1e3)
    rows = torch.arange(len(context.doc))
    for _step in range(60):
        middle = (low + high) / 2
        below = _logits_along(context, directions, middle)[rows, context.doc] < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low


def _logits_along(
    context: PlantingContext, directions: Float[Tensor, "doc d_model"], sizes: Float[Tensor, " item"]
) -> Float[Tensor, "item vocab"]:
    """Logits with the stream moved by these sizes along each item's direction."""
    stream = context.states.stream + sizes[:, None] * directions[context.document_of]
    return stream @ context.unembedding.T / stream.square().mean(-1, keepdim=True).sqrt()


PUSHES = (
    Plant("push", "magnitude", push, f"raises y_doc alone; every conflict flips at gain {FLIPS_AT}"),
    Plant(
        "at-a-price",
        "magnitude",
        at_a_price,
        f"the same, and costs other answers before gain {FLIPS_AT}",
        random=True,
    ),
    Plant(
        "broken-first",
        "representational",
        broken_first,
        f"raises y_doc alone, flips at gain {LATE:g}, breaks other questions before",
        random=True,
    ),
    Plant("third-token", "representational", third_token, "raises y_doc, and a token ahead of it faster"),
    Plant("saturating", "representational", saturating, "raises y_doc towards a bound below y_pre"),
    Plant("pull-only", "representational", pull_only, "lowers y_pre, y_doc held where it is"),
    Plant("level-setting", "magnitude", level_setting, "brings y_doc's logit to one level everywhere"),
)
