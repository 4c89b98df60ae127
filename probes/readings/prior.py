"""Prior: what the base model believes before any adapter acts, for a batch of items, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.subject.forward import Batch, ForwardState, forward
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.resume import BlockOutputs
from override_gap.probes.subject.tokens import divergence_of

#: How many rows of logits over the whole vocabulary are made at a time for an answer's further tokens.
LOGIT_ROWS = 64


@dataclass(frozen=True)
class Prior:
    """The base model's readings of a batch.

    `pre` and `doc` are the tokens the margin compares; `strength` is log P(y_pre | x) in nats, summed over the answer's
    `n_answer` tokens. `top` and `top_prob` are the base's first answer token and its probability; `logits` its logits
    where the answers first differ, and `top_at_divergence` their arg max, which is what retention is about. `known`: the
    base's first answer token is the prior answer's (conflicts) or the right answer's (retention); NaN where the item has
    no answer to know. `residual` is the stream before the first layer and after each, and `block_outputs` what every
    block gave; None where not asked for.
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
    top_at_divergence: Int[Tensor, " batch"]
    residual: Float[Tensor, "batch layer d_model"] | None
    block_outputs: BlockOutputs | None = None

    def only(self, rows: Sequence[int]) -> Prior:
        """Some rows, their batch cut where the last of them is read: what a pass under adapters needs. No block outputs."""
        numbers = list(rows)
        tensors: dict[str, Any] = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("batch", "block_outputs")
        }
        if numbers != list(range(len(self.pre))):
            chosen = torch.tensor(numbers)
            tensors = {name: None if t is None else t[chosen.to(t.device)] for name, t in tensors.items()}
        return Prior(batch=self.batch.only(numbers), **tensors)


def locate(subject: Subject, item: Item) -> Divergence:
    """Where this item is read on this subject; its chat template applied if the item asks for it. Raises ItemError."""
    place = divergence_of(subject.tokenizer, item, subject.system)
    if subject.max_positions is not None and len(place.tokens) > subject.max_positions:
        raise ItemError(f"{len(place.tokens)} tokens, more than the model's {subject.max_positions} positions")
    return place


def read_prior(
    subject: Subject,
    items: Sequence[Item],
    places: Sequence[Divergence],
    *,
    layers: bool = False,
    side: str = "right",
    keep_blocks: bool = False,
) -> Prior:
    """Run the base once and read prior strength, the first answer token, and the state where the answers differ.

    An item without a prior answer takes the base's own arg max as y_pre. For retention the rival (y_doc) is the base's
    second choice: no document answer exists, and what is tested is that the first choice is kept. Where the base
    already says the document's answer, y_pre is its second choice.
    """
    batch = Batch.of(places, subject.device, side)
    starts = torch.tensor([d.start for d in places])
    ends = torch.tensor([len(d.fed) for d in places])
    spans = torch.tensor([len(d.tokens) for d in places]).sub(starts).clamp_min(1)
    offset = torch.arange(int(spans.max()))
    read = (starts[:, None] - 1 + offset).minimum(ends[:, None] - 1) + batch.shift.cpu()[:, None]
    read = torch.cat([batch.at.cpu()[:, None], read], dim=1).to(subject.device)
    state: ForwardState = forward(subject, batch, read, layers=layers, keep_blocks=keep_blocks)
    hidden = state.final[:, 0]
    # rows as they are under adapters, so that the same numbers give the same bits
    logits = subject.logits(hidden)
    first = logits
    apart = (read[:, 1] != read[:, 0]).nonzero().flatten()
    if len(apart):
        first = logits.clone()
        first[apart] = subject.logits(state.final[apart, 1])
    top, top_at_divergence = first.argmax(-1), logits.argmax(-1)
    pre, doc = _competitors(items, places, logits)
    strength = _strength(subject, state.final[:, 1:], first, places, pre)
    wanted = [_wanted(item, place) for item, place in zip(items, places, strict=True)]
    known = [float("nan") if w is None else float(w == t) for w, t in zip(wanted, top.tolist(), strict=True)]
    return Prior(
        batch=batch,
        pre=pre,
        doc=doc,
        strength=strength,
        n_answer=spans,
        top=top,
        top_prob=(first.gather(-1, top[:, None])[:, 0] - first.logsumexp(-1)).exp(),
        says_document=(top_at_divergence == doc).cpu(),
        known=torch.tensor(known),
        logits=logits,
        hidden=hidden,
        top_at_divergence=top_at_divergence,
        residual=state.residual,
        block_outputs=state.block_outputs,
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
    first: Float[Tensor, "batch vocab"],
    places: Sequence[Divergence],
    pre: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """log P(y_pre | x): the answer's tokens each predicted from the position before.

    The first token's logits are there already; those of the others are made only where a row has such a token.
    """
    answers = [place.tokens[place.start :] or (token,) for place, token in zip(places, pre.tolist(), strict=True)]
    opening = torch.tensor([answer[0] for answer in answers], device=first.device)
    totals = (first.gather(-1, opening[:, None])[:, 0] - first.logsumexp(-1)).cpu()
    further = [(n, k, answer[k]) for n, answer in enumerate(answers) for k in range(1, len(answer))]
    for start in range(0, len(further), LOGIT_ROWS):
        rows, steps, tokens = (torch.tensor(side) for side in zip(*further[start : start + LOGIT_ROWS], strict=True))
        logits = subject.logits(hidden[rows.to(hidden.device), steps.to(hidden.device)])
        chosen = logits.gather(-1, tokens.to(logits.device)[:, None])[:, 0]
        totals.index_add_(0, rows, (chosen - logits.logsumexp(-1)).cpu())
    return totals
