"""Calibration: does an audit of a plant reach the right label and the right causes, at several sizes?

And does H2 detect an adapter whose margin grows with the prior, which a larger gain repairs like any other?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.causes import causes
from override_gap.analyses.hypotheses import STANDARD, evaluate
from override_gap.analyses.readings import RunFrame, Table, truth
from override_gap.analyses.stats.intervals import wilson
from override_gap.analyses.verdict import verdict

LABELS = ("no-failure", "magnitude", "representational", "mixed", "inconclusive")
FULL = 1.0


@dataclass(frozen=True)
class Trial:
    """One audit of a plant: the true verdict, and the verdict reached.

    `measured` names the measurement; several trials are drawn from one, and only trials of different measurements are
    independent. `causes` counts (causes that would be right, cause found) over its failing items.
    """

    fault: str
    truth: str
    measured: str
    questions: int
    points: int
    label: str
    rescued: float | None
    constancy: str
    """The status of H2."""
    share: float = FULL
    """Share of the knowledge points drawn; 1: as many as measured."""
    causes: Mapping[tuple[str, str], int] = field(default_factory=dict)


def trial(
    run: RunFrame,
    fault: str,
    label: str,
    measured: str = "",
    share: float = FULL,
    draw: int = 0,
    expected: Mapping[str, frozenset[str]] | None = None,
) -> Trial:
    """The verdict on a run (share 1, draw 0), or on points drawn from it (`resampled`)."""
    run = run if share == FULL and draw == 0 else resampled(run, share, draw)
    reached = verdict(run)
    rescued = None if reached.rescued is None else float(reached.rescued.value)
    items = run.measured[["item", "split", "point"]].drop_duplicates("item")
    items = items[items["split"] == "conflict"]
    constancy = evaluate(run, [hypothesis for hypothesis in STANDARD if hypothesis.id == "H2"])[0].status
    return Trial(
        fault,
        label,
        measured,
        len(items),
        items["point"].nunique(),
        reached.label,
        rescued,
        constancy,
        share,
        count_causes(run, expected or {}),
    )


def count_causes(run: RunFrame, expected: Mapping[str, frozenset[str]]) -> dict[tuple[str, str], int]:
    """Failing items by (causes that would be right, the cause found); items without a known cause are left out."""
    found = causes(run)
    if found is None:
        return {}
    items = found.items[truth(found.items["known"]) == 1]
    counts: dict[tuple[str, str], int] = {}
    for item, cause in zip(items["item"], items["cause"], strict=True):
        if item in expected:
            key = (" or ".join(sorted(expected[item])), str(cause))
            counts[key] = counts.get(key, 0) + 1
    return counts


def resampled(run: RunFrame, share: float, draw: int) -> RunFrame:
    """A run with other knowledge points, drawn by the seed `draw`: of another audit of the same kind.

    As many conflict points as there are, with replacement (copies become points of their own), or a smaller share without.
    All other splits stay.
    """
    conflicts = run.readings.loc[run.readings["split"] == "conflict", "point"]
    points = np.sort(conflicts.unique())
    rng = np.random.default_rng([draw, round(1000 * share)])
    count = round(share * len(points))
    drawn = rng.choice(points, size=count, replace=share == FULL)
    others = sorted(set(run.readings["point"].unique()) - set(points))
    copies = pd.DataFrame({"point": [*drawn, *others]})
    number = copies.groupby("point").cumcount()
    copies["copy"] = ["" if n == 0 else f"~{n}" for n in number]
    items = run.readings[["item", "point"]].drop_duplicates().merge(copies, on="point")

    def taken(table: Table) -> Table:
        if not len(table):
            return table
        if "point" in table.columns:
            table = table.drop(columns="point")
        joined = items.merge(table, on="item")
        for name in ("item", "point"):
            joined[name] = joined[name] + joined["copy"]
        return joined.drop(columns="copy")

    tables = {
        name: taken(getattr(run, name))
        for name in ("readings", "layers", "drawn", "search")
        if isinstance(getattr(run, name, None), pd.DataFrame)
    }
    return replace(run, **tables)


def confusion(trials: Iterable[Trial]) -> pd.DataFrame:
    """Counts of verdict labels by plant and audit size; `right` is the share with the true label.

    The interval is of the measurements, as if all audits drawn from one were the same: the widest that it can be.
    """
    groups: dict[tuple[str, str, float], list[Trial]] = {}
    for audit in trials:
        groups.setdefault((audit.fault, audit.truth, audit.share), []).append(audit)
    rows: list[dict[str, Any]] = []
    for (fault, label, _), group in groups.items():
        right = sum(trial.label == label for trial in group)
        measurements = len({trial.measured for trial in group})
        low, high = wilson(right * measurements / len(group), measurements)
        rows.append(
            {
                "plant": fault,
                "truth": label,
                "points": float(np.mean([trial.points for trial in group])),
                "questions": float(np.mean([trial.questions for trial in group])),
                **{label: sum(trial.label == label for trial in group) for label in LABELS},
                "right": right / len(group),
                "low": low,
                "high": high,
                "audits": len(group),
                "measurements": measurements,
                "H2 supported": sum(trial.constancy == "supported" for trial in group),
                "H2 refuted": sum(trial.constancy == "refuted" for trial in group),
            }
        )
    return pd.DataFrame(rows)


def cause_confusion(trials: Iterable[Trial]) -> pd.DataFrame:
    """Failing items of whole measurements by plant and the causes that would be right: how often each cause was found."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for audit in trials:
        if audit.share == FULL:
            for (right, found), number in audit.causes.items():
                row = counts.setdefault((audit.fault, right), {})
                row[found] = row.get(found, 0) + number
    found_causes = sorted({found for row in counts.values() for found in row})
    rows: list[dict[str, Any]] = []
    for (plant, right), row in counts.items():
        items = sum(row.values())
        correct = sum(number for found, number in row.items() if found in right.split(" or "))
        cells = {found: row.get(found, 0) for found in found_causes}
        rows.append({"plant": plant, "known cause": right, "items": items, **cells, "right": correct / items})
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, shares with two decimals."""
    head = [f"| {' | '.join(table.columns)} |", f"|{'---|' * len(table.columns)}"]
    body = [f"| {' | '.join(_cell(value) for value in row)} |" for row in table.itertuples(index=False)]
    return "\n".join([*head, *body])


def _cell(value: Any) -> str:
    return f"{value:.2f}".removesuffix(".00") if isinstance(value, float) else str(value)
