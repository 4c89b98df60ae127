"""Natural: adapters in one forward pass from the hypernetwork shipped for a real model, or one trained into a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from margins.adapter import Adapter
from margins.items import Document
from margins.updates import LowRank
from probes.natural.hypernetwork import Hypernetwork
from probes.natural.load import FILE, WEIGHTS, Shipped, load
from probes.sites import AdapterError
from probes.sources.tensors import file_hash
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
        """Its weights' hash. The file is hashed, not the recipe believed."""
        return {"sha256": file_hash(self.shipped.folder / FILE)}

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


def shipped_for(subject: Subject) -> NaturalHypernetwork | None:
    """The hypernetwork that ships with the package, if it was trained on this subject's base; else None.

    Raises AdapterError where its weights were altered.
    """
    if not (WEIGHTS / "recipe.json").is_file() or not load(WEIGHTS).fits(subject.fingerprint):
        return None
    return trained_in(WEIGHTS, subject)


def trained_in(folder: Path, subject: Subject) -> NaturalHypernetwork:
    """One trained into a folder. Raises AdapterError where there is none, it was altered, or its base is another."""
    try:
        found = load(folder)
        intact = found.intact()
    except (ValueError, OSError) as fault:
        raise AdapterError(str(fault)) from fault
    if not intact:
        raise AdapterError(
            f"{folder}: the weights are not those that recipe.json records; train or copy the folder again"
        )
    if not found.fits(subject.fingerprint):
        base = found.recipe["base"]["name"]
        raise AdapterError(
            f"{folder}: a hypernetwork of {base} in float32, and {subject.name} has other weights; use that base, --dtype float32"
        )
    return NaturalHypernetwork(subject, found)
