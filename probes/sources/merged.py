"""The adapted model by another route: updates multiplied out and added to the weights, which are put back bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.quantised import holds_its_weight

Encode = Callable[[Sequence[Document]], list[Adapter]]


def merged_logits_of(subject: Subject, encode: Encode) -> Callable[[Document, str], Float[Tensor, " vocab"]] | None:
    """`native_logits` of a source whose method is to add factors to weights; None where a map of the base holds no plain weight.

    No hook is involved and the model's own forward runs, so that what the attachment adds is compared with what the
    merged weights do.
    """
    modules = [site.module for site in subject.sites.values()]
    if not all(holds_its_weight(module) and module.weight.device.type != "meta" for module in modules):
        return None
    return partial(_merged_logits, subject, encode)


@torch.no_grad()
def _merged_logits(subject: Subject, encode: Encode, document: Document, text: str) -> Float[Tensor, " vocab"]:
    """The model's own logits at the text's last token, nats, with the document's factors in its weights."""
    [adapter] = encode([document])
    ids = torch.tensor([subject.tokenize(text)], device=subject.device)
    with merged(subject, adapter):
        return subject.model(input_ids=ids).logits[0, -1].float().cpu()


@contextmanager
def merged(subject: Subject, adapter: Adapter) -> Iterator[None]:
    """Low-rank updates of linear maps added to the weights themselves; on exit these are as they were, bit for bit."""
    before: dict[Tensor, Tensor] = {}
    try:
        for path, update in adapter.updates.items():
            assert isinstance(update, LowRank)
            site = subject.sites[path]
            weight = site.module.weight
            assert isinstance(weight, Tensor)
            before[weight] = weight.detach().clone()
            product = update.scale * (update.B.float() @ update.A.float())  # [d_out, d_in]
            change = product.T if site.transposed else product
            weight.data.copy_(weight.float() + change.to(weight.device))
        yield
    finally:
        for weight, saved in before.items():
            weight.data.copy_(saved)
