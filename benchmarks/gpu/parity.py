"""The organism's conflicts on a device against the same readings on the CPU: margins and first tokens, by format."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from override_gap.margins.items.item import documents_of
from override_gap.probes.attach.stack import stack
from override_gap.probes.items import open_items
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject

#: Nats by which margins may differ from the CPU's in float32; on an H200 1e-5, 0.12 and 0.02 were seen.
MOST = {"float32": 1e-4, "bfloat16": 0.5, "float16": 0.1}


@cache
def readings(device: str, dtype: str) -> tuple[Tensor, Tensor, Tensor]:
    """Prior and net margin of every conflict as delivered, nats, and whether the document's first token is the arg max."""
    items = [item for item in open_items("organism") if item.split == "conflict"]
    subject = open_subject("organism", device=device, dtype=dtype)
    documents = documents_of(items)
    adapters = dict(
        zip([d.text for d in documents], open_source("hypernetwork", subject).encode(documents), strict=True)
    )
    prior = read_prior(subject, items, [locate(subject, item) for item in items])
    own = stack(subject, [adapters[item.document] for item in items])
    state = read_adapted(subject, prior, own, torch.ones(len(items), subject.n_layers))
    return state.margins.prior.cpu(), state.margins.net.cpu(), state.top.cpu() == prior.doc.cpu()


def differences(device: str, dtype: str) -> tuple[float, float, int, int]:
    """Largest difference of prior and of net margins, nats, first tokens that differ, and of how many conflicts."""
    reference, found = readings("cpu", "float32"), readings(device, dtype)
    prior, net = ((a - b).abs().max().item() for a, b in zip(found[:2], reference[:2], strict=True))
    return prior, net, int((found[2] != reference[2]).sum()), len(found[0])
