"""Calibration: does the verdict name a fault whose truth is known, at several sizes of audit?

And does H2 find an adapter whose margin grows with the prior, which is a fault that amplitude repairs as it does others?
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
    """One audit of a planted fault: what is true of it, and what the verdict said."""

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
        every = np.sort(run.readings["point"].unique())
        drawn = np.random.default_rng(seed).choice(every, size=min(points, len(every)), replace=False)
        run = RunFrame(run.manifest, run.readings.loc[run.readings["point"].isin(drawn)], run.layers)
    found = verdict(run)
    share = None if found.rescued is None else float(found.rescued.value)
    measured = run.measured.drop_duplicates("item")
    constancy = evaluate(run, [one for one in STANDARD if one.id == "H2"])[0].status
    return Trial(fault, truth, seed, len(measured), measured["point"].nunique(), found.label, share, constancy)


def confusion(trials: Iterable[Trial]) -> pd.DataFrame:
    """Counts of verdict labels by planted fault and audit size; `right` is the share with the true label."""
    groups: dict[tuple[str, str, int], list[Trial]] = {}
    for one in trials:
        groups.setdefault((one.fault, one.truth, one.points), []).append(one)
    rows: list[dict[str, Any]] = []
    for (fault, truth, points), part in groups.items():
        right = sum(one.label == truth for one in part)
        low, high = wilson(right, len(part))
        rows.append(
            {
                "fault": fault,
                "truth": truth,
                "points": points,
                "questions": float(np.mean([one.questions for one in part])),
                **{label: sum(one.label == label for one in part) for label in LABELS},
                "right": right / len(part),
                "low": low,
                "high": high,
                "audits": len(part),
                "H2 supported": sum(one.constancy == "supported" for one in part),
                "H2 refuted": sum(one.constancy == "refuted" for one in part),
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
