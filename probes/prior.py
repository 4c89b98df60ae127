"""Prior: what the base model believes before any adapter acts, for a batch of items, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from margins.answers import Divergence
from margins.items import Item, ItemError
from probes.answer_tokens import place_of
from probes.forward import Batch, State, forward
from probes.subject import Subject


@dataclass(frozen=True)
class Prior:
    """The base model's readings of a batch.

    `pre` and `doc` are the tokens the margin compares; `strength` is log P(y_pre | x) in nats, summed over the answer's
    `n_answer` tokens. `top` and `top_prob` are the base's first answer token and its probability; `logits` its logits
    where the answers first differ. `known`: the base's first answer token is the prior answer's (conflicts) or the
    right answer's (retention); NaN where the item has no answer to know.
    """

    batch: Batch
    pre: Int[Tensor, " batch"]
    doc: Int[Tensor, " batch"]
    strength: Float[Tensor, " batch"]
    n_answer: Int[Tensor, " batch"]
    top: Int[Tensor, " batch"]
    top_prob: Float[Tensor, " batch"]
    says_document: Bool[Tensor, " batch"]
    known: Float[Tensor, " batch"]
    logits: Float[Tensor, "batch vocab"]
    hidden: Float[Tensor, "batch d_model"]
    residual: Float[Tensor, "batch layer d_model"] | None


def locate(subject: Subject, item: Item) -> Divergence:
    """Where this item is read on this subject; its chat template applied if the item asks for it. Raises ItemError."""
    place = place_of(subject.tokenizer, item, subject.system)
    if subject.longest is not None and len(place.tokens) > subject.longest:
        raise ItemError(f"{len(place.tokens)} tokens, more than the model's {subject.longest} positions")
    return place


def read_prior(
    subject: Subject, items: Sequence[Item], places: Sequence[Divergence], *, layers: bool = False, side: str = "right"
) -> Prior:
    """Run the base once and read prior strength, the first answer token, and the state where the answers differ.

    An item without a prior answer takes the base's own arg max as y_pre. For retention the rival (y_doc) is the base's
    second choice: no document answer exists, and what is tested is that the first choice is kept. Where the base
    already says the document's answer, y_pre is its second choice.
    """
    batch = Batch.of(places, subject.device, side)
    starts = torch.tensor([d.start for d in places])
    ends = torch.tensor([len(d.tokens) for d in places])
    spans = (ends - starts).clamp_min(1)
    offset = torch.arange(int(spans.max()))
    read = (starts[:, None] - 1 + offset).minimum(ends[:, None] - 1) + batch.shift.cpu()[:, None]
    read = torch.cat([batch.at.cpu()[:, None], read], dim=1).to(subject.device)
    state: State = forward(subject, batch, read, layers=layers)
    hidden = state.final[:, 0]
    logits = subject.logits(hidden)
    first = subject.logits(state.final[:, 1])
    top = first.argmax(-1)
    pre, doc = _competitors(items, places, logits)
    strength = _strength(subject, state.final[:, 1:], places, pre)
    wanted = [_wanted(item, place) for item, place in zip(items, places, strict=True)]
    known = [float("nan") if w is None else float(w == t) for w, t in zip(wanted, top.tolist(), strict=True)]
    return Prior(
        batch=batch,
        pre=pre,
        doc=doc,
        strength=strength,
        n_answer=spans,
        top=top,
        top_prob=first.softmax(-1).gather(-1, top[:, None])[:, 0],
        says_document=(logits.argmax(-1) == doc).cpu(),
        known=torch.tensor(known),
        logits=logits,
        hidden=hidden,
        residual=state.residual,
    )


def _wanted(item: Item, place: Divergence) -> int | None:
    if item.split == "conflict":
        return place.tokens[place.start]
    return place.doc if item.split == "retention" else None


def _competitors(
    items: Sequence[Item], places: Sequence[Divergence], logits: Float[Tensor, "batch vocab"]
) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]]:
    best = logits.topk(2, dim=-1).indices.tolist()
    pairs = []
    for item, place, (first, second) in zip(items, places, best, strict=True):
        if place.pre is not None:
            pairs.append((place.pre, place.doc))
        elif item.split == "retention":
            pairs.append((first, second))
        else:
            pairs.append((second if first == place.doc else first, place.doc))
    both = torch.tensor(pairs, device=logits.device)
    return both[:, 0], both[:, 1]


def _strength(
    subject: Subject,
    hidden: Float[Tensor, "batch answer d_model"],
    places: Sequence[Divergence],
    pre: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """log P(y_pre | x): the answer's tokens each predicted from the position before."""
    totals = torch.zeros(len(places))
    for k in range(hidden.shape[1]):
        logprobs = subject.logits(hidden[:, k]).log_softmax(-1)
        for n, place in enumerate(places):
            answer = place.tokens[place.start :] or (int(pre[n]),)
            if k < len(answer):
                totals[n] += logprobs[n, answer[k]].item()
    return totals
