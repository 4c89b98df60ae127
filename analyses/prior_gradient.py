"""Does failure grow with prior strength? Quartiles, their gap, a logistic regression and the area under the curve.

Prior strength is log P_base(y_pre | question), in nats; quartiles run from the weakest prior to the strongest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from override_gap.analyses.readings import DELIVERED, MEASURES, POPULATIONS, RunFrame, Table, truth, values
from override_gap.analyses.stats import bootstrap
from override_gap.analyses.stats.bootstrap import expanded
from override_gap.analyses.stats.estimate import LEVEL, Estimate, missing, number
from override_gap.analyses.stats.intervals import (
    clusters,
    complete,
    effective_size,
    mover,
    proportion,
    score_test,
    wilson,
)
from override_gap.analyses.stats.logistic import logit

FEWEST = 4
"""A quartile with fewer items than this has no accuracy worth a number."""
REPLICATES = 500

Array = np.ndarray


@dataclass(frozen=True)
class Quartile:
    """Accuracy in one quartile of prior strength; ``prior_low`` to ``prior_high`` in nats."""

    quartile: int
    accuracy: Estimate
    wilson_low: float
    wilson_high: float
    boot_low: float
    boot_high: float
    prior_low: float
    prior_high: float

    def as_json(self) -> dict[str, Any]:
        """The estimate with the quartile's range; wilson_* ignores clustering, boot_* is the percentile bootstrap."""
        rest = {name: number(getattr(self, name)) for name in self.__dataclass_fields__ if name != "accuracy"}
        notes = {"note": "; ".join(self.accuracy.caveats)} if self.accuracy.caveats else {}
        return self.accuracy.as_json() | rest | {"quartile": self.quartile} | notes


@dataclass(frozen=True)
class Gradient:
    """Everything about one condition, measure and population."""

    condition: str
    measure: str
    population: str
    quartiles: tuple[Quartile, ...]
    gap: Estimate
    p: float

    def as_json(self) -> dict[str, Any]:
        """Row of ``prior_gradient.by_condition``."""
        return {
            "condition": self.condition,
            "measure": self.measure,
            "population": self.population,
            "quartiles": [quartile.as_json() for quartile in self.quartiles],
            "gap": gap_json(self.gap, self.p),
        }


def gap_json(gap: Estimate, p: float) -> dict[str, Any]:
    """A gap with its p and, where there is one, the reason that it is missing."""
    notes = {"note": "; ".join(gap.caveats)} if gap.caveats else {}
    return gap.as_json() | {"p": number(p)} | notes


def quartile_of(strength: Array, weights: Array | None = None) -> Array:
    """Quartile 0..3 of every item from its mid-rank, so that equal strengths always share a quartile.

    Returns [n]; with item weights [replicate, n], the quartiles of each resampled audit [replicate, n].
    """
    w = np.ones((1, len(strength))) if weights is None else weights
    if len(strength) == 0:
        return np.zeros(w.shape, dtype=int) if weights is not None else np.zeros(0, dtype=int)
    # The nudge keeps a mid-rank that falls on a cut in the upper quartile, whatever the rounding.
    share = bootstrap.midranks(strength, w) / w.sum(1, keepdims=True)
    group = np.clip((4 * share + 1e-9).astype(int), 0, 3)
    return group if weights is not None else group[0]


def redrawn(strength: Array, success: Array, points: Array, seed: int) -> Array:
    """Quartile accuracies [4, replicate] of audits with resampled points, quartiles cut anew in each.

    The cuts are estimates too: where accuracy is steep in prior strength, moving a cut moves the accuracy.
    """
    codes, count = clusters(points)
    found = []
    for w in bootstrap.bootstrap_weights(codes, count, REPLICATES, seed):
        group = quartile_of(strength, w)
        inside = [w * (group == k) for k in range(4)]
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(np.array([part @ success / part.sum(1) for part in inside]))
    return np.hstack(found)


def gradient(
    strength: Array,
    success: Array,
    points: Array,
    condition: str = DELIVERED,
    measure: str = "top1",
    population: str = "all",
    seed: int = 0,
) -> Gradient:
    """Quartile accuracies and their gap from arrays [n].

    Intervals are Wilson's at the effective size, which the cluster bootstrap with quartiles cut anew bounds from
    above; the gap joins the limits of its quartiles (MOVER, see ``intervals.difference``).
    """
    strength, success, points = complete(strength, success, points)
    n, count = len(success), len(set(points))
    group = quartile_of(strength)
    draws = redrawn(strength, success, points, seed) if count > 1 else np.full((4, 1), np.nan)
    quartiles = tuple(quartile(k, group == k, strength, success, points, draws[k]) for k in range(4))
    weak, strong = group == 0, group == 3
    if min(weak.sum(), strong.sum()) < FEWEST:
        gap = missing("gap", f"the outer quartiles need {FEWEST} items each", n, count)
        return Gradient(condition, measure, population, quartiles, gap, float("nan"))
    first, last = quartiles[0].accuracy, quartiles[3].accuracy
    value = first.value - last.value
    both = ~np.isnan(draws[[0, 3]]).any(axis=0)
    a, b = draws[0, both], draws[3, both]
    varies = len(a) > 2 and a.std() > 0 and b.std() > 0
    r = float(np.corrcoef(a, b)[0, 1]) if varies else 0.0
    low = value - mover(first.value - first.low, last.high - last.value, r)
    high = value + mover(first.high - first.value, last.value - last.low, r)
    outer = weak | strong
    caveats = tuple(dict.fromkeys((*first.caveats, *last.caveats)))
    held = len(set(points[outer]))
    gap = Estimate("gap", value, max(-1.0, low), min(1.0, high), int(outer.sum()), held, caveats=caveats)
    if np.isnan(first.low) or np.isnan(last.low):
        gap = replace(gap, low=float("nan"), high=float("nan"))
    _, p = score_test(success[outer], weak[outer].astype(float), points[outer])
    return Gradient(condition, measure, population, quartiles, gap, p)


def quartile(k: int, inside: Array, strength: Array, success: Array, points: Array, draws: Array) -> Quartile:
    """One quartile's accuracy; too few items give null and a note."""
    name, size, nan = f"quartile {k + 1}", int(inside.sum()), float("nan")
    held = len(set(points[inside]))
    if size < FEWEST:
        note = f"{size} items in this quartile, fewer than {FEWEST} (ties in prior strength stay together)"
        return Quartile(k + 1, missing(name, note, size, held), nan, nan, nan, nan, nan, nan)
    accuracy = proportion(name, success[inside], points[inside])
    low, high = wilson(success[inside].sum(), size)
    boot = expanded(draws, held)
    if held > 1:
        p = accuracy.value
        effective = effective_size(success[inside], *clusters(points[inside]))
        spread = float(np.nanvar(draws)) if np.isfinite(draws).any() else 0.0
        if spread > 0 and 0 < p < 1:
            effective = min(effective, p * (1 - p) / spread)
        own = wilson(p * effective, effective, LEVEL, float(stats.t.ppf(0.5 + LEVEL / 2, held - 1)))
        accuracy = replace(accuracy, low=own[0], high=own[1])
    return Quartile(k + 1, accuracy, low, high, *boot, strength[inside].min(), strength[inside].max())


def auc(strength: Array, success: Array, points: Array, seed: int = 0) -> Estimate:
    """Area under the curve of failure on prior strength; 0.5 means that the prior says nothing."""
    strength, success, points = complete(strength, success, points)
    if len(success) == 0 or success.min() == success.max():
        why = "nothing measured" if len(success) == 0 else ("no item fails" if success.min() else "every item fails")
        return missing("auc", why, len(success), len(set(points)))
    return bootstrap.bootstrap("auc", bootstrap.auc(strength, success == 0), points, seed, bounded=True)


def arrays(rows: Table, measure: str) -> tuple[Array, Array, Array]:
    """Prior strength, success and point of a selection, all [n]."""
    return values(rows["prior_logprob"]), truth(rows[f"success_{measure}"]), rows["point"].to_numpy(dtype=object)


def by_condition(run: RunFrame) -> list[Gradient]:
    """The gradient under every condition, measure and population that has anything measured."""
    found = []
    for condition in run.conditions:
        for population in POPULATIONS:
            rows = run.select("conflict", condition, population)
            for measure in MEASURES[:3]:
                columns = arrays(rows, measure)
                if not np.isnan(columns[1]).all():
                    found.append(gradient(*columns, condition, measure, population))
    return found


def prior_gradient(run: RunFrame, condition: str = DELIVERED, measure: str = "top1", seed: int = 0) -> dict | None:
    """The section ``prior_gradient`` of the summary; None where the run has no conflicts under the condition."""
    columns = arrays(run.select("conflict", condition), measure)
    if len(columns[1]) == 0 or np.isnan(columns[1]).all():
        return None
    main = gradient(*columns, condition, measure, "all", seed)
    area = auc(*columns, seed)
    return main.as_json() | {
        "logit": logit(*columns).as_json(),
        "auc": area.as_json() | ({"note": "; ".join(area.caveats)} if area.caveats else {}),
        "by_condition": [entry.as_json() for entry in by_condition(run)],
    }
