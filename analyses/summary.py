"""Every statistic of the report from one run, as plain JSON."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from override_gap.analyses import (
    belief,
    components,
    constancy,
    criterion,
    dose_response,
    gain_path,
    geometry_effects,
    hypotheses,
    layers,
    matched_retention,
    measures,
    neutral_text,
    nulls,
    outcomes,
    price,
    prior_dose,
    prior_gradient,
    published,
    robustness,
    sampling,
    stored_geometry,
    strength,
    verdict,
)
from override_gap.analyses.cause_groups import cause_examples, causes_by_prior
from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.looks import looks_of
from override_gap.analyses.one_item import one_item
from override_gap.analyses.readings import RunFrame, truth
from override_gap.analyses.sensitivity import sensitivity
from override_gap.analyses.tune.run import tune
from override_gap.analyses.verdict_more import more_known
from override_gap.margins.memory_limit import give_back_freed

SCHEMA = 1
MANY = 100
"""Conditions above which the statistics take long enough to say which of them are computed."""
LONG = 5.0
"""Seconds after which it is said in any case, with the time that they have taken."""


@runtime_checkable
class AsJson(Protocol):
    """A result that gives its part of the summary."""

    def as_json(self) -> Any: ...


def summarise(run: RunFrame, seed: int = 0, say: Callable[[str], None] | None = None) -> dict[str, Any]:
    """``summary.json``: deterministic in run and seed; a section that this run does not allow is null, with a note.

    Where a run has more than `MANY` conditions, or the statistics take long, `say` hears which of the parts that look at each
    of them is computed.
    """
    started = time.monotonic()
    notes: dict[str, str] = {}
    many = len(run.conditions) > MANY

    def long(name: str) -> str:
        """A key whose value takes long; in a dict display it is evaluated before its value."""
        run.release()
        seconds = time.monotonic() - started
        if say is not None and (many or seconds >= LONG):
            spent = f", {seconds:.0f} s" if seconds >= LONG else ""
            say(f"computing the statistics: {name} of {len(run.conditions):,} conditions{spent}")
        return name

    def section(name: str, result: AsJson | None, reason: str) -> Any:
        run.release()
        if result is None:
            notes[name] = reason
            return None
        return result.as_json()

    no_conflict = "no conflict was measured as delivered"
    summary = {
        "schema": SCHEMA,
        "complete": bool(run.manifest.get("complete", True)),
        "subject": run.manifest.get("subject"),
        "adapters": run.manifest.get("adapters"),
        "items": items(run),
        long("outcomes"): outcomes.outcomes(run).as_json(),
        long("prior_gradient"): section("prior_gradient", prior_gradient.prior_gradient(run, seed=seed), no_conflict),
        "margins": section("margins", constancy.margins(run, seed), no_conflict),
        "prior_dose": section(
            "prior_dose", prior_dose.prior_dose(run), "no item was read with its prior changed (--probes prior-dose)"
        ),
        "strength": section("strength", strength.strength(run), "no known conflict was measured as delivered"),
        "criterion": {
            "agreement": criterion.agreement(run).as_json(),
            "calibration": criterion.calibration(run).as_json(),
        },
        long("disagreements"): measures.disagreements(run).as_json(),
        "sampled": sampling.sampled(run).as_json(),
        "measures": section(
            "measures", measures.disagreement(run), "no conflict was measured by two measures of success"
        ),
        long("robustness"): section(
            "robustness",
            robustness.robustness(run),
            "the run has no knowledge point in two wordings and no variant of its documents "
            "(--probes joined,stated,hedged,contested)",
        ),
        "belief": section(
            "belief",
            belief.belief(run),
            "the run has no question of belief (agreement, negated, consequence, reframed), such as --items belief has",
        ),
        "layers": section("layers", layers.layers(run, seed), "the run has no layer readings"),
        "gain_path": section(
            "gain_path",
            gain_path.gain_path(run, seed),
            "the run has no shares along the path of gains (--probes gain-path)",
        ),
        "components": section(
            "components", components.components(run, seed), "the run has no components (--probes components)"
        ),
        long("dose"): section(
            "dose", dose_response.dose(run, seed), "the run has fewer than three gains and no measured critical gain"
        ),
        long("matched_retention"): section(
            "matched_retention",
            matched_retention.matched_retention(run, seed),
            "needs retention items and at least two uniform gains",
        ),
        "price": section("price", price.price(run), "no retention item was measured as delivered"),
        "geometry": section(
            "geometry", stored_geometry.geometry(run), "the run's adapters are no weight updates, or none was compared"
        ),
        "neutral": section("neutral", neutral_text.neutral_text(run), "the run was not measured with --probes neutral"),
        "geometry_effects": section(
            "geometry_effects",
            geometry_effects.geometry_effects(run, seed),
            "the run was measured without --probes geometry and neutral, or on fewer than ten documents",
        ),
        "tuning": tune(run, seed=seed).as_json(),
        long("comparisons"): comparison.against_delivered(run).as_json(),
        "hypotheses": hypotheses.evaluate(run).as_json(),
        "verdict": verdict_section(run),
        "one_item": section("one_item", one_item(run), "no known conflict was measured as delivered"),
        "power": section("power", sensitivity(run), "fewer than 16 conflicts were measured as delivered"),
        "until": None if (looks := looks_of(run.manifest)) is None else looks.as_json(),
        "refused": list(run.manifest.get("refused") or []),
        "handshake": run.manifest.get("handshake"),
        "chat": run.manifest.get("chat"),
        "references": published.references(run).as_json(),
        "errors": errors(run),
        "timing": run.manifest.get("timing"),
        "cautions": list(run.cautions),
        "notes": notes,
    }
    results = clean(summary)
    run.release()
    give_back_freed()  # a page may follow
    return results


def verdict_section(run: RunFrame) -> dict[str, Any]:
    """The section ``verdict``: label, shares, causes with examples, own against null, what more would decide."""
    reached = verdict.verdict(run)
    found = reached.causes
    return {
        **reached.as_json(),
        "more": None if (more := more_known(reached)) is None else more.as_json(),
        "null": null_rows(run),
        "causes_by_prior": None if found is None else causes_by_prior(run, found.items),
        "cause_examples": None if found is None else cause_examples(run, found.items),
    }


def null_rows(run: RunFrame) -> list[dict[str, Any]] | None:
    """The rows ``verdict.null``: own adapters against null adapters; None where no null condition was searched."""
    compared = nulls.null_comparisons(run)
    return None if compared is None else compared.as_json()


def items(run: RunFrame) -> dict[str, Any]:
    """Identity and size of the item set, and how many items could not be measured."""
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
        "by_split": outcomes.by_split(run),
        "prior": prior_from_base(run),
    }


def prior_from_base(run: RunFrame) -> dict[str, Any] | None:
    """Conflicts whose old answer is the base's own greedy answer: how many, how many count as known, what was left out.

    None where every old answer is the items' own. `excluded` lists reasons with their counts.
    """
    rows = run.readings[run.readings["prior_from"].notna()]
    asked = (run.manifest.get("items") or {}).get("prior") or {}
    if rows.empty and not asked:
        return None
    return {
        "from": "base",
        "n": int(rows["item"].nunique()),
        "known": int(rows.loc[truth(rows["known"]) == 1.0, "item"].nunique()),
        "long": asked.get("long"),
        "excluded": list(asked.get("excluded") or []),
    }


def errors(run: RunFrame) -> dict[str, Any]:
    """Items with an error under any condition, by reason, most frequent first."""
    failed = run.readings[run.readings["status"] == "error"].drop_duplicates(["item", "error"])
    reasons = failed["error"].fillna("no reason was stored").astype(str).value_counts()
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        "count": int(failed["item"].nunique()),
        "by_reason": [{"reason": reason, "count": int(count)} for reason, count in ordered],
    }


def clean(value: Any) -> Any:
    """Plain Python values throughout; NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(key): clean(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(entry) for entry in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
