"""What policies may know of a batch's items in use: norms, the base's answers, what a document's own questions showed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, AnyAdapter
from override_gap.margins.gain_policies import PolicyInputs
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.items.relevance import RELEVANT, word_overlap
from override_gap.margins.named_policy import document_seed
from override_gap.probes.readings.adapted import Adapted
from override_gap.probes.readings.effect import base_as_asked
from override_gap.probes.readings.prior import Prior, locate
from override_gap.probes.run import rows
from override_gap.probes.run.read_comparisons import first_token
from override_gap.probes.subject.model import Subject

#: The splits whose questions the document itself answers. The others' answers are not known in use.
OWN_QUESTIONS = ("conflict", "novel", "agreement")


@dataclass(frozen=True)
class KnownOfDocuments:
    """What a unit's items of `OWN_QUESTIONS` tell of their documents, for questions on which the document says nothing.

    `answers`: by document, those that it states. `margins`: by document and item, prior and adapter margin in nats; they
    are added as batches are read, so items of `OWN_QUESTIONS` are read before others of their document.
    """

    answers: Mapping[str, tuple[str, ...]]
    margins: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Sequence[Item]) -> KnownOfDocuments:
        """The answers that a unit's items name; no margins yet."""
        answers: dict[str, dict[str, None]] = {}
        for item in items:
            if item.split in OWN_QUESTIONS:
                answers.setdefault(item.document, {})[item.answer] = None
        return cls({document: tuple(named) for document, named in answers.items()})

    def depends_on_others(self, item: Item) -> bool:
        """Whether other items of the unit tell what a policy may know for this one."""
        return item.split not in OWN_QUESTIONS and item.document in self.answers

    def add(self, item: Item, prior: float, adapter: float) -> None:
        """Note the margins of a question that its document answers."""
        if item.split in OWN_QUESTIONS and math.isfinite(prior) and math.isfinite(adapter):
            self.margins.setdefault(item.document, {})[item.id] = prior, adapter

    def mean_margins(self, document: str) -> tuple[float, float]:
        """Mean prior and adapter margin of the document's own questions, nats; NaN where none was read."""
        read = list(self.margins.get(document, {}).values())
        if not read:
            return math.nan, math.nan
        priors, adapters = zip(*read, strict=True)
        return sum(priors) / len(read), sum(adapters) / len(read)


def layer_norms(subject: Subject, adapters: Sequence[AnyAdapter]) -> Float[Tensor, "batch layer"]:
    """Frobenius norms of each layer's updates; NaN for a method that is no weight update (zero would be a norm)."""
    none = torch.full((subject.n_layers,), float("nan"))
    return rows.stacked_norms([a.layer_norms(subject.n_layers) if isinstance(a, Adapter) else none for a in adapters])


def policy_inputs(
    subject: Subject,
    items: Sequence[Item],
    prior: Prior,
    divergences: Sequence[Divergence],
    at_gain_one: Adapted,
    norms: Float[Tensor, "batch layer"],
    seed: int,
    known: KnownOfDocuments,
) -> list[PolicyInputs]:
    """What a policy may know of each item in use.

    A conflict or novel item asks what its document answers: its own two margins and y_doc are known. On any other question
    a policy knows of the document what its own questions showed: their mean margins, and the answers that they name.
    """
    own_margins = [at_gain_one.margins.prior.tolist(), at_gain_one.margins.adapter.tolist()]
    for item, of_prior, of_adapter in zip(items, *own_margins, strict=True):
        known.add(item, of_prior, of_adapter)
    said, said_prob = base_says(subject, prior, divergences)
    inputs = []
    for n, item in enumerate(items):
        own = item.split in OWN_QUESTIONS
        margins = (own_margins[0][n], own_margins[1][n]) if own else known.mean_margins(item.document)
        says = (
            begins_answer(subject, item, divergences[n], said[n]) if own else says_stated(subject, item, said[n], known)
        )
        overlap = word_overlap(item.document, item.question)
        inputs.append(
            PolicyInputs(
                norms=norms[n],
                base_top_prob=said_prob[n],
                base_says_document=says,
                relevant=overlap >= RELEVANT,
                prior_margin=margins[0],
                adapter_margin=margins[1],
                overlap=overlap,
                seed=document_seed(seed, item.document),
            )
        )
    return inputs


def base_says(subject: Subject, prior: Prior, divergences: Sequence[Divergence]) -> tuple[list[int], list[float]]:
    """The token that the base puts first behind each question as asked, and its probability."""
    if all(place.unmerged is None for place in divergences):
        return prior.top.tolist(), prior.top_prob.tolist()
    logits = base_as_asked(subject, prior, divergences)
    best = logits.max(-1)
    return best.indices.tolist(), (best.values - logits.logsumexp(-1)).exp().tolist()


def begins_answer(subject: Subject, item: Item, place: Divergence, token: int) -> bool:
    """Whether a token behind the question begins the answer of the document, which a conflict or novel item names.

    Where both answers begin with it, nothing that is known in use tells which one the base means: it begins the document's.
    An answer that merges with the question's end has other tokens behind the question alone; there the text decides.
    """
    if place.unmerged is None and place.at + 1 >= place.start:
        return token == first_token(place)
    text = subject.tokenizer.decode([token]).strip()
    return bool(text) and item.answer.strip().startswith(text)


def says_stated(subject: Subject, item: Item, token: int, known: KnownOfDocuments) -> bool | None:
    """Whether `token`, the base's first of an answer, begins the answer that the item's document states; None if unknown.

    Where no item names that answer it is still certain that a token which begins no word of the document does not begin it.
    """
    stated = known.answers.get(item.document, ())
    if not stated:
        return None if may_begin_answer(subject.tokenizer.decode([token]), item.document) else False
    for answer in stated:
        try:
            place = locate(subject, replace(item, split="novel", answer=answer, prior_answer=None))
        except ItemError:
            return None
        if place.doc == token:
            return True
    return False


def may_begin_answer(text: str, document: str) -> bool:
    """Whether a token's text may be the beginning of words of the document: it stands at a word's start, in any case.

    In scripts without spaces it may stand anywhere. A space alone, or part of a character, may begin anything.
    """
    text = text.strip().casefold()
    if not text or "\ufffd" in text:
        return True
    boundary = r"(?<!\w)" if text.isascii() else ""
    return re.search(boundary + re.escape(text), document.casefold()) is not None
