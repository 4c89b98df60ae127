"""Methods side by side: success, paired differences, items that only one method gets right, and how stable the ranking is."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from override_gap.analyses.compare.conditions import Comparison, holm_rows, paired
from override_gap.analyses.compare.pairing import Cell, Paired, Runs, pair
from override_gap.analyses.readings import DELIVERED
from override_gap.analyses.results import number_text, rows_frame
from override_gap.analyses.stats.bootstrap import REPLICATES, bootstrap_weights
from override_gap.analyses.stats.clusters import clusters, levels
from override_gap.analyses.stats.estimate import LEVEL, json_number
from override_gap.analyses.stats.intervals import proportion

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Methods:
    """A comparison of methods as tables, whose rows are plain dicts that name their split, tier, population and measure.

    ``outcomes``: one row per method. ``pairs``: first minus second, p clustered by knowledge point, p_holm over all pairs
    of methods in that cell, low_holm and high_holm the interval that excludes 0 exactly where p_holm is below .05.
    ``order``: the methods from best to worst and how often resampling keeps that order. ``only``: the items that only one
    method gets right. ``verdicts``: what each run says of the method's failures as delivered, over all that the run measured,
    not the shared items alone. ``budget``: every method at its best policy within one price (`analyses/one_budget`), None
    where none can be judged. ``answer``: all of it in three sentences (`analyses/one_budget/answer.py`).
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
    verdicts: tuple[dict[str, Any], ...] = ()
    budget: Mapping[str, Any] | None = None
    answer: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The whole comparison as plain JSON."""
        lists = ("methods", "measures", "outcomes", "pairs", "order", "only", "verdicts", "notes")
        about = {"condition": self.condition, "subject": self.subject, "items": self.items}
        budget = {} if self.budget is None else {"budget": dict(self.budget)}
        answer = {} if self.answer is None else {"answer": dict(self.answer)}
        return {"schema": SCHEMA, **answer, **about, **{name: list(getattr(self, name)) for name in lists}, **budget}

    def frame(self, table: str = "pairs") -> pd.DataFrame:
        """One of the tables: pairs, outcomes, order, only or verdicts."""
        return rows_frame(getattr(self, table))

    def summary(self) -> str:
        """The comparison as text: what `print` shows."""
        return str(self)

    def __str__(self) -> str:
        lines = [] if self.answer is None else [self.answer[key] for key in ("compared", "found", "do")]
        lines += [f"{len(self.methods)} methods, {self.condition}, {self.items['shared']} shared items"]
        for row in self.pairs:
            if row["tier"] is None and row["population"] == "all":
                gap, p = row["difference"], number_text(row["p_holm"])
                interval = f"{number_text(gap['value'])} [{number_text(gap['low'])}, {number_text(gap['high'])}]"
                lines.append(
                    f"{row['split']} {row['measure']}: {row['first']} minus {row['second']} {interval}, "
                    f"Holm p {p}, n={gap['n']}, points={gap['points']}"
                )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def side_by_side(runs: Runs, condition: str | Mapping[str, str] = DELIVERED, seed: int = 0) -> Methods:
    """Compare runs by name, under one condition or one of each, on the items that all measured. Raises ValueError."""
    of = dict.fromkeys(runs, condition) if isinstance(condition, str) else dict(condition)
    joint = pair(runs, condition)
    cells = list(joint.cells())
    first = next(iter(runs.values()))
    return Methods(
        methods=tuple(
            {
                "name": name,
                "condition": of[name],
                "adapters": run.manifest.get("adapters"),
                "items": run.manifest.get("items"),
                "scale": (run.manifest.get("handshake") or {}).get("scale"),
            }
            for name, run in runs.items()
        ),
        condition=joint.condition,
        subject=dict(first.manifest.get("subject") or {}),
        items={"shared": len(joint.about), "points": int(joint.about["point"].nunique())},
        measures=tuple(joint.success),
        outcomes=tuple(row for cell in cells for row in outcomes(cell, joint.methods)),
        pairs=tuple(row for cell in cells for row in pairs(cell, joint.methods)),
        order=tuple(order(cell, joint.methods, seed) for cell in cells),
        only=tuple(
            row for cell in cells if cell.tier is None and cell.population == "all" for row in only(cell, joint)
        ),
        notes=(*joint.notes, *scale_notes(runs)),
    )


def scale_notes(runs: Runs) -> list[str]:
    """A note that names the methods whose scale is not verified against their own logits; none where all are."""
    scales = {name: (run.manifest.get("handshake") or {}).get("scale") or {} for name, run in runs.items()}
    unverified = sorted(name for name, scale in scales.items() if scale.get("verified") is not True)
    return [f"scale not verified: {', '.join(unverified)}"] if unverified else []


def outcomes(cell: Cell, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Success rate of each method with its clustered interval, all on the same items."""
    return [
        {**cell.named(), "method": name, **proportion("success", success, cell.points).as_json()}
        for name, success in zip(names, cell.success.T, strict=True)
    ]


def pairs(cell: Cell, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every two methods: paired difference, clustered p, Holm's adjustment over the pairs of this cell, with its interval."""
    each = list(combinations(range(len(names)), 2))

    def compared(number: int, coverage: float = LEVEL) -> Comparison:
        a, b = each[number]
        columns, both = (cell.success[:, a], cell.success[:, b]), (names[a], names[b])
        return paired(*columns, cell.points, both, cell.split, cell.measure, coverage)

    return [{**cell.named(), **row} for row in holm_rows([compared(number) for number in range(len(each))], compared)]


def order(cell: Cell, names: tuple[str, ...], seed: int = 0, replicates: int = REPLICATES) -> dict[str, Any]:
    """How stable the order of the methods is when whole knowledge points are resampled.

    ``holds``: share of replicates in which no two methods that differ here swap or tie; null where all are tied.
    ``first``: share in which a method is best, divided among those that tie. ``rank``: 1 is best, ties share the mean
    rank, with the 95% percentile range over replicates. With one point only nothing can be resampled: null.
    """
    level, (_, count) = levels(cell.points)[-1], clusters(cell.points)
    totals = cell.success.sum(0)
    ranks = mean_ranks(totals[None])[0]
    ranking = sorted(range(len(names)), key=lambda k: (ranks[k], names[k]))
    row = {**cell.named(), "points": count, "holds": None}
    spread: dict[int, dict[str, float | None]] = {
        k: {"first": None, "rank_low": None, "rank_high": None} for k in ranking
    }
    if count > 1:
        # Sums of whole numbers: every method has the same denominator in a replicate, so ties are exact.
        resampled = np.vstack([w @ cell.success for w in bootstrap_weights(level.codes, level.count, replicates, seed)])
        differing = [(a, b) for a, b in combinations(range(len(names)), 2) if totals[a] != totals[b]]
        if differing:
            same = [np.sign(resampled[:, a] - resampled[:, b]) == np.sign(totals[a] - totals[b]) for a, b in differing]
            row["holds"] = float(np.all(same, axis=0).mean())
        best = resampled == resampled.max(1, keepdims=True)
        first = (best / best.sum(1, keepdims=True)).mean(0)
        low, high = np.quantile(mean_ranks(resampled), [0.025, 0.975], axis=0)
        spread = {k: {"first": first[k], "rank_low": low[k], "rank_high": high[k]} for k in ranking}
    row["methods"] = [
        {"method": names[k], "rank": float(ranks[k])} | {key: json_number(value) for key, value in spread[k].items()}
        for k in ranking
    ]
    return row


def mean_ranks(sums: Float[np.ndarray, "replicate method"]) -> Float[np.ndarray, "replicate method"]:
    """Rank of each method's sum, 1 the largest; ties share the mean of their ranks."""
    above = (sums[:, None, :] > sums[:, :, None]).sum(2)
    tied = (sums[:, None, :] == sums[:, :, None]).sum(2)
    return above + (tied + 1) / 2


def only(cell: Cell, joint: Paired) -> list[dict[str, Any]]:
    """The items that only one method gets right; ``all`` and ``none`` count those that every method and no method does."""
    right = cell.success > 0.5
    many = right.sum(1)
    counts = {"all": int((many == right.shape[1]).sum()), "none": int((many == 0).sum()), "n": len(right)}
    rows = []
    for k, name in enumerate(joint.methods):
        ids = cell.items[right[:, k] & (many == 1)]
        about = joint.about.loc[ids, ["point", "question", "answer", "prior_answer"]].reset_index()
        rows.append({**cell.named(), "method": name, "count": len(ids), **counts, "items": about.to_dict("records")})
    return rows
