"""Runs that may be compared: one base model, the same items, a measure that all of them hold; and their joint table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.readings import MEASURES, SPLITS, TIERS, RunFrame, Table, truth

SAME = ("point", "split", "tier", "question", "document", "answer", "prior_answer")
"""What makes two items with one id the same item."""

Array = np.ndarray
Runs = Mapping[str, RunFrame]


@dataclass(frozen=True, eq=False)
class Cell:
    """One comparison: success [item, method] of the items that every method was measured on; items in order of id."""

    split: str
    tier: str | None
    population: str
    measure: str
    items: Array
    points: Array
    success: Array

    def named(self) -> dict[str, Any]:
        """The keys that name it in a row."""
        return {"split": self.split, "tier": self.tier, "population": self.population, "measure": self.measure}


@dataclass(frozen=True, eq=False)
class Paired:
    """Readings of several methods under one condition; ``about`` has a row per shared item, by id."""

    methods: tuple[str, ...]
    condition: str
    about: Table
    known: Array
    success: Mapping[str, Array]
    """Measure -> success [item, method], NaN where not measured; only measures that all the methods hold."""
    notes: tuple[str, ...]

    def cells(self) -> Iterator[Cell]:
        """Every split, tier, population and measure in which something is shared."""
        split, tier = self.about["split"].to_numpy(dtype=object), self.about["tier"].to_numpy(dtype=object)
        for name in SPLITS:
            conflicts = name == "conflict"
            for wanted in (None, *TIERS) if conflicts else (None,):
                for population in ("all", "known") if conflicts else ("all",):
                    for measure, success in self.success.items():
                        keep = (split == name) & ~np.isnan(success).any(1)
                        keep &= True if wanted is None else tier == wanted
                        keep &= self.known if population == "known" else True
                        if keep.any():
                            items, points = self.about.index[keep], self.about["point"][keep]
                            yield Cell(
                                name, wanted, population, measure, items.to_numpy(dtype=object),
                                points.to_numpy(dtype=object), success[keep],
                            )  # fmt: skip


def pair(runs: Runs, condition: str) -> Paired:
    """Check that the runs can be compared and join them. Raises ValueError with the reason where they cannot."""
    if len(runs) < 2:
        raise ValueError(f"a comparison needs two runs or more, got {len(runs)}; give another run folder")
    one_subject(runs)
    about, notes = shared_items(runs)
    under = {name: measured(run, condition, about.index) for name, run in runs.items()}
    empty = [name for name, rows in under.items() if rows["status"].isna().all()]
    if empty:
        common = reduce(lambda a, b: [name for name in a if name in b], (run.conditions for run in runs.values()))
        raise ValueError(
            f"{empty[0]!r} has no measured reading under {condition!r} on the shared items; "
            f"--condition takes one that all runs hold: {', '.join(common) or 'there is none'}"
        )
    success = {m: np.column_stack([truth(rows[f"success_{m}"]) for rows in under.values()]) for m in MEASURES}
    held = {measure: (~np.all(np.isnan(table), axis=0)).tolist() for measure, table in success.items()}
    shared = {measure: table for measure, table in success.items() if (~np.isnan(table)).all(1).any()}
    if not shared:
        each = "; ".join(
            f"{name!r} holds {', '.join(m for m in MEASURES if held[m][place]) or 'none'}"
            for place, name in enumerate(runs)
        )
        raise ValueError(f"the runs share no measure under {condition!r} on the same items ({each}); audit again")
    for measure in MEASURES:
        if measure not in shared and any(held[measure]):
            notes.append(f"{measure} is left out: not every run measured it on the same items")
    known = np.all([truth(rows["known"]) == 1.0 for rows in under.values()], axis=0)
    for name, run in runs.items():
        if run.manifest.get("complete") is False:
            notes.append(f"{name}: the run is not complete")
    return Paired(tuple(runs), condition, about, known, shared, tuple(sorted(notes)))


def one_subject(runs: Runs) -> None:
    """Refuse runs on different base models: their margins and their known items are not the same thing."""
    seen: dict[str, str] = {}
    for name, run in runs.items():
        subject = run.manifest.get("subject") or {}
        print_ = subject.get("fingerprint")
        if not print_:
            raise ValueError(f"{name!r}: the manifest has no subject fingerprint, so its base is unknown; audit again")
        seen[name] = f"{subject.get('name')} {str(print_)[:12]}"
        first = next(iter(runs))
        if print_ != (runs[first].manifest.get("subject") or {}).get("fingerprint"):
            raise ValueError(
                f"{first!r} and {name!r} have different base models ({seen[first]} and {seen[name]}); "
                "compare runs that audited the same one"
            )


def shared_items(runs: Runs) -> tuple[Table, list[str]]:
    """What all runs say about the items that they share, by id, and a note where they do not hold the same ids."""
    each = {name: run.readings.drop_duplicates("item").set_index("item") for name, run in runs.items()}
    common = sorted(set.intersection(*(set(table.index) for table in each.values())))
    if not common:
        counts = ", ".join(f"{name!r} has {len(table):,}" for name, table in each.items())
        raise ValueError(f"the runs share no item ({counts}); compare runs of the same item file")
    first, *rest = each
    texts = {name: table.loc[common, list(SAME)].astype(object) for name, table in each.items()}
    texts = {name: table.where(table.notna(), "").astype(str) for name, table in texts.items()}
    for other in rest:
        differs = (texts[first] != texts[other]).any(axis=1)
        if differs.any():
            item = common[int(differs.to_numpy().argmax())]
            column = SAME[int((texts[first].loc[item] != texts[other].loc[item]).to_numpy().argmax())]
            raise ValueError(
                f"{first!r} and {other!r} do not share items: {int(differs.sum())} of {len(common)} ids stand for "
                f"different items, {str(item)[:40]!r} in its {column}; compare runs of the same item file"
            )
    total = len(set.union(*(set(table.index) for table in each.values())))
    notes = [] if len(common) == total else [f"compared on the {len(common):,} of {total:,} items that all runs hold"]
    hashes = {(run.manifest.get("items") or {}).get("sha256") for run in runs.values()}
    if len(hashes) > 1 and not notes:
        notes = ["the item files differ in more than the stored fields (aliases, order or metadata)"]
    return each[first].loc[common, list(SAME)].astype(object).where(lambda table: table.notna(), None), notes


def measured(run: RunFrame, condition: str, items: pd.Index) -> Any:
    """One row per shared item, null where the run did not measure it under the condition."""
    rows = run.measured
    return rows[rows["condition"] == condition].set_index("item").reindex(items)
