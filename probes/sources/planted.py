"""Planted adapters as a source: those that a plant made for the documents of a planting context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.errors import AdapterError
from override_gap.probes.organism.plants.context import PlantingContext
from override_gap.probes.organism.plants.plant import Plant, Planted


@dataclass(frozen=True, eq=False)
class PlantedSource:
    """One adapter per document of a context; a document outside it is an AdapterError."""

    plant: Plant
    context: PlantingContext
    seed: int = 0

    @cached_property
    def planted(self) -> Planted:
        """What the plant made, with the causes that it knows."""
        return self.plant(self.context, self.seed)

    @property
    def name(self) -> str:
        """As reports print it."""
        return f"hypernetwork-{self.plant.name}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The plant, its seed, and the hash of all its factors and documents."""
        return {"plant": self.plant.name, "seed": self.seed, "sha256": self._digest}

    @cached_property
    def _digest(self) -> str:
        digest = sha256(repr(self.context.documents).encode())
        for path, (a, b) in self.planted.factors.items():
            digest.update(path.encode())
            for tensor in (a, b):
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """The adapters of these documents. Raises AdapterError for one that was not there when they were made."""
        index = {text: n for n, text in enumerate(self.context.documents)}
        unknown = [document for document in documents if document.text not in index]
        if unknown:
            raise AdapterError(
                f"{self.plant.name} was planted for {len(index)} documents of the organism's own items, and "
                f"{unknown[0].text!r} is none of them; audit it on --items organism"
            )
        factors = self.planted.factors
        return [
            Adapter(
                f"{self.name}:{document.key}",
                {path: LowRank(a[index[document.text]], b[index[document.text]]) for path, (a, b) in factors.items()},
            )
            for document in documents
        ]
