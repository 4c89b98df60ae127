"""Outcomes of the candidates as arrays, one row per item and one column per candidate, by split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from override_gap.analyses.equal_cost import grid
from override_gap.analyses.readings import BASE, DELIVERED, RunFrame
from override_gap.analyses.tune.candidates import LEAST_MEASURED


@dataclass(frozen=True, eq=False)
class Sample:
    """One split: an outcome of every item under every candidate; none is missing."""

    items: Shaped[np.ndarray, " n"]
    points: Shaped[np.ndarray, " n"]
    values: Float[np.ndarray, "n candidate"]

    def __len__(self) -> int:
        return len(self.items)

    def columns(self, kept: Sequence[int]) -> Sample:
        """The same items under some of the candidates."""
        return Sample(self.items, self.points, self.values[:, list(kept)])


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What the candidates achieve and cost, from one run.

    `conflict`, `novel` and `combination` (the document and another fact): success by the budget's measure. `retention`:
    whether an unrelated answer that the base gives stays. `kl`: KL to the base at unrelated questions, nats; infinite where the
    readings say so.
    """

    names: tuple[str, ...]
    conflict: Sample
    retention: Sample | None
    kl: Sample | None
    novel: Sample | None
    combination: Sample | None
    left_out: dict[str, str]


def outcomes(run: RunFrame, names: Sequence[str], measure: str) -> Outcomes:
    """The candidates' outcomes on the items that all of them were measured on.

    A candidate that lacks more than 1 in 20 of a split's items is left out, with the reason; base and as-delivered stay.
    """
    column = f"success_{measure}"
    tables = {
        "conflict": grid(run, "conflict", column),
        "retention": grid(run, "retention", column),
        "kl": grid(run, "retention", "kl"),
        "novel": grid(run, "novel", column),
        "combination": grid(run, "combination", column),
    }
    wide, _ = tables["retention"]
    if DELIVERED not in wide or not wide[DELIVERED].notna().any():
        # audits answer conflicts and new facts in words: what an unrelated answer loses is then told by its first token
        tables["retention"] = grid(run, "retention", "success_top1")
    left_out: dict[str, str] = {}
    wide, kl_points = tables["kl"]
    if DELIVERED in wide and wide[DELIVERED].notna().any():
        # a measured row without a KL has an infinite one (docs/columns.md)
        measured = grid(run, "retention", "success_top1")[0].reindex(wide.index).notna()
        tables["kl"] = wide.where(wide.notna() | ~measured, np.inf), kl_points
    for split in ("conflict", "retention"):
        wide, _ = tables[split]
        asked = wide[DELIVERED].notna() if DELIVERED in wide else np.zeros(len(wide), bool)
        for name in names:
            if name in (BASE, DELIVERED) or not asked.any():
                continue
            share = float(wide[name][asked].notna().mean()) if name in wide else 0.0
            if share < LEAST_MEASURED:
                left_out[name] = f"measured on {share:.0%} of the {split} items"
    kept = tuple(name for name in names if name not in left_out)
    samples = {split: _sample(wide, points, kept) for split, (wide, points) in tables.items()}
    conflict = samples["conflict"] or Sample(np.array([], object), np.array([], object), np.zeros((0, len(kept))))
    retention = samples["retention"]
    if retention is not None and BASE in kept:
        held = retention.values[:, kept.index(BASE)] == 1
        retention = _rows(retention, held) if held.any() else None
    return Outcomes(kept, conflict, retention, samples["kl"], samples["novel"], samples["combination"], left_out)


def _sample(wide, points: Shaped[np.ndarray, " n"], names: Sequence[str]) -> Sample | None:
    """The items that were measured under every candidate; None where there is none."""
    if any(name not in wide for name in names):
        return None
    outcomes = wide[list(names)].to_numpy(float)
    whole = ~np.isnan(outcomes).any(axis=1)
    if not whole.any():
        return None
    return Sample(wide.index.to_numpy(object)[whole], points[whole], outcomes[whole])


def _rows(sample: Sample, kept: Bool[np.ndarray, " n"]) -> Sample:
    """Some of the items."""
    return Sample(sample.items[kept], sample.points[kept], sample.values[kept])
