"""Published shares beside what was measured, where the plan names any."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from override_gap.analyses.prior_gradient import arrays, gradient
from override_gap.analyses.readings import RunFrame, truth
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import proportion
from override_gap.margins.published import Reference, reference_from


def references(run: RunFrame) -> list[dict[str, Any]]:
    """One row per reference of the plan: the published share, the measured one, and whether its interval holds it.

    `within` is null where nothing was measured. It is no test of replication: the items may not be the published ones.
    """
    named = [reference_from(table) for table in (run.manifest.get("plan") or {}).get("references") or []]
    return [row(one, measured(run, one)) for one in named]


def row(one: Reference, own: Estimate | None) -> dict[str, Any]:
    """A reference as the summary keeps it."""
    published = {"published" if name == "value" else name: value for name, value in asdict(one).items()}
    return published | {
        "measured": own.as_json() if own else None,
        "within": bool(own.low <= one.value <= own.high) if own and math.isfinite(own.low) else None,
    }


def measured(run: RunFrame, one: Reference) -> Estimate | None:
    """The same share in this run, over all items whether known or not; None where the run does not have it."""
    if one.condition not in {*run.conditions, *run.variants}:
        return None
    rows = run.select(one.split, one.condition)
    if one.tier:
        rows = rows[rows["tier"] == one.tier]
    if one.quartile:
        columns = arrays(rows, one.measure)
        if np.isnan(columns[1]).all():
            return None
        found = gradient(*columns, one.condition, one.measure).quartiles[one.quartile - 1].accuracy
        return found if found.known else None
    share = proportion("success", truth(rows[f"success_{one.measure}"]), rows["point"].to_numpy(dtype=object))
    return share if share.n else None
