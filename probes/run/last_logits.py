"""Logits at the last token of each of some texts: the base's own, or with an adapter each at one gain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import AnyAdapter
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.runtime import RuntimeBatch, batched, final_states
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.parity import unit_roundoff
from override_gap.probes.subject.tokens import pad


@torch.no_grad()
def last_logits(
    subject: Subject, texts: Sequence[Sequence[int]], adapters: Sequence[AnyAdapter], gain: float | None
) -> Float[Tensor, "batch vocab"]:
    """Logits at the last token of each text, in nats; the base's own where the gain is None.

    `texts` are token ids. Adapters that are no weight updates run as they are, whatever the gain. Raises AdapterError.
    """
    ids, mask = pad([list(text) for text in texts])
    last, none = mask.sum(1) - 1, torch.zeros(len(texts), dtype=torch.long)
    batch = Batch(*(tensor.to(subject.device) for tensor in (ids, mask, last, none)))
    if gain is None:
        return subject.logits(forward(subject, batch, batch.at[:, None]).final[:, 0]).cpu()
    together = batched(subject, adapters, mask.sum(1).tolist())
    if isinstance(together, RuntimeBatch):
        return subject.logits(final_states(subject, batch, together, range(len(texts)))).cpu()
    gains = torch.full((len(texts), subject.n_layers), gain)
    with attached(subject, together, gains):
        return subject.logits(forward(subject, batch, batch.at[:, None]).final[:, 0]).cpu()


def two_routes_tolerance(subject: Subject, logits: Float[Tensor, "batch vocab"], dtype: torch.dtype) -> float:
    """How far logits by two routes (in a batch or alone, beside the weights or merged into them) may differ, nats.

    `dtype` is the coarser number format of the two. In float32 that of the subject's parity. In bfloat16 and float16 both
    routes round every layer otherwise: on SmolLM2 an adapter merged into the weights gave logits up to 4.5 u times the
    largest away, u the unit roundoff; 8 u are allowed.
    """
    if dtype == torch.float32:
        return subject.parity_tolerance()
    return max(1e-3, 8 * unit_roundoff(dtype) * logits.abs().max().item())
