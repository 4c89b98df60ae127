"""Published shares that the plan names, beside the shares measured here."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from override_gap.analyses.prior_gradient import arrays, gradient
from override_gap.analyses.readings import RunFrame, success_rate
from override_gap.analyses.results import ResultRows
from override_gap.analyses.stats.estimate import Estimate
from override_gap.margins.published import Reference, reference_from


def references(run: RunFrame) -> ResultRows:
    """One row per reference of the plan: the published share, the measured one, and whether its interval contains it.

    `within` is null where nothing was measured. It does not test a replication: the items may not be the published ones.
    """
    published = [reference_from(table) for table in (run.manifest.get("plan") or {}).get("references") or []]
    return ResultRows(
        "Published shares and those measured here", tuple(row(item, measured(run, item)) for item in published)
    )


def row(item: Reference, share: Estimate | None) -> dict[str, Any]:
    """A reference as summary.json holds it."""
    published = {"published" if name == "value" else name: value for name, value in asdict(item).items()}
    return published | {
        "measured": share.as_json() if share else None,
        "within": bool(share.low <= item.value <= share.high) if share and math.isfinite(share.low) else None,
    }


def measured(run: RunFrame, item: Reference) -> Estimate | None:
    """The same share in this run, over all items, known or not; None where the run did not measure it."""
    if item.condition not in {*run.conditions, *run.nulls, *run.variants}:
        return None
    rows = run.select(item.split, item.condition)
    if item.tier:
        rows = rows[rows["tier"] == item.tier]
    if item.quartile:
        columns = arrays(rows, item.measure)
        if np.isnan(columns[1]).all():
            return None
        accuracy = gradient(*columns, item.condition, item.measure).quartiles[item.quartile - 1].accuracy
        return accuracy if accuracy.known else None
    share = success_rate(rows, item.measure)
    return share if share.n else None
