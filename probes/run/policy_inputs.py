"""What policies may know of the items of a batch: the norms of their adapters' layers, and what the base and gain 1 showed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, AnyAdapter
from override_gap.margins.gain_policies import PolicyInputs
from override_gap.margins.items.item import Item
from override_gap.margins.items.relevance import is_relevant
from override_gap.probes.readings.adapted import Adapted
from override_gap.probes.readings.prior import Prior
from override_gap.probes.run import rows
from override_gap.probes.subject.model import Subject


def layer_norms(subject: Subject, adapters: Sequence[AnyAdapter]) -> Float[Tensor, "batch layer"]:
    """Frobenius norms of each layer's updates; NaN for a method that is no weight update (zero would be a norm)."""
    none = torch.full((subject.n_layers,), float("nan"))
    return rows.stacked_norms([a.layer_norms(subject.n_layers) if isinstance(a, Adapter) else none for a in adapters])


def policy_inputs(
    items: Sequence[Item], prior: Prior, at_gain_one: Adapted, norms: Float[Tensor, "batch layer"], seed: int
) -> list[PolicyInputs]:
    """What a policy may know of each item. A retention question has no margins to match: the document is not about it."""
    inputs = []
    for n, item in enumerate(items):
        about_document = item.split != "retention"
        inputs.append(
            PolicyInputs(
                norms=norms[n],
                base_top_prob=float(prior.top_prob[n]),
                base_says_document=bool(prior.says_document[n]) and about_document,
                relevant=is_relevant(item.document, item.question),
                prior_margin=float(at_gain_one.margins.prior[n]) if about_document else float("nan"),
                adapter_margin=float(at_gain_one.margins.adapter[n]) if about_document else float("nan"),
                seed=int.from_bytes(hashlib.sha256(f"{seed}:{item.document}".encode()).digest()[:7]),
            )
        )
    return inputs
