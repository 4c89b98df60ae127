"""Natural: adapters in one forward pass from the hypernetwork shipped for a real model, or one trained into a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from margins.adapter import Adapter
from margins.items import Document
from margins.updates import LowRank
from probes.natural.hypernetwork import Hypernetwork
from probes.natural.load import Shipped, load
from probes.subject import Subject


@dataclass(frozen=True, eq=False)
class NaturalHypernetwork:
    """The hypernetwork of plain-language statements beside a float32 copy of the subject's base on the CPU.

    It reads documents with that copy, whatever the subject's number format and device, so an adapter is the same for all.
    """

    subject: Subject
    shipped: Shipped

    name = "hypernetwork"

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its weights' hash."""
        return {"sha256": self.shipped.digest}

    @cached_property
    def hypernetwork(self) -> Hypernetwork:
        """Opened when first asked for an adapter."""
        from transformers import LlamaForCausalLM

        where = self.subject.model.config.name_or_path
        base = LlamaForCausalLM.from_pretrained(where, dtype=torch.float32, attn_implementation="eager")
        return Hypernetwork(base.eval().requires_grad_(False), self.subject.tokenizer, self.shipped.network())

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter a document, rank 4 on the down projections of the upper layers."""
        factors = self.hypernetwork.encode([document.text for document in documents])
        return [
            Adapter(f"{self.name}:{document.key}", {path: LowRank(A[n], B[n]) for path, (A, B) in factors.items()})
            for n, document in enumerate(documents)
        ]


def natural_of(subject: Subject) -> NaturalHypernetwork | None:
    """The shipped hypernetwork if it was trained on this subject's base, judged by the fingerprint; else None."""
    try:
        shipped = load()
    except ValueError:
        return None
    return NaturalHypernetwork(subject, shipped) if shipped.fits(subject.fingerprint) else None
