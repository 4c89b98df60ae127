"""Prior: what the base model believes without an adapter, read for a batch of items in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import BELIEF, Item, ItemError
from override_gap.probes.subject.forward import Batch, ForwardState, forward
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.partial_forward import BlockOutputs
from override_gap.probes.subject.tokens import divergence_of

#: How many rows of logits over the whole vocabulary are computed at a time for an answer's further tokens.
LOGIT_ROWS = 64


@dataclass(frozen=True)
class Prior:
    """The base model's readings of a batch.

    `pre` and `doc` are the tokens the margin compares; `strength` is log P(y_pre | x) in nats, summed over the answer's
    `n_answer` tokens. `top` is the token that the base puts first in its answer, `top_prob` its probability. `logits`
    are the base's logits at the first position where the two answers differ; `top_at_divergence` is their arg max, and
    retention asks whether it stays. `known`: whether the base's first answer token is that of the prior answer
    (conflicts, and questions of belief that name one) or of the right answer (retention, other questions of belief); NaN for
    novel and combination items. `residual` is the stream before
    the first layer and after each, and `block_outputs` what every block gave; None where not asked for.
    """

    batch: Batch
    pre: Int[Tensor, " batch"]
    doc: Int[Tensor, " batch"]
    strength: Float[Tensor, " batch"]
    n_answer: Int[Tensor, " batch"]
    top: Int[Tensor, " batch"]
    top_prob: Float[Tensor, " batch"]
    known: Float[Tensor, " batch"]
    logits: Float[Tensor, "batch vocab"]
    hidden: Float[Tensor, "batch d_model"]
    top_at_divergence: Int[Tensor, " batch"]
    residual: Float[Tensor, "batch depth d_model"] | None
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
    """Where an item is read on a subject; the chat template is applied where the item has `chat` set. Raises ItemError."""
    divergence = divergence_of(subject.tokenizer, item, subject.chat)
    if subject.max_positions is not None and len(divergence.tokens) > subject.max_positions:
        raise ItemError(f"{len(divergence.tokens)} tokens, more than the model's {subject.max_positions} positions")
    return divergence


def read_prior(
    subject: Subject,
    items: Sequence[Item],
    divergences: Sequence[Divergence],
    *,
    layers: bool = False,
    side: str = "right",
    keep_blocks: bool = False,
    share: bool = False,
) -> Prior:
    """Run the base once and read prior strength, the first answer token, and the state where the answers differ.

    For an item without a prior answer y_pre is the base's arg max, or its second choice where the arg max is the document's
    answer already. For retention no document's answer exists: y_doc is the base's second choice, and what is tested is that
    the first choice is kept. `share`: run what all rows begin with once; nothing may be attached to
    the model.
    """
    batch = Batch.of(divergences, subject.device, side)
    starts = torch.tensor([d.start for d in divergences])
    ends = torch.tensor([len(d.fed) for d in divergences])
    spans = torch.tensor([len(d.tokens) for d in divergences]).sub(starts).clamp_min(1)
    offset = torch.arange(int(spans.max()))
    read = (starts[:, None] - 1 + offset).minimum(ends[:, None] - 1) + batch.shift.cpu()[:, None]
    read = torch.cat([batch.at.cpu()[:, None], read], dim=1).to(subject.device)
    state: ForwardState = forward(subject, batch, read, layers=layers, keep_blocks=keep_blocks, share=share)
    hidden = state.final[:, 0]
    # the same rows as under adapters, so that equal states give equal logits to the last bit
    logits = subject.logits(hidden)
    first = logits
    # rows whose answers share tokens before the divergence
    earlier = (read[:, 1] != read[:, 0]).nonzero().flatten()
    if len(earlier):
        first = logits.clone()
        first[earlier] = subject.logits(state.final[earlier, 1])
    top, top_at_divergence = first.argmax(-1), logits.argmax(-1)
    pre, doc = _competitors(items, divergences, logits)
    strength = _strength(subject, state.final[:, 1:], first, divergences, pre)
    answers = [_known_answer(item, divergence) for item, divergence in zip(items, divergences, strict=True)]
    known = [float("nan") if a is None else float(a == t) for a, t in zip(answers, top.tolist(), strict=True)]
    return Prior(
        batch=batch,
        pre=pre,
        doc=doc,
        strength=strength,
        n_answer=spans,
        top=top,
        top_prob=(first.gather(-1, top[:, None])[:, 0] - first.logsumexp(-1)).exp(),
        known=torch.tensor(known),
        logits=logits,
        hidden=hidden,
        top_at_divergence=top_at_divergence,
        residual=state.residual,
        block_outputs=state.block_outputs,
    )


def _known_answer(item: Item, divergence: Divergence) -> int | None:
    """The first token of the answer that a base which knows the fact gives; None where the item has no such answer."""
    if item.split == "conflict" or (item.split in BELIEF and divergence.pre is not None):
        return divergence.tokens[divergence.start]
    return divergence.doc if item.split == "retention" or item.split in BELIEF else None


def _competitors(
    items: Sequence[Item], divergences: Sequence[Divergence], logits: Float[Tensor, "batch vocab"]
) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]]:
    """The tokens y_pre and y_doc that each item's margin compares."""
    best = logits.topk(2, dim=-1).indices.tolist()
    pairs = []
    for item, divergence, (first, second) in zip(items, divergences, best, strict=True):
        if divergence.pre is not None:
            pairs.append((divergence.pre, divergence.doc))
        elif item.split == "retention":
            pairs.append((first, second))
        else:
            pairs.append((second if first == divergence.doc else first, divergence.doc))
    both = torch.tensor(pairs, device=logits.device)
    return both[:, 0], both[:, 1]


def _strength(
    subject: Subject,
    hidden: Float[Tensor, "batch answer d_model"],
    first: Float[Tensor, "batch vocab"],
    divergences: Sequence[Divergence],
    pre: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """log P(y_pre | x), nats: each of the answer's tokens predicted from the position before it.

    `first` holds the first token's logits; those of further tokens are computed only for rows that have such tokens.
    """
    answers = [d.tokens[d.start :] or (token,) for d, token in zip(divergences, pre.tolist(), strict=True)]
    opening = torch.tensor([answer[0] for answer in answers], device=first.device)
    totals = (first.gather(-1, opening[:, None])[:, 0] - first.logsumexp(-1)).cpu()
    further = [(n, k, answer[k]) for n, answer in enumerate(answers) for k in range(1, len(answer))]
    for start in range(0, len(further), LOGIT_ROWS):
        rows, steps, tokens = (torch.tensor(side) for side in zip(*further[start : start + LOGIT_ROWS], strict=True))
        logits = subject.logits(hidden[rows.to(hidden.device), steps.to(hidden.device)])
        chosen = logits.gather(-1, tokens.to(logits.device)[:, None])[:, 0]
        totals.index_add_(0, rows, (chosen - logits.logsumexp(-1)).cpu())
    return totals
