"""Methods side by side: outcomes, paired differences, the items that only one of them gets, and how firm the order is."""

from __future__ import annotations

import html
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from override_gap.analyses.compare.conditions import paired
from override_gap.analyses.compare.pairing import Cell, Paired, Runs, pair
from override_gap.analyses.readings import DELIVERED
from override_gap.analyses.stats.bootstrap import REPLICATES, bootstrap_weights
from override_gap.analyses.stats.estimate import number
from override_gap.analyses.stats.intervals import clusters, proportion
from override_gap.analyses.stats.paired import holm

SCHEMA = 1

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Methods:
    """A comparison's rows, each a plain dict that names its split, tier, population and measure.

    ``outcomes``: one a method. ``pairs``: first minus second, p clustered by knowledge point, p_holm over all pairs of
    methods in that place. ``order``: the methods from best to worst and how often resampling keeps that order.
    ``only``: the items that one method alone gets.
    """

    methods: tuple[dict[str, Any], ...]
    condition: str
    subject: dict[str, Any]
    items: dict[str, Any]
    measures: tuple[str, ...]
    outcomes: tuple[dict[str, Any], ...]
    pairs: tuple[dict[str, Any], ...]
    order: tuple[dict[str, Any], ...]
    only: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The whole comparison as plain JSON."""
        lists = ("methods", "measures", "outcomes", "pairs", "order", "only", "notes")
        kept = {"condition": self.condition, "subject": self.subject, "items": self.items}
        return {"schema": SCHEMA, **kept, **{name: list(getattr(self, name)) for name in lists}}

    def __str__(self) -> str:
        lines = [f"{len(self.methods)} methods, {self.condition}, {self.items['shared']} shared items"]
        for row in self.pairs:
            if row["tier"] is None and row["population"] == "all":
                found, p = row["difference"], row["p_holm"]
                lines.append(
                    f"{row['split']} {row['measure']}: {row['first']} minus {row['second']} {_interval(found)}, "
                    f"Holm p {'-' if p is None else format(p, '.3g')}, n={found['n']}, points={found['points']}"
                )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _interval(found: dict[str, Any]) -> str:
    value, low, high = ("-" if found[key] is None else f"{found[key]:.3g}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def side_by_side(runs: Runs, condition: str = DELIVERED, seed: int = 0) -> Methods:
    """Compare runs by name under one condition, on the items that all of them measured. Raises ValueError."""
    joint = pair(runs, condition)
    cells = list(joint.cells())
    first = next(iter(runs.values()))
    return Methods(
        methods=tuple(
            {"name": name, "adapters": run.manifest.get("adapters"), "items": run.manifest.get("items")}
            for name, run in runs.items()
        ),
        condition=condition,
        subject=dict(first.manifest.get("subject") or {}),
        items={"shared": len(joint.about), "points": int(joint.about["point"].nunique())},
        measures=tuple(joint.success),
        outcomes=tuple(row for cell in cells for row in outcomes(cell, joint.methods)),
        pairs=tuple(row for cell in cells for row in pairs(cell, joint.methods)),
        order=tuple(order(cell, joint.methods, seed) for cell in cells),
        only=tuple(
            row for cell in cells if cell.tier is None and cell.population == "all" for row in only(cell, joint)
        ),
        notes=joint.notes,
    )


def outcomes(cell: Cell, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Success of each method with its clustered interval, all on the same items."""
    return [
        {**cell.named(), "method": name, **proportion("success", own, cell.points).as_json()}
        for name, own in zip(names, cell.success.T, strict=True)
    ]


def pairs(cell: Cell, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every two methods: paired difference, clustered p, Holm's adjustment over the pairs of this cell."""
    found = [
        paired(cell.success[:, a], cell.success[:, b], cell.points, (names[a], names[b]), cell.split, cell.measure)
        for a, b in combinations(range(len(names)), 2)
    ]
    adjusted = holm([own.p for own in found])
    return [{**cell.named(), **own.as_json(), "p_holm": number(p)} for own, p in zip(found, adjusted, strict=True)]


def order(cell: Cell, names: tuple[str, ...], seed: int = 0, replicates: int = REPLICATES) -> dict[str, Any]:
    """How firm the order of the methods is when whole knowledge points are drawn anew.

    ``holds``: share of replicates in which no two methods that differ here change sides or become equal; null where
    none differ. ``first``: share in which a method is best, divided among those that tie. ``rank``: 1 is best, ties
    share the mean rank, with the 95% percentile range over replicates. With one point only, nothing can be drawn.
    """
    codes, count = clusters(cell.points)
    seen = cell.success.sum(0)
    ranks = _ranks(seen[None])[0]
    place = sorted(range(len(names)), key=lambda k: (ranks[k], names[k]))
    row = {**cell.named(), "points": count, "holds": None}
    spread: dict[int, dict[str, float | None]] = {
        k: {"first": None, "rank_low": None, "rank_high": None} for k in place
    }
    if count > 1:
        # Sums of whole numbers: every method has the same denominator in a replicate, so ties are exact.
        drawn = np.vstack([w @ cell.success for w in bootstrap_weights(codes, count, replicates, seed)])
        differing = [(a, b) for a, b in combinations(range(len(names)), 2) if seen[a] != seen[b]]
        if differing:
            kept = [np.sign(drawn[:, a] - drawn[:, b]) == np.sign(seen[a] - seen[b]) for a, b in differing]
            row["holds"] = float(np.all(kept, axis=0).mean())
        best = drawn == drawn.max(1, keepdims=True)
        first = (best / best.sum(1, keepdims=True)).mean(0)
        low, high = np.quantile(_ranks(drawn), [0.025, 0.975], axis=0)
        spread = {k: {"first": first[k], "rank_low": low[k], "rank_high": high[k]} for k in place}
    row["methods"] = [
        {"method": names[k], "rank": float(ranks[k])} | {key: number(value) for key, value in spread[k].items()}
        for k in place
    ]
    return row


def _ranks(sums: Array) -> Array:
    """Rank [replicate, method] of sums, 1 the largest, ties at the mean of their ranks."""
    above = (sums[:, None, :] > sums[:, :, None]).sum(2)
    level = (sums[:, None, :] == sums[:, :, None]).sum(2)
    return above + (level + 1) / 2


def only(cell: Cell, joint: Paired) -> list[dict[str, Any]]:
    """The items that a method gets and no other does; ``all`` and ``none`` count those that everyone and no one gets."""
    won = cell.success > 0.5
    many = won.sum(1)
    counts = {"all": int((many == won.shape[1]).sum()), "none": int((many == 0).sum()), "n": len(won)}
    rows = []
    for number_, name in enumerate(joint.methods):
        ids = cell.items[won[:, number_] & (many == 1)]
        about = joint.about.loc[ids, ["point", "question", "answer", "prior_answer"]].reset_index()
        rows.append({**cell.named(), "method": name, "count": len(ids), **counts, "items": about.to_dict("records")})
    return rows
