"""Runs that can be compared (one base model, shared items, a shared measure), joined into one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from override_gap.analyses.looks import looks_of
from override_gap.analyses.readings import MEASURES, SPLITS, TIERS, RunFrame, Table, first_rows, points_of, truth
from override_gap.analyses.refusals import unpriced
from override_gap.probes.store.manifest import TOLD_QUESTIONS, told_questions

SAME = ("point", "split", "tier", "question", "document", "answer", "prior_answer")
"""What makes two items with one id the same item."""
Runs = Mapping[str, RunFrame]


@dataclass(frozen=True, eq=False)
class Cell:
    """Success of every method on the items that all were measured on, for one split, tier, population and measure; by id."""

    split: str
    tier: str | None
    population: str
    measure: str
    items: Shaped[np.ndarray, " n"]
    points: Shaped[np.ndarray, " n"]
    success: Float[np.ndarray, "n method"]

    def named(self) -> dict[str, Any]:
        """The keys that name the cell in a row."""
        return {"split": self.split, "tier": self.tier, "population": self.population, "measure": self.measure}


@dataclass(frozen=True, eq=False)
class Paired:
    """Readings of several methods under one condition; ``about`` has one row per shared item, by id."""

    methods: tuple[str, ...]
    condition: str
    about: Table
    known: Bool[np.ndarray, " n"]
    success: Mapping[str, Float[np.ndarray, "n method"]]
    """Measure -> success, NaN where not measured; only measures that all methods have."""
    notes: tuple[str, ...]

    def cells(self) -> Iterator[Cell]:
        """One cell per split, tier, population and measure in which all methods have an item."""
        split, tier = self.about["split"].to_numpy(dtype=object), self.about["tier"].to_numpy(dtype=object)
        for name in SPLITS:
            conflicts = name == "conflict"
            for tier_name in (None, *TIERS) if conflicts else (None,):
                for population in ("all", "known") if conflicts else ("all",):
                    for measure, success in self.success.items():
                        keep = (split == name) & ~np.isnan(success).any(1)
                        keep &= True if tier_name is None else tier == tier_name
                        keep &= self.known if population == "known" else True
                        if keep.any():
                            items, points = self.about.index[keep], points_of(self.about)[keep]
                            yield Cell(
                                name, tier_name, population, measure, items.to_numpy(dtype=object),
                                points, success[keep],
                            )  # fmt: skip


def pair(runs: Runs, condition: str | Mapping[str, str]) -> Paired:
    """Join the runs on their shared items, under one condition or under one of each by name.

    Raises ValueError, with the reason, where they cannot be compared.
    """
    of = dict.fromkeys(runs, condition) if isinstance(condition, str) else dict(condition)
    named = ", ".join(dict.fromkeys(of.values()))
    if len(runs) < 2:
        raise ValueError(f"a comparison needs two runs or more, got {len(runs)}; give another run folder")
    one_subject(runs)
    about, notes = shared_items(runs)
    notes += asked_otherwise(runs)
    under = {name: measured_rows(run, of[name], about.index) for name, run in runs.items()}
    empty = [name for name, rows in under.items() if rows["status"].isna().all()]
    if empty:
        comparable = ([*run.conditions, *run.factor_means] for run in runs.values())
        common = reduce(lambda a, b: [name for name in a if name in b], comparable)
        raise ValueError(
            f"{empty[0]!r} has no measured reading under {of[empty[0]]!r} on the shared items; "
            f"give --condition one that all runs have: {', '.join(common) or 'there is none'}"
        )
    success = {m: np.column_stack([truth(rows[f"success_{m}"]) for rows in under.values()]) for m in MEASURES}
    measured = {measure: (~np.all(np.isnan(table), axis=0)).tolist() for measure, table in success.items()}
    unrelated = (about["split"] == "retention").to_numpy()
    for name, run in runs.items():
        if unrelated.any() and of[name] in unpriced(run):
            notes.append(f"{name}: {of[name]} cannot be applied to many unrelated questions in use; they are left out")
            success = {m: np.where(unrelated[:, None], np.nan, table) for m, table in success.items()}
    shared = {measure: table for measure, table in success.items() if (~np.isnan(table)).all(1).any()}
    if not shared:
        each = "; ".join(
            f"{name!r} has {', '.join(m for m in MEASURES if measured[m][k]) or 'none'}" for k, name in enumerate(runs)
        )
        raise ValueError(f"the runs share no measure under {named!r} on the same items ({each}); audit again")
    for measure in MEASURES:
        if measure not in shared and any(measured[measure]):
            notes.append(f"{measure} is left out: not every run measured it on the same items")
    told = [name for name, run in runs.items() if told_questions(run.manifest.get("adapters"))]
    if 0 < len(told) < len(runs):
        notes += [f"{name}: {TOLD_QUESTIONS}; others were given the documents alone" for name in told]
    known = np.all([truth(rows["known"]) == 1.0 for rows in under.values()], axis=0)
    for name, run in runs.items():
        if run.manifest.get("complete") is False:
            notes.append(f"{name}: the run is not complete")
        notes += [f"{name}: {caution}" for caution in run.cautions]
        looks = looks_of(run.manifest)
        if looks is not None and looks.stopped:
            # notes end without a full stop
            notes.append(f"{name}: {looks.sentence[0].lower()}{looks.sentence[1:].removesuffix('.')}")
    return Paired(tuple(runs), named, about, known, shared, tuple(sorted(notes)))


def one_subject(runs: Runs) -> None:
    """Raise ValueError where runs have different base models: their margins and known items cannot be compared."""
    subjects: dict[str, str] = {}
    for name, run in runs.items():
        subject = run.manifest.get("subject") or {}
        fingerprint = subject.get("fingerprint")
        if not fingerprint:
            raise ValueError(f"{name!r}: the manifest has no subject fingerprint, so its base is unknown; audit again")
        subjects[name] = f"{subject.get('name')} {str(fingerprint)[:12]}"
        first = next(iter(runs))
        if fingerprint != (runs[first].manifest.get("subject") or {}).get("fingerprint"):
            raise ValueError(
                f"{first!r} and {name!r} have different base models ({subjects[first]} and {subjects[name]}); "
                "compare runs that audited the same one"
            )


def asked_otherwise(runs: Runs) -> list[str]:
    """A note where runs do not put their questions in the same way: then not only the methods differ."""
    names = ("template_sha256", "args", "system", "day")
    first, *rest = runs
    asked = {}
    for name, run in runs.items():
        plan, chat = run.manifest.get("plan") or {}, run.manifest.get("chat") or {}
        asked[name] = [plan.get("system_prompt"), bool(chat), *(chat.get(key) for key in names)]
    others = [name for name in rest if asked[name] != asked[first]]
    if not others:
        return []
    return [
        f"{first!r} and {others[0]!r} do not put their questions in the same way (chat template, its settings, system prompt)"
    ]


def shared_items(runs: Runs) -> tuple[Table, list[str]]:
    """The texts of the items that all runs share, by id, and a note where the runs do not have the same items.

    Raises ValueError where none is shared, or one id stands for different items.
    """
    each = {name: first_rows(run.readings, [*SAME, "cluster"]).set_index("item") for name, run in runs.items()}
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
    notes = [] if len(common) == total else [f"compared on the {len(common):,} of {total:,} items that all runs have"]
    hashes = {(run.manifest.get("items") or {}).get("sha256") for run in runs.values()}
    if len(hashes) > 1 and not notes:
        notes = ["the item files differ in more than the stored fields (aliases, order or metadata)"]
    about = each[first].loc[common, list(SAME)].astype(object)
    cluster, note = shared_clusters({name: table.loc[common, "cluster"] for name, table in each.items()})
    about = about.assign(cluster=cluster)
    return about.where(lambda table: table.notna(), None), [*notes, *note]


def shared_clusters(each: Mapping[str, pd.Series]) -> tuple[pd.Series, list[str]]:
    """The clusters by which the shared items are alike: those of the first run that has any; a note where another's differ."""
    known = {name: column for name, column in each.items() if column.notna().any()}
    first = next(iter(known), next(iter(each)))
    others = [name for name in known if not each[name].astype(object).equals(each[first].astype(object))]
    if not others:
        return each[first], []
    return each[first], [
        f"{first!r} and {others[0]!r} were audited with other --cluster fields; intervals allow for those of {first!r}"
    ]


def measured_rows(run: RunFrame, condition: str, items: pd.Index) -> Any:
    """One row per shared item, null where the run did not measure it under the condition."""
    rows = run.measured
    return rows[rows["condition"] == condition].set_index("item").reindex(items)
