"""A unit's adapters against each other and against the weights that they change: rows of the table `geometry`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.geometry import Gram, effective_rank, gram, stable_rank_of
from override_gap.margins.items.item import Document, Item
from override_gap.margins.null_adapters import is_finite
from override_gap.probes.attach.stack import check
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.spectra import Spectrum, read_each_spectrum
from override_gap.probes.run.comparisons import relation_of
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.subject.model import Subject

#: What the decompositions of a unit's changed weights may cost, in operations: about a minute on one core.
AFFORDABLE = 1e12
#: Operations of one of a square matrix, in its side cubed.
PER_CUBE = 10


@dataclass(frozen=True)
class ComparedDocuments:
    """The documents of a unit whose adapters can be compared, in the unit's order, with what each is about.

    `relations` are of what the document states: None where no item says. `points`: the knowledge points that ask about it.
    """

    keys: tuple[str, ...]
    adapters: tuple[Adapter, ...]
    relations: tuple[str | None, ...]
    points: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, subject: Subject, items: Sequence[Item], encoded: EncodedDocuments) -> ComparedDocuments:
        """Those of a unit's items whose adapters are finite weight updates that fit the subject.

        Rows of items tell of the others. A product with one that is not finite is no number, and has no decomposition.
        """
        asked: dict[str, list[Item]] = {}
        for item in items:
            asked.setdefault(item.document, []).append(item)
        made = ((text, encoded.adapters.get(text)) for text in asked)
        held = [(text, adapter) for text, adapter in made if isinstance(adapter, Adapter) and is_finite(adapter)]
        if not _fit(subject, [adapter for _, adapter in held]):
            held = [(text, adapter) for text, adapter in held if _fit(subject, [adapter])]
        return cls(
            tuple(Document(text).key for text, _ in held),
            tuple(adapter for _, adapter in held),
            tuple(stated_relation(asked[text]) for text, _ in held),
            tuple(frozenset(item.point for item in asked[text]) for text, _ in held),
        )

    def pairs(self) -> tuple[Bool[Tensor, "document document"], Bool[Tensor, "document document"]]:
        """Which pairs of two documents are of one relation, and which of different ones.

        A document whose relation is not known is a relation by itself; it is no pair with one that shares a knowledge point.
        """
        about = list(zip(self.relations, self.points, strict=True))
        same = torch.tensor([[left is not None and left == right for right, _ in about] for left, _ in about])
        shared = torch.tensor([[bool(points & rival) for _, rival in about] for _, points in about])
        return same & ~torch.eye(len(about), dtype=torch.bool), ~same & ~shared


def stated_relation(asked: Sequence[Item]) -> str | None:
    """The relation of what a document states: a retention question is of another one, or none."""
    return next((name for item in asked if item.split != "retention" and (name := relation_of(item))), None)


def geometry_rows(
    subject: Subject, items: Sequence[Item], encoded: EncodedDocuments, *, beside_weights: bool
) -> list[dict[str, Any]]:
    """One row per document and layer: its norm, and its inner products and cosines with the unit's other documents.

    `beside_weights`: stable ranks as well, and intruders and overlap, of large models for the unit's first documents alone.
    """
    documents = ComparedDocuments.of(subject, items, encoded)
    if len(documents.keys) < (1 if beside_weights else 2):
        return []
    same, other = documents.pairs()
    columns = {layer: _against_others(products, same, other) for layer, products in gram(documents.adapters).items()}
    spectra = _spectra(subject, affordable(subject, documents.adapters)) if beside_weights else {}
    rows = []
    for n, (key, adapter) in enumerate(zip(documents.keys, documents.adapters, strict=True)):
        ranks = stable_rank_of(adapter) if beside_weights else {}
        for layer, found in columns.items():
            numbers = {name: values[n] for name, values in found.items()}
            if not numbers["norm_squared"]:
                continue  # the adapter changes nothing there
            identity = {"document": key, "relation": documents.relations[n], "layer": layer}
            of_layer = spectra.get((n, layer), {})
            rows.append({**identity, **numbers, "stable_rank": ranks.get(layer), **of_layer})
    return rows


def _against_others(
    products: Gram, same: Bool[Tensor, "document document"], other: Bool[Tensor, "document document"]
) -> Mapping[str, list[Any]]:
    """A layer's columns, one value per document; None where a document has no pair of a kind."""
    squared = products.diagonal().clamp_min(0)
    lengths = squared.sqrt()
    cosines = (products / (lengths[:, None] * lengths[None])).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    columns: dict[str, list[Any]] = {"norm_squared": squared.tolist()}
    columns["effective_rank"] = [effective_rank(products)] * len(products)
    columns["n_unit"] = [int((squared > 0).sum())] * len(products)
    for kind, pairs in (("same", same), ("other", other)):
        counts = pairs.sum(1).tolist()
        columns[f"n_{kind}"] = counts
        for name, of_pairs in (("inner", products), ("cosine", cosines)):
            totals = (of_pairs * pairs).sum(1).tolist()
            columns[f"{name}_{kind}"] = [
                total / count if count else None for total, count in zip(totals, counts, strict=True)
            ]
    return columns


def affordable(subject: Subject, adapters: Sequence[Adapter]) -> Sequence[Adapter]:
    """The first adapters, at least one, whose changed weights can be decomposed at AFFORDABLE operations."""
    spent = 0.0
    for n, adapter in enumerate(adapters):
        sides = (
            min(subject.sites[path].d_out, subject.sites[path].d_in) for path in adapter.paths if path in subject.sites
        )
        spent += PER_CUBE * sum(float(side) ** 3 for side in sides)
        if spent > AFFORDABLE:
            return adapters[: max(n, 1)]
    return adapters


def _spectra(subject: Subject, adapters: Sequence[Adapter]) -> dict[tuple[int, int], dict[str, Any]]:
    """By document and layer: intruders, and how much of the update lies in the weights' span, over the layer's maps."""
    found: dict[tuple[int, int], list[Spectrum]] = {}
    for n, spectrum in read_each_spectrum(subject, adapters):
        found.setdefault((n, spectrum.layer), []).append(spectrum)
    return {place: _over_maps(spectra) for place, spectra in found.items()}


def _over_maps(spectra: Sequence[Spectrum]) -> dict[str, Any]:
    whole = sum(s.norm**2 for s in spectra)
    return {
        "intruders": sum(s.intruders for s in spectra),
        "looked_at": sum(s.looked_at for s in spectra),
        "overlap": sum(s.inside * s.norm**2 for s in spectra) / whole,
        "overlap_random": sum(s.by_chance * s.norm**2 for s in spectra) / whole,
    }


def _fit(subject: Subject, adapters: Sequence[Adapter]) -> bool:
    try:
        check(subject, adapters)
    except AdapterError:
        return False  # the rows of its items say why
    return True
