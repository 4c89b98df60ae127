"""Does failure grow with prior strength? Quartiles, their gap, a logistic regression and the area under the curve.

Prior strength is log P_base(y_pre | question), in nats; quartiles run from the weakest prior to the strongest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from override_gap.analyses import adjusted_gradient
from override_gap.analyses.readings import DELIVERED, MEASURES, POPULATIONS, RunFrame, Table, points_of, truth, values
from override_gap.analyses.results import ResultSection, rows_frame
from override_gap.analyses.stats import bootstrap
from override_gap.analyses.stats.bootstrap import percentile_interval
from override_gap.analyses.stats.by_content import by_content
from override_gap.analyses.stats.estimate import LEVEL, Estimate, HtmlRepr, json_number, missing
from override_gap.analyses.stats.intervals import (
    ONE_POINT,
    complete_cases,
    one_sided,
    widest,
    wilson,
    without_interval,
)
from override_gap.analyses.stats.logistic import Logit, logit
from override_gap.analyses.stats.quartiles import Resampled, gap_interval, quartile_of, quartile_size, resampled
from override_gap.margins.text import plural

FEWEST = 4
"""A quartile with fewer items than this has no accuracy worth a number."""
FEWEST_OUTCOMES = 10
"""With fewer failures or successes than this the area under the curve has no interval: it covered .75 with 4 failures."""


@dataclass(frozen=True)
class Quartile:
    """Success rate in one quartile of prior strength (1 the weakest); ``prior_low`` to ``prior_high`` in nats."""

    quartile: int
    accuracy: Estimate
    wilson_low: float
    wilson_high: float
    boot_low: float
    boot_high: float
    prior_low: float
    prior_high: float

    def as_json(self) -> dict[str, Any]:
        """Row of ``quartiles``; wilson_* ignores clustering, boot_* is the percentile bootstrap."""
        limits = {name: json_number(getattr(self, name)) for name in self.__dataclass_fields__ if name != "accuracy"}
        notes = {"note": "; ".join(self.accuracy.caveats)} if self.accuracy.caveats else {}
        return self.accuracy.as_json() | limits | {"quartile": self.quartile} | notes


@dataclass(frozen=True)
class Gradient(HtmlRepr):
    """Success by quartile of prior strength under one condition, measure and population; p is of the quartile gap."""

    condition: str
    measure: str
    population: str
    quartiles: tuple[Quartile, ...]
    gap: Estimate
    p: float

    def __str__(self) -> str:
        lines = [f"  {quartile.accuracy}".split("\n")[0] for quartile in self.quartiles]
        title = f"{self.measure} by quartile of prior strength, {self.condition}, {self.population} conflicts"
        return "\n".join(
            [title, *lines, *(f"  {line}" for line in str(self.gap).split("\n")), f"  p of the gap {self.p:.3g}"]
        )

    def frame(self) -> pd.DataFrame:
        """One row per quartile, from the weakest prior to the strongest."""
        about = {"condition": self.condition, "measure": self.measure, "population": self.population}
        return rows_frame(about | quartile.as_json() for quartile in self.quartiles)

    def as_json(self) -> dict[str, Any]:
        """Row of ``prior_gradient.by_condition``."""
        return {
            "condition": self.condition,
            "measure": self.measure,
            "population": self.population,
            "quartiles": [quartile.as_json() for quartile in self.quartiles],
            "gap": gap_json(self.gap, self.p),
        }


@dataclass(frozen=True)
class PriorGradient(HtmlRepr):
    """Failure against prior strength: the quartile gradient, a logistic regression and the area under the curve."""

    main: Gradient
    logit: Logit
    auc: Estimate
    by_condition: tuple[Gradient, ...]
    """The gradient under every condition, measure and population."""
    adjusted: ResultSection | None = None
    """Slopes on prior strength with and without covariates; None where nothing could be fitted."""
    in_context: ResultSection | None = None
    """The same beside those with the document in the prompt; None where the run has no such condition."""

    def __str__(self) -> str:
        parts = [self.auc, self.logit, *(part for part in (self.adjusted, self.in_context) if part)]
        return "\n".join([str(self.main), *(f"  {line}" for part in parts for line in str(part).split("\n"))])

    def frame(self) -> pd.DataFrame:
        """One row per condition, measure, population and quartile."""
        return pd.concat([gradient.frame() for gradient in self.by_condition or (self.main,)], ignore_index=True)

    def as_json(self) -> dict[str, Any]:
        """The section ``prior_gradient`` of the summary."""
        note = {"note": "; ".join(self.auc.caveats)} if self.auc.caveats else {}
        return self.main.as_json() | {
            "logit": self.logit.as_json(),
            "auc": self.auc.as_json() | note,
            "by_condition": [gradient.as_json() for gradient in self.by_condition],
            "adjusted": self.adjusted.as_json() if self.adjusted else None,
            "in_context": self.in_context.as_json() if self.in_context else None,
        }


def gap_json(gap: Estimate, p: float) -> dict[str, Any]:
    """A gap with its p and, where it is missing, the reason."""
    notes = {"note": "; ".join(gap.caveats)} if gap.caveats else {}
    return gap.as_json() | {"p": json_number(p)} | notes


def gradient(
    strength: Float[np.ndarray, " n"],
    success: Float[np.ndarray, " n"],
    points: Shaped[np.ndarray, " n"],
    condition: str = DELIVERED,
    measure: str = "top1",
    population: str = "all",
    seed: int = 0,
) -> Gradient:
    """Success rate per quartile of prior strength, and the gap: weakest minus strongest quartile.

    Intervals are Wilson's at the effective size; that size is at most what the cluster bootstrap, with quartiles cut
    anew, implies. The gap combines the limits of its quartiles (MOVER, see ``differences.difference``), and its p is the
    smallest 1 - coverage at which that interval excludes 0. Both by point and by relation: the wider interval, the larger p.
    """
    found = _gradient(strength, success, np.asarray(points, dtype=object), seed)
    return replace(found, condition=condition, measure=measure, population=population)


@by_content(1024)
def _gradient(
    strength: Float[np.ndarray, " n"], success: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"], seed: int
) -> Gradient:
    strength, success, points = complete_cases(strength, success, points)
    n, count = len(success), len(set(points))
    group = quartile_of(strength)
    clusterings = resampled(strength, success, points, seed)
    quartiles = tuple(quartile(k, group == k, strength, success, points, clusterings) for k in range(4))
    weak, strong = group == 0, group == 3
    if min(weak.sum(), strong.sum()) < FEWEST:
        gap = missing("gap", f"the outer quartiles need {FEWEST} items each", n, count)
        return Gradient("", "", "", quartiles, gap, float("nan"))
    first, last = quartiles[0].accuracy, quartiles[3].accuracy
    outer = weak | strong
    caveats = tuple(dict.fromkeys((*first.caveats, *last.caveats)))
    gap = Estimate(
        "gap", first.value - last.value, np.nan, np.nan, int(outer.sum()), len(set(points[outer])), caveats=caveats
    )
    if np.isnan(first.low) or np.isnan(last.low):
        return Gradient("", "", "", quartiles, gap, float("nan"))
    by_level = [gap_interval(success, weak, strong, part) for part in clusterings]
    low, high = widest(each := [interval(LEVEL) for interval in by_level])
    gap = replace(gap, low=low, high=high)
    if len(each) > 1:
        gap = replace(gap, clusters=clusterings[1].level.of(outer).count, by_point=each[0], by_cluster=each[1])
    above = [one_sided(interval, 0.0) for interval in by_level]
    p = max(2 * min(alpha, 1 - alpha) for alpha in above)
    return Gradient("", "", "", quartiles, gap, p)


def quartile(
    k: int,
    inside: Bool[np.ndarray, " n"],
    strength: Float[np.ndarray, " n"],
    success: Float[np.ndarray, " n"],
    points: Shaped[np.ndarray, " n"],
    clusterings: Sequence[Resampled],
) -> Quartile:
    """Success rate in quartile k (0 the weakest) and its bootstrap replicates' interval; too few items give null and a note."""
    name, size, nan = f"quartile {k + 1}", int(inside.sum()), float("nan")
    count = len(set(points[inside]))
    if size < FEWEST:
        note = f"{size} items in this quartile, fewer than {FEWEST} (ties in prior strength stay together)"
        return Quartile(k + 1, missing(name, note, size, count), nan, nan, nan, nan, nan, nan)
    value = float(success[inside].mean())
    low, high = wilson(success[inside].sum(), size)
    boot = percentile_interval(clusterings[0].draws[k], count)
    if count < 2:
        accuracy = without_interval(name, value, size, count, LEVEL, ONE_POINT)
    else:
        each = [
            quartile_size(success[inside], part.level.of(inside), part.draws[k]).limits(LEVEL) for part in clusterings
        ]
        accuracy = Estimate(name, value, *widest(each), size, count)
        if len(each) > 1:
            relations = clusterings[1].level.of(inside).count
            accuracy = replace(accuracy, clusters=relations, by_point=each[0], by_cluster=each[1])
    return Quartile(k + 1, accuracy, low, high, *boot, strength[inside].min(), strength[inside].max())


def auc(
    strength: Float[np.ndarray, " n"],
    success: Float[np.ndarray, " n"],
    points: Shaped[np.ndarray, " n"],
    seed: int = 0,
) -> Estimate:
    """Area under the curve of failure on prior strength; 0.5 means that failure is unrelated to the prior."""
    strength, success, points = complete_cases(strength, success, points)
    if len(success) == 0 or success.min() == success.max():
        why = "nothing measured" if len(success) == 0 else ("no item fails" if success.min() else "every item fails")
        return missing("auc", why, len(success), len(set(points)))
    fewer = int(min(success.sum(), len(success) - success.sum()))
    if fewer < FEWEST_OUTCOMES:
        rarer = plural(fewer, "failure" if success.mean() > 0.5 else "success")
        why = f"{rarer} only: with fewer than {FEWEST_OUTCOMES} no interval of the area under the curve can be trusted"
        value = float(bootstrap.auc(strength, success == 0)(np.ones((1, len(success))))[0])
        return without_interval("auc", value, len(success), len(set(points)), LEVEL, why)
    return bootstrap.bootstrap("auc", bootstrap.auc(strength, success == 0), points, seed, bounded=True)


def arrays(
    rows: Table, measure: str
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Shaped[np.ndarray, " n"]]:
    """Prior strength (nats), success and knowledge point of each row."""
    return values(rows["prior_logprob"]), truth(rows[f"success_{measure}"]), points_of(rows)


def by_condition(run: RunFrame) -> list[Gradient]:
    """The gradient under every condition, measure and population that has anything measured."""
    gradients, measures = [], MEASURES[:3]
    used = ["point", "cluster", "prior_logprob", *(f"success_{measure}" for measure in measures)]
    for condition in run.conditions:
        for population in POPULATIONS:
            rows = run.select("conflict", condition, population, used)
            for measure in measures:
                columns = arrays(rows, measure)
                if not np.isnan(columns[1]).all():
                    gradients.append(gradient(*columns, condition, measure, population))
    return gradients


def prior_gradient(
    run: RunFrame, condition: str = DELIVERED, measure: str = "top1", seed: int = 0
) -> PriorGradient | None:
    """Failure against prior strength over all conflicts; None where none was measured under the condition."""
    columns = arrays(run.select("conflict", condition), measure)
    if len(columns[1]) == 0 or np.isnan(columns[1]).all():
        return None
    main = gradient(*columns, condition, measure, "all", seed)
    return PriorGradient(
        main,
        logit(*columns),
        auc(*columns, seed),
        tuple(by_condition(run)),
        adjusted_gradient.adjusted(run, condition),
        adjusted_gradient.in_context(run, condition),
    )
