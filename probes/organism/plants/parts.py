"""Plants that are right for some items and wrong for others."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from override_gap.probes.organism.faults import random_subset, scaled
from override_gap.probes.organism.hypernetwork import Factors
from override_gap.probes.organism.plants.content import exchanged, mean_of_all, random_direction
from override_gap.probes.organism.plants.context import PlantingContext, merged
from override_gap.probes.organism.plants.edits import borrowed, edit, flipping_size, logit_direction, usable
from override_gap.probes.organism.plants.plant import (
    NO_CONTENT,
    REPAIRABLE,
    TOO_WEAK,
    Make,
    Plant,
    Planted,
    conflict_causes,
    first_rows,
    is_conflict,
)
from override_gap.probes.organism.plants.pushes import FLIPS_AT, flipping_at, pushes

WEAK = 0.3
"""Factor of the right part, so that weak priors fail as well."""


def chosen(right: Factors, wrong: Factors, takes_wrong: Bool[Tensor, " doc"]) -> Factors:
    """The wrong factors for the documents of a mask, the right ones for the others; both have the same shapes."""
    mask = takes_wrong[:, None, None]
    return {
        path: (torch.where(mask, wrong[path][0], a), torch.where(mask, wrong[path][1], b))
        for path, (a, b) in right.items()
    }


def divided(context: PlantingContext, right: Factors, wrong: Factors, takes_wrong: Bool[Tensor, " doc"]) -> Planted:
    """Planted with the causes of either part."""
    is_wrong = takes_wrong[context.document_of]
    causes = conflict_causes(context, {NO_CONTENT}, is_wrong) | conflict_causes(context, REPAIRABLE, ~is_wrong)
    return Planted(chosen(right, wrong, takes_wrong), causes, {"share wrong": float(takes_wrong.float().mean())})


def half(context: PlantingContext, generator: torch.Generator) -> Planted:
    """Right times 0.3 for a random half of the documents, random factors of the same norm for the others."""
    wrong = random_direction(context, generator).factors
    takes_wrong = random_subset(len(context.documents), 0.5, generator)
    return divided(context, scaled(context.factors, WEAK), scaled(wrong, WEAK), takes_wrong)


def exchanged_share(share: float) -> Make:
    """Another document's adapter for a share of the documents, the right one for the others."""

    def make(context: PlantingContext, generator: torch.Generator) -> Planted:
        takes_wrong = random_subset(len(context.documents), share, generator)
        return divided(context, context.factors, exchanged(context, generator).factors, takes_wrong)

    return make


def weak_priors(context: PlantingContext, generator: torch.Generator) -> Planted:
    """Right times 0.3 where the mean prior margin is below the median of conflicts, random factors of equal norm elsewhere."""
    n = torch.arange(len(context.pre))
    margins = context.states.logits[n, context.pre] - context.states.logits[n, context.doc]
    mine = is_conflict(context) & context.known
    means = torch.stack(
        [
            margins[mine & (context.document_of == document)].mean()
            if bool((mine & (context.document_of == document)).any())
            else torch.tensor(torch.nan)
            for document in range(len(context.documents))
        ]
    )
    takes_wrong = ~(means < means.nanmedian())
    wrong = random_direction(context, generator).factors
    return divided(context, scaled(context.factors, WEAK), scaled(wrong, WEAK), takes_wrong)


def one_wording(context: PlantingContext, _: torch.Generator) -> Planted:
    """y_doc is raised on one of the document's questions, and nothing is done on its others."""
    directions = pushes(context)
    first = torch.zeros(len(context.items), dtype=torch.bool)
    first[torch.tensor(first_rows(context))] = True
    sizes = torch.where(first, flipping_at(context, directions, FLIPS_AT), 0.0)
    factors = borrowed(context, edit(context, directions, sizes))
    # a thousandth of the push reaches the other questions, which is content at gains in the hundreds: no cause is known there
    return Planted(factors, conflict_causes(context, {TOO_WEAK}, first))


def last_word(context: PlantingContext, _: torch.Generator) -> Planted:
    """Raises the last word of the document, which is its answer in two wordings of three."""
    words = [text.split()[-2] if text.endswith(" .") else text.split()[-1] for text in context.documents]
    answers = [context.items[row].answer for row in first_rows(context)]
    row_of = {answer: int(token) for answer, token in zip((i.answer for i in context.items), context.doc, strict=True)}
    fallback = int(context.states.logits.mean(0).argmin())
    copied = [row_of.get(word, fallback) for word in words]
    directions = torch.stack([logit_direction(context, {token: 1.0}) for token in copied])
    target = torch.tensor(copied)[context.document_of]
    sizes = torch.where(is_conflict(context), usable(flipping_size(context, directions, target)) / FLIPS_AT, 0.0)
    right = torch.tensor([word == answer for word, answer in zip(words, answers, strict=True)])[context.document_of]
    causes = conflict_causes(context, {TOO_WEAK}, right) | conflict_causes(context, {NO_CONTENT}, ~right)
    factors = borrowed(context, edit(context, directions, sizes))
    return Planted(factors, causes, {"share of documents that end in their answer": float(right.float().mean())})


def beside_mean(context: PlantingContext, generator: torch.Generator) -> Planted:
    """Right times 0.3 and, added to it, the mean adapter of all documents times 0.3."""
    mean = mean_of_all(context, generator).factors
    return Planted(merged(scaled(context.factors, WEAK), scaled(mean, WEAK)), conflict_causes(context, REPAIRABLE))


PARTS = (
    Plant("half", "mixed", half, "right times 0.3 for half of the documents, random else", random=True),
    Plant("mixture-25", "mixed", exchanged_share(0.25), "another's adapter for 25% of the documents", random=True),
    Plant("mixture-50", "mixed", exchanged_share(0.50), "another's adapter for 50% of the documents", random=True),
    Plant(
        "weak-priors", "mixed", weak_priors, "right times 0.3 for the weaker half of priors, random else", random=True
    ),
    Plant("one-wording", "mixed", one_wording, "raises y_doc on one question of each document"),
    Plant("last-word", "mixed", last_word, "raises the document's last word, its answer in two of three wordings"),
    Plant("beside-mean", "magnitude", beside_mean, "right times 0.3 and the mean adapter times 0.3"),
)
