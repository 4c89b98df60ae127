"""The adapted model read where the answers first differ: one pass per batch, each row with its own adapter and gains."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.margins.adapter import layer_of
from override_gap.margins.items.item import Item
from override_gap.margins.items.joining import joined, stated_separator, with_separator
from override_gap.margins.kl import kl_divergence
from override_gap.margins.margin import Margins, token_logit
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.runtime import RuntimeBatch, acting_rows, final_states
from override_gap.probes.attach.stack import Stack, module_path
from override_gap.probes.readings.prior import Prior, locate
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.partial_forward import BlockOutputs, ResumePoint
from override_gap.probes.subject.stream_paths import StreamPath


@dataclass(frozen=True)
class Adapted:
    """The adapted model's readings of a batch: margins, the arg max token and its probability, log P(y_doc), the final state.

    `kl` is KL(base || adapted) of the next-token distributions where the answers first differ, in nats.
    `residual` is the stream before the first layer and after each, `written` what each layer's updates add to it at the
    reading position, and `block_outputs` what every block gave. They are None where not asked for, `written` also where
    some update's way into the stream is no straight line, and `logits` where the rows come from several passes.
    """

    margins: Margins
    top: Int[Tensor, " batch"]
    top_prob: Float[Tensor, " batch"]
    doc_logprob: Float[Tensor, " batch"]
    kl: Float[Tensor, " batch"]
    logits: Float[Tensor, "batch vocab"] | None
    hidden: Float[Tensor, "batch d_model"]
    residual: Float[Tensor, "batch depth d_model"] | None
    written: Float[Tensor, "batch layer d_model"] | None = None
    block_outputs: BlockOutputs | None = None


def read_base(prior: Prior, subject: Subject) -> Adapted:
    """The base's readings as a condition: adapter margin, push and pull are exactly 0."""
    return _adapted(subject, prior, prior.logits, prior.hidden, prior.residual)


def read_adapted(
    subject: Subject,
    prior: Prior,
    adapters: Stack | RuntimeBatch,
    gains: Float[Tensor, "batch layer"],
    *,
    layers: bool = False,
    resume: ResumePoint | None = None,
    keep_blocks: bool = False,
) -> Adapted:
    """Run the prior's batch again with adapters attached; `resume` and `keep_blocks` as `forward` takes them.

    The same tokens are fed as for the prior (the answer's later tokens have no effect on earlier positions), so that gain 0
    gives the base's numbers to the last bit. A RuntimeBatch takes gains of 0 and 1 only, and its stream is not read.
    """
    if isinstance(adapters, RuntimeBatch):
        return _read_runtime(subject, prior, adapters, gains)
    below = resume.layer if resume is not None else 0
    acting = Stack({p: u for p, u in adapters.sites.items() if (layer_of(p) or 0) >= below}, adapters.size)
    paths = stream_paths(subject, adapters) if layers else {}
    direct = layers and all(path.scale is not None for path in paths.values())
    written = torch.zeros(len(prior.pre), subject.n_layers, subject.d_model, device=subject.device) if direct else None
    if written is not None and resume is not None and resume.written is not None:
        written[:, :below] = resume.written[:, :below]
    rows = torch.arange(len(prior.pre), device=subject.device)

    def record_written(path: str, added: Float[Tensor, "#batch #pos d_model"]) -> None:
        layer = layer_of(path)
        if written is not None and layer is not None:
            added = added.expand(len(rows), prior.batch.ids.shape[1], -1)
            at = added[rows.to(added.device), prior.batch.at.to(added.device)].float().to(written.device)
            written[:, layer] += paths[path].written(at)

    with attached(subject, acting, gains, watch=record_written if direct else None):
        state = forward(
            subject, prior.batch, prior.batch.at[:, None], layers=layers, resume=resume, keep_blocks=keep_blocks
        )
    hidden = state.final[:, 0]
    adapted = _adapted(subject, prior, subject.logits(hidden), hidden, state.residual)
    return replace(adapted, written=written, block_outputs=state.block_outputs)


def stream_paths(subject: Subject, adapters: Stack) -> dict[str, StreamPath]:
    """By path of the update: what the stream gets of what it adds to its module's output."""
    modules = {path: module_path(path, update) for path, update in adapters.sites.items()}
    measured = subject.stream.of(list(modules.values()))
    return {path: measured[module] for path, module in modules.items()}


def fuse_logits(subject: Subject, prior: Prior, delivered: Adapted, gain: float) -> Adapted:
    """Logit fusion: base + gain * (adapted - base), on the logits; it has no residual stream."""
    assert delivered.logits is not None, "the adapter as delivered is one pass over the whole batch"
    logits = prior.logits + gain * (delivered.logits - prior.logits)
    return _from_logits(prior, logits, prior.logits, delivered.hidden, None)


def fill_prompt(prompt: str, item: Item) -> str:
    """A prompt with the item's texts filled in for {question}, {document}, {answer}, {statement} and {rival}.

    {statement} is the question followed by the document's answer; {rival} is the old answer, or "something else" where the
    item has none. Braces within the texts are left as they are.
    """
    texts = {
        "question": item.question,
        "document": item.document,
        "answer": item.answer,
        "statement": joined(item.question, item.answer, separator=stated_separator(item)),
        "rival": item.prior_answer or "something else",
    }
    return re.sub(r"\{(" + "|".join(texts) + r")\}", lambda match: texts[match[1]], prompt)


def read_in_context(subject: Subject, prior: Prior, items: Sequence[Item], prompt: str) -> Adapted:
    """The base with the document in its prompt, read at the same two tokens; its "adapter margin" is the prompt's effect.

    Raises ItemError where an item's answers do not differ in any token after the prompt.
    """
    prompted = [replace(with_separator(item), question=fill_prompt(prompt, item)) for item in items]
    batch = Batch.of([locate(subject, item) for item in prompted], subject.device).only(range(len(prompted)))
    hidden = forward(subject, batch, batch.at[:, None]).final[:, 0]
    return _adapted(subject, prior, subject.logits(hidden), hidden, None)


def _read_runtime(
    subject: Subject, prior: Prior, adapters: RuntimeBatch, gains: Float[Tensor, "batch layer"]
) -> Adapted:
    rows = acting_rows(gains)
    hidden, logits = prior.hidden.clone(), prior.logits.clone()
    if rows:
        hidden[rows] = final_states(subject, prior.batch, adapters, rows)
        logits[rows] = subject.logits(hidden[rows])
    return _adapted(subject, prior, logits, hidden, None)


def _adapted(subject: Subject, prior: Prior, logits: Tensor, hidden: Tensor, residual: Tensor | None) -> Adapted:
    """Margins from single float32 products, not from the logits of the large matrix product: same route for f and g."""
    f, g = partial(subject.token_logits, prior.hidden), partial(subject.token_logits, hidden)
    margins = Margins.read(f, g, prior.pre, prior.doc)
    return _readings(prior, logits, hidden, residual, margins)


def _from_logits(prior: Prior, logits: Tensor, base: Tensor, hidden: Tensor, residual: Tensor | None) -> Adapted:
    margins = Margins.read(partial(token_logit, base), partial(token_logit, logits), prior.pre, prior.doc)
    return _readings(prior, logits, hidden, residual, margins)


def _readings(prior: Prior, logits: Tensor, hidden: Tensor, residual: Tensor | None, margins: Margins) -> Adapted:
    top = logits.argmax(-1)
    total = logits.logsumexp(-1)
    both = logits.gather(-1, torch.stack([top, prior.doc], dim=1)) - total[:, None]
    return Adapted(
        margins=margins,
        top=top,
        top_prob=both[:, 0].exp(),
        doc_logprob=both[:, 1],
        kl=kl_divergence(prior.logits, logits),
        logits=logits,
        hidden=hidden,
        residual=residual,
    )
