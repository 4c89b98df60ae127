"""Every statistic of the report from one run, as plain JSON."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from override_gap.analyses import (
    constancy,
    criterion,
    dose_response,
    hypotheses,
    prior_gradient,
    published,
    robustness,
    sampling,
)
from override_gap.analyses import criterion as reliability
from override_gap.analyses import layers as localization
from override_gap.analyses import matched_retention as specificity
from override_gap.analyses import measures as disagreements
from override_gap.analyses import measures as patterns
from override_gap.analyses import outcomes as interventions
from override_gap.analyses import verdict as verdicts
from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.readings import DELIVERED, RunFrame, truth
from override_gap.analyses.stats import power

SCHEMA = 1


def summarise(run: RunFrame, seed: int = 0) -> dict[str, Any]:
    """``summary.json``: deterministic in run and seed; a section that this run cannot give is null, with a note."""
    notes: dict[str, str] = {}

    def section(name: str, make: Callable[[], Any], reason: str) -> Any:
        found = make()
        if found is None:
            notes[name] = reason
        return found

    summary = {
        "schema": SCHEMA,
        "complete": bool(run.manifest.get("complete", True)),
        "subject": run.manifest.get("subject"),
        "adapters": run.manifest.get("adapters"),
        "items": items(run),
        "outcomes": interventions.outcomes(run),
        "prior_gradient": section(
            "prior_gradient",
            lambda: prior_gradient.prior_gradient(run, seed=seed),
            "no conflict was measured as delivered",
        ),
        "margins": section("margins", lambda: constancy.margins(run, seed), "no conflict was measured as delivered"),
        "criterion": {"agreement": criterion.agreement(run), "calibration": reliability.calibration(run)},
        "disagreements": disagreements.disagreements(run),
        "sampled": sampling.sampled(run),
        "measures": section(
            "measures", lambda: patterns.disagreement(run), "no conflict was measured by two measures of success"
        ),
        "robustness": section(
            "robustness",
            lambda: robustness.robustness(run),
            "the run holds no point in two wordings and no variant of its documents (--probes joined,stated,hedged,contested)",
        ),
        "layers": section("layers", lambda: localization.layers(run, seed), "the run holds no layer readings"),
        "dose": section(
            "dose",
            lambda: dose_response.dose(run, seed),
            "the run holds fewer than three gains and no measured critical gain",
        ),
        "matched_retention": section(
            "matched_retention",
            lambda: specificity.matched_retention(run, seed),
            "needs retention items and at least two gains of a uniform sweep",
        ),
        "comparisons": comparison.against_delivered(run),
        "hypotheses": [result.as_json() for result in hypotheses.evaluate(run)],
        "verdict": verdicts.verdict(run).as_json(),
        "power": section("power", lambda: sensitivity(run), "fewer than 16 conflicts were measured as delivered"),
        "refused": list(run.manifest.get("refused") or []),
        "references": published.references(run),
        "errors": errors(run),
        "timing": run.manifest.get("timing"),
        "notes": notes,
    }
    return clean(summary)


def items(run: RunFrame) -> dict[str, Any]:
    """Identity and size of the item set, with what could not be measured."""
    about = run.manifest.get("items") or {}
    n = int(run.readings["item"].nunique())
    measured = int(run.measured["item"].nunique())
    return {
        "name": about.get("name"),
        "sha256": about.get("sha256"),
        "n": n,
        "points": int(run.readings["point"].nunique()),
        "measured": measured,
        "excluded": n - measured,
        "by_split": interventions.by_split(run),
    }


def sensitivity(run: RunFrame) -> dict[str, Any] | None:
    """Smallest quartile gap that an audit of this size sees with power 0.8, at its own accuracy and clustering."""
    rows = run.select("conflict", DELIVERED)
    success, points = truth(rows["success_top1"]), rows["point"].to_numpy(dtype=object)
    success, points = success[~np.isnan(success)], points[~np.isnan(success)]
    n, count = len(success), len(set(points))
    if n < 16:
        return None
    icc = power.intraclass(success, points)
    used = 0.3 if math.isnan(icc) else icc
    return {
        "questions": n,
        "points": count,
        "icc": icc,
        "icc_used": used,
        "smallest_gap": power.smallest_gap(n, count, float(np.clip(success.mean(), 0.05, 0.95)), used),
        "power": 0.8,
    }


def errors(run: RunFrame) -> dict[str, Any]:
    """Items with an error under any condition, by reason, most frequent first."""
    failed = run.readings[run.readings["status"] != "ok"].drop_duplicates(["item", "error"])
    reasons = failed["error"].fillna("no reason was stored").astype(str).value_counts()
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        "count": int(failed["item"].nunique()),
        "by_reason": [{"reason": reason, "count": int(count)} for reason, count in ordered],
    }


def clean(thing: Any) -> Any:
    """Plain Python throughout; NaN and infinity become null."""
    if isinstance(thing, dict):
        return {str(key): clean(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [clean(value) for value in thing]
    if isinstance(thing, (bool, np.bool_)):
        return bool(thing)
    if isinstance(thing, (int, np.integer)):
        return int(thing)
    if isinstance(thing, (float, np.floating)):
        return float(thing) if math.isfinite(thing) else None
    return thing
