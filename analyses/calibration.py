"""Calibration: does the verdict name a fault whose truth is known, at several sizes of audit?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyses.frame import RunFrame
from analyses.intervals import wilson
from analyses.verdict import verdict

LABELS = ("no-failure", "magnitude", "representational", "mixed", "inconclusive")


@dataclass(frozen=True)
class Trial:
    """One audit of a planted fault: what is true of it, and what the verdict said."""

    fault: str
    truth: str
    seed: int
    questions: int
    points: int
    label: str
    rescued: float | None


def trial(run: RunFrame, fault: str, truth: str, seed: int, points: int | None = None) -> Trial:
    """The verdict on a run, or on `points` of its knowledge points drawn by the seed."""
    if points is not None:
        every = np.sort(run.readings["point"].unique())
        drawn = np.random.default_rng(seed).choice(every, size=min(points, len(every)), replace=False)
        run = RunFrame(run.manifest, run.readings[run.readings["point"].isin(drawn)], run.layers)
    found = verdict(run)
    share = None if found.rescued is None else float(found.rescued.value)
    measured = run.measured.drop_duplicates("item")
    return Trial(fault, truth, seed, len(measured), measured["point"].nunique(), found.label, share)


def confusion(trials: Iterable[Trial]) -> pd.DataFrame:
    """Counts of verdict labels by planted fault and audit size; `right` is the share with the true label."""
    table = pd.DataFrame([vars(one) for one in trials])
    rows: list[dict[str, Any]] = []
    for (fault, truth, points), part in table.groupby(["fault", "truth", "points"], sort=False):
        counts = part["label"].value_counts()
        right = int((part["label"] == truth).sum())
        low, high = wilson(right, len(part))
        rows.append(
            {
                "fault": fault,
                "truth": truth,
                "points": points,
                "questions": float(part["questions"].mean()),
                **{label: int(counts.get(label, 0)) for label in LABELS},
                "right": right / len(part),
                "low": low,
                "high": high,
                "audits": len(part),
            }
        )
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame, columns: Sequence[str] | None = None) -> str:
    """A table as Markdown, shares with two decimals."""
    table = table if columns is None else table[list(columns)]
    head = [f"| {' | '.join(table.columns)} |", f"|{'---|' * len(table.columns)}"]
    body = [f"| {' | '.join(_cell(value) for value in row)} |" for row in table.itertuples(index=False)]
    return "\n".join([*head, *body])


def _cell(value: Any) -> str:
    return f"{value:.2f}".removesuffix(".00") if isinstance(value, float) else str(value)
