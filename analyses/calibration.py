"""Calibration: does the verdict name a planted fault correctly, at several sizes of audit?

And does H2 detect an adapter whose margin grows with the prior, a fault that a larger gain repairs like any other?
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.hypotheses import STANDARD, evaluate
from override_gap.analyses.readings import RunFrame
from override_gap.analyses.stats.intervals import wilson
from override_gap.analyses.verdict import verdict

LABELS = ("no-failure", "magnitude", "representational", "mixed", "inconclusive")


@dataclass(frozen=True)
class Trial:
    """One audit of a planted fault: the true verdict, and the verdict reached."""

    fault: str
    truth: str
    seed: int
    questions: int
    points: int
    label: str
    rescued: float | None
    constancy: str
    """The status of H2."""


def trial(run: RunFrame, fault: str, truth: str, seed: int, points: int | None = None) -> Trial:
    """The verdict on a run, or on `points` of its knowledge points drawn by the seed."""
    if points is not None:
        all_points = np.sort(run.readings["point"].unique())
        drawn = np.random.default_rng(seed).choice(all_points, size=min(points, len(all_points)), replace=False)
        run = RunFrame(run.manifest, run.readings.loc[run.readings["point"].isin(drawn)], run.layers)
    reached = verdict(run)
    rescued = None if reached.rescued is None else float(reached.rescued.value)
    measured = run.measured.drop_duplicates("item")
    constancy = evaluate(run, [hypothesis for hypothesis in STANDARD if hypothesis.id == "H2"])[0].status
    return Trial(fault, truth, seed, len(measured), measured["point"].nunique(), reached.label, rescued, constancy)


def confusion(trials: Iterable[Trial]) -> pd.DataFrame:
    """Counts of verdict labels by planted fault and audit size; `right` is the share with the true label."""
    groups: dict[tuple[str, str, int], list[Trial]] = {}
    for audit in trials:
        groups.setdefault((audit.fault, audit.truth, audit.points), []).append(audit)
    rows: list[dict[str, Any]] = []
    for (fault, truth, points), group in groups.items():
        right = sum(trial.label == truth for trial in group)
        low, high = wilson(right, len(group))
        rows.append(
            {
                "fault": fault,
                "truth": truth,
                "points": points,
                "questions": float(np.mean([trial.questions for trial in group])),
                **{label: sum(trial.label == label for trial in group) for label in LABELS},
                "right": right / len(group),
                "low": low,
                "high": high,
                "audits": len(group),
                "H2 supported": sum(trial.constancy == "supported" for trial in group),
                "H2 refuted": sum(trial.constancy == "refuted" for trial in group),
            }
        )
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, shares with two decimals."""
    head = [f"| {' | '.join(table.columns)} |", f"|{'---|' * len(table.columns)}"]
    body = [f"| {' | '.join(_cell(value) for value in row)} |" for row in table.itertuples(index=False)]
    return "\n".join([*head, *body])


def _cell(value: Any) -> str:
    return f"{value:.2f}".removesuffix(".00") if isinstance(value, float) else str(value)
