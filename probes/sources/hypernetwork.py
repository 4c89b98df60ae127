"""Hypernetwork: adapters in one forward pass from the hypernetwork that a subject ships, or with a fault planted in it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from margins.adapter import Adapter
from margins.items import Document
from margins.updates import LowRank
from probes.organism.faults import FAULTS, Fault, scaled
from probes.organism.load import Organism, load
from probes.sites import AdapterError
from probes.sources.natural import NaturalHypernetwork, shipped_for, trained_in
from probes.sources.tensors import file_hash
from probes.subject import Subject


@dataclass(frozen=True, eq=False)
class OrganismHypernetwork:
    """The organism's own hypernetwork; `fault` spoils its updates in a known way, `gains` by document key scale them."""

    organism: Organism
    fault: Fault | None = None
    seed: int = 0
    gains: Mapping[str, float] | None = None

    @property
    def name(self) -> str:
        """As reports print it."""
        return f"hypernetwork-{self.fault.name}" if self.fault else "hypernetwork"

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its weights' hash, and the fault with its seed. The file is hashed, not the recipe believed."""
        planted = {} if self.fault is None else {"fault": self.fault.name, "seed": self.seed}
        louder = {} if self.gains is None else {"gains": dict(sorted(self.gains.items()))}
        return {"sha256": file_hash(self.organism.folder / "hypernetwork.safetensors"), **planted, **louder}

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter a document; all documents together, since some faults exchange updates among them."""
        factors = self.organism.hypernetwork.encode([document.text for document in documents])
        if self.fault is not None:
            factors = self.fault(factors, self.seed)
        if self.gains is not None:
            factors = scaled(factors, torch.tensor([self.gains[document.key] for document in documents]))
        return [
            Adapter(f"{self.name}:{document.key}", {path: LowRank(A[n], B[n]) for path, (A, B) in factors.items()})
            for n, document in enumerate(documents)
        ]


def open_hypernetwork(
    subject: Subject, fault: str = "", seed: int = 0, folder: str = ""
) -> OrganismHypernetwork | NaturalHypernetwork:
    """The hypernetwork that belongs to a subject: the organism's, or the one trained on a real base of this fingerprint,
    or the one in `folder`.

    Raises AdapterError where there is none, where the fault is unknown, or for a fault in any but the organism's.
    """
    planted = {one.name: one for one in FAULTS}
    if fault and fault not in planted:
        near = difflib.get_close_matches(fault, planted, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise AdapterError(f"unknown fault {fault!r}{hint} Known: {', '.join(planted)}")
    natural = trained_in(Path(folder), subject) if folder else shipped_for(subject)
    if natural is None:
        return OrganismHypernetwork(organism_of(subject), planted.get(fault), seed)
    if fault:
        raise AdapterError(
            f"fault={fault}: faults are planted in the organism's hypernetwork alone; use --subject organism"
        )
    return natural


def organism_of(subject: Subject) -> Organism:
    """The organism whose base this subject is, the shipped one or one trained into a folder."""
    folder = Path(str(subject.model.config.name_or_path)).parent
    if not (folder / "hypernetwork.safetensors").is_file():
        raise AdapterError(
            f"{subject.name} ships no hypernetwork, or none that was trained on these weights; train one "
            f"(docs/smollm2-hypernetwork.md), use --subject organism, or other --adapters (`override-gap list adapters`)"
        )
    return load(folder=folder)
