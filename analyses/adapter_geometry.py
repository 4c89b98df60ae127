"""Adapters against each other: how much of each is its document's own, by layer. No model is run: nothing is said of effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from override_gap.analyses.results import rows_frame
from override_gap.analyses.stats.bootstrap import bootstrap
from override_gap.analyses.stats.estimate import Estimate, HtmlRepr, json_number
from override_gap.analyses.stored_geometry import ONE_ADAPTER
from override_gap.margins.geometry import Gram, effective_rank, mean_cosine, own_share

MEANING = {
    "own_share": "share of the squared norm that is not common to all documents: 0 one adapter for all, 1 nothing in common",
    "same_relation": "mean cosine between adapters of documents of one relation",
    "other_relation": "mean cosine between adapters of documents of different relations",
    "effective_rank": "exp of the entropy of the singular values of all adapters together: at most the number of documents",
}


@dataclass(frozen=True, eq=False)
class AdapterGeometry(HtmlRepr):
    """The adapters of some documents against each other: over all layers (`own`), and per layer (`layers`).

    `same_relation` and `other_relation` are NaN where no pair of documents is of that kind.
    """

    documents: int
    own: Estimate
    same_relation: float
    other_relation: float
    effective_rank: float
    layers: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, products: Mapping[int, Gram], relations: Sequence[str | None], seed: int = 0) -> AdapterGeometry:
        """From inner products per layer, and each document's relation.

        What is common to all documents is read from pairs of different relations, and relations are resampled; a document
        without one is a relation by itself, and where all are of one relation every document is. Raises ValueError for fewer
        than two documents.
        """
        if len(relations) < 2:
            raise ValueError(f"need two documents or more to compare their adapters, got {len(relations)}")
        total = torch.stack(list(products.values())).sum(0)
        same, other = pairs_by_relation(relations)
        clusters = [f"document {n}" if name is None else f"relation {name}" for n, name in enumerate(relations)]
        if len(set(clusters)) == 1:
            clusters = [f"document {n}" for n in range(len(relations))]
        apart = torch.tensor([[one != two for two in clusters] for one in clusters])

        def statistic(w: Float[np.ndarray, "replicate n"]) -> Float[np.ndarray, " replicate"]:
            return own_share(total, apart, torch.from_numpy(w)).numpy()

        own = bootstrap("own share of the squared norm", statistic, np.array(clusters, dtype=object), seed)
        layers = tuple(
            {
                "layer": layer,
                "norm": json_number(float(of_layer.diagonal().mean().sqrt())),
                "own_share": json_number(own_share(of_layer, apart).item()),
                "same_relation": json_number(mean_cosine(of_layer, same)),
                "other_relation": json_number(mean_cosine(of_layer, other)),
                "effective_rank": json_number(effective_rank(of_layer)),
            }
            for layer, of_layer in products.items()
        )
        return cls(
            len(relations), own, mean_cosine(total, same), mean_cosine(total, other), effective_rank(total), layers
        )

    @property
    def one_adapter(self) -> bool:
        """Whether the documents all but share one adapter: the own share's upper limit is below ONE_ADAPTER."""
        return self.own.high < ONE_ADAPTER

    def as_json(self) -> dict[str, Any]:
        """Every number."""
        return {
            "documents": self.documents,
            "own_share": self.own.as_json(),
            "one_adapter": self.one_adapter,
            "same_relation": json_number(self.same_relation),
            "other_relation": json_number(self.other_relation),
            "effective_rank": json_number(self.effective_rank),
            "layers": list(self.layers),
        }

    def frame(self) -> Any:
        """One row per layer."""
        return rows_frame(self.layers)

    def summary(self) -> str:
        """What `print` shows."""
        return str(self)

    def __str__(self) -> str:
        lines = [
            f"adapters of {self.documents} documents",
            f"own share of the squared norm {_text(self.own.value)} [{_text(self.own.low)}, {_text(self.own.high)}] "
            "(0: one adapter for all documents, 1: nothing in common)",
            f"mean cosine: documents of one relation {_text(self.same_relation)}, of different ones {_text(self.other_relation)}",
            f"effective rank over documents {self.effective_rank:.3g} of {self.documents}",
        ]
        if self.one_adapter:
            lines.append(
                f"the documents share one adapter: less than {ONE_ADAPTER:.0%} of its squared norm is a document's own"
            )
        return "\n".join(lines)


def pairs_by_relation(
    relations: Sequence[str | None],
) -> tuple[Bool[Tensor, "document document"], Bool[Tensor, "document document"]]:
    """Which pairs of documents are of one relation, and which of two different ones; those without a relation are in neither."""
    known = torch.tensor([name is not None for name in relations])
    numbers = {name: n for n, name in enumerate(dict.fromkeys(relations))}
    codes = torch.tensor([numbers[name] for name in relations])
    both, alike = known[:, None] & known[None], codes[:, None] == codes[None]
    return both & alike, both & ~alike


def _text(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"
