"""Is the adapter margin constant while the prior margin grows? Spread, slopes and an equivalence test, in nats.

Adapter and prior margin share the base's two logits (D_adapter = push - pull, both relative to the base), so a method
that drives y_doc to a fixed level shows a slope that says nothing about magnitude. Log training frequency shares no
term with either; prior strength shares log P_base(y_pre) with both, and figures on that axis carry the caveat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from override_gap.analyses import pass_through
from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, points_of, values
from override_gap.analyses.results import ResultSection
from override_gap.analyses.stats import bootstrap, effective
from override_gap.analyses.stats.clusters import clusters, levels
from override_gap.analyses.stats.estimate import LEVEL, Estimate, json_number, missing
from override_gap.analyses.stats.intervals import complete_cases, drop_unmeasured, with_levels
from override_gap.analyses.stats.logistic import FittedCurve

BOUND = 0.25
"""The adapter margin counts as constant if its slope is below this share of the prior margin's."""
SHARED = (
    "D_adapter and D_prior both contain the base's two logits, so some correlation is built in; "
    "read constancy from the slope on log frequency"
)
QUANTITIES = ("prior_margin", "adapter_margin", "push", "pull")
WITH_LINE, STEPS = QUANTITIES[:2], 13
"""The margins whose fitted lines are given, and at how many points: their bands are curved."""


@dataclass(frozen=True)
class Slope:
    """Ordinary least squares slope (nats per unit of the axis), errors clustered; p is two-sided against zero.

    ``error`` and its degrees of freedom ``df`` are those of the clustering, by point or by relation, of the larger p.
    """

    estimate: Estimate
    error: float
    p: float
    line: tuple[FittedCurve, ...] = ()
    """The fitted line from the smallest to the largest value on the axis, with pointwise 95% intervals (nats)."""
    df: float = math.nan

    @property
    def rising(self) -> float:
        """One-sided p of "the slope is positive"."""
        return float(stats.t.sf(self.estimate.value / self.error, self.df))


def slope(
    name: str,
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    points: Shaped[np.ndarray, " n"],
    level: float = LEVEL,
) -> Slope:
    """Slope of y on x: least squares, errors clustered by point and by relation at their effective degrees of freedom."""
    keep = ~(np.isnan(x) | np.isnan(y)) & np.isfinite(x) & np.isfinite(y)
    x, y, points = x[keep], y[keep], points[keep]
    _, count = clusters(points)
    nan = float("nan")
    if count < 3 or len(x) < 5 or np.ptp(x) < 1e-12:
        why = "fewer than 5 items or 3 points" if count < 3 or len(x) < 5 else "the axis does not vary"
        return Slope(missing(name, why, len(x), count), nan, nan)
    design = np.column_stack([np.ones_like(x), x])
    bread = np.linalg.inv(design.T @ design)
    coefficients = bread @ (design.T @ y)
    residual, value = y - design @ coefficients, float(coefficients[1])
    places = np.linspace(x.min(), x.max(), STEPS)
    at = np.column_stack([np.ones(STEPS), places])
    intervals, tests, bands = [], [], []
    for clustering in levels(points):
        codes, number = clustering.codes, clustering.count
        rho = effective.intraclass(residual, codes, number)
        shared = effective.of_regression(design, np.ones_like(x), np.array([0.0, 1.0]), codes, number, rho)
        sums = effective.cluster_sums(design * residual[:, None], codes, number)
        covariance = shared.scale * bread @ (sums.T @ sums) @ bread
        error = float(np.sqrt(covariance[1, 1]))
        quantile = float(stats.t.ppf(0.5 + level / 2, shared.df))
        intervals.append((value - quantile * error, value + quantile * error))
        p = float(2 * stats.t.sf(abs(value / error), shared.df)) if error > 1e-12 else nan
        tests.append((p, error, shared.df))
        bands.append(quantile * np.sqrt(np.einsum("ij,jk,ik->i", at, covariance, at)))
    fitted, band = at @ coefficients, np.max(bands, axis=0)
    line = tuple(
        FittedCurve(*map(float, row)) for row in zip(places, fitted, fitted - band, fitted + band, strict=True)
    )
    p, error, df = max(tests)
    estimate = Estimate(name, value, nan, nan, len(x), count, "nats", level)
    return Slope(with_levels(estimate, points, intervals), error, p, line, df)


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests that |slope of the adapter margin| < bound * slope of the prior margin.

    The prior's slope is estimated too, so each side is one regression of adapter margin -+ bound * prior margin
    (Schuirmann 1987 on a linear contrast); ``p`` is the largest of these two and of "the prior margin rises".
    ``against`` is the p of the opposite: the adapter margin grows or falls faster than the bound, or the prior falls.
    """

    ratio: Estimate
    p: float
    against: float
    bound: float


def equivalence(
    x: Float[np.ndarray, " n"],
    prior: Float[np.ndarray, " n"],
    adapter: Float[np.ndarray, " n"],
    points: Shaped[np.ndarray, " n"],
    bound: float = BOUND,
    seed: int = 0,
) -> Equivalence:
    """Whether the adapter margin is constant along x, relative to the prior margin's growth along x."""
    x, prior, adapter, points = complete_cases(x, prior, adapter, points)
    above = slope("above", x, adapter - bound * prior, points)
    below = slope("below", x, adapter + bound * prior, points)
    grows = slope("prior", x, prior, points)
    if not grows.estimate.known:
        return Equivalence(grows.estimate, float("nan"), float("nan"), bound)
    p = max(1 - above.rising, below.rising, grows.rising)
    against = min(1.0, 3 * min(above.rising, 1 - below.rising, 1 - grows.rising))

    def statistic(w: Float[np.ndarray, "replicate n"]) -> Float[np.ndarray, " replicate"]:
        dx = x - (w @ x / w.sum(1))[:, None]
        return (w * dx) @ adapter / ((w * dx) @ prior)

    ratio = bootstrap.bootstrap("slope ratio", statistic, points, seed)
    return Equivalence(ratio, p, against, bound)


MIN_FREQUENCIES = 20
"""Conflicts of known training frequency below which no slope on it is estimated."""


def axes(rows: Table) -> dict[str, Float[np.ndarray, " n"]]:
    """What margins are regressed on: log training frequency where it is known, and prior strength (nats)."""
    frequency = values(rows["frequency"])
    positive = np.where((frequency > 0) & np.isfinite(frequency), frequency, np.nan)
    by_frequency = {"log_frequency": np.log(positive)} if np.isfinite(positive).sum() >= MIN_FREQUENCIES else {}
    return by_frequency | {"prior_logprob": values(rows["prior_logprob"])}


def moments(column: Float[np.ndarray, " n"], points: Shaped[np.ndarray, " n"]) -> dict[str, Any]:
    """Mean, standard deviation and coefficient of variation (null where the mean is near zero), in nats."""
    column, points = drop_unmeasured(column, points)
    count = len(set(points))
    if len(column) < 2:
        return {"mean": json_number(column.mean()) if len(column) else None, "sd": None, "cv": None} | {
            "n": len(column),
            "points": count,
        }
    mean, sd = float(column.mean()), float(column.std(ddof=1))
    # A mean within two standard errors of zero makes the ratio meaningless.
    cv = sd / abs(mean) if abs(mean) > 2 * sd / np.sqrt(count) else None
    return {"mean": mean, "sd": sd, "cv": cv, "n": len(column), "points": count}


def margins(run: RunFrame, seed: int = 0) -> ResultSection | None:
    """The section ``margins`` of the summary, over conflicts; None where nothing was measured as delivered."""
    rows = run.select("conflict", DELIVERED)
    if rows.empty:
        return None
    points = points_of(rows)
    columns = {name: values(rows[name]) for name in QUANTITIES}
    slopes, lines = [], []
    for axis, x in axes(rows).items():
        for name, y in columns.items():
            fit = slope(f"slope of {name} on {axis}", x, y, points)
            lines.append(str(fit.estimate))
            line = [{"at": point.at} | point.band("value") for point in fit.line] if name in WITH_LINE else []
            slopes.append(
                {"quantity": name, "axis": axis} | fit.estimate.as_json() | {"p": json_number(fit.p), "line": line}
            )
    spreads = []
    for condition in run.conditions:
        under = run.select("conflict", condition)
        column = values(under["adapter_margin"])
        if condition != BASE and not np.isnan(column).all():
            spreads.append({"condition": condition} | moments(column, points_of(under)))
    both = ~np.isnan(columns["adapter_margin"]) & ~np.isnan(columns["prior_margin"])
    rank = bootstrap.spearman(columns["adapter_margin"][both], columns["prior_margin"][both])
    correlation = (
        bootstrap.bootstrap("correlation", rank, points[both], seed)
        if both.sum() >= 5
        else missing("correlation", "fewer than 5 items", int(both.sum()))
    )
    constant = None
    if "log_frequency" in axes(rows):
        test = equivalence(
            axes(rows)["log_frequency"], columns["prior_margin"], columns["adapter_margin"], points, seed=seed
        )
        constant = test.ratio.as_json() | {"p": json_number(test.p), "bound": test.bound, "axis": "log_frequency"}
        lines.append(f"{test.ratio}\nconstant within {test.bound:.0%} of the prior margin's slope: p {test.p:.3g}")
    through = pass_through.section(run, seed)
    lines += str(through).split("\n")
    lines.append(str(replace(correlation, caveats=(*correlation.caveats, SHARED))))
    content = {
        "prior": moments(columns["prior_margin"], points),
        "adapter": moments(columns["adapter_margin"], points),
        "push": moments(columns["push"], points),
        "pull": moments(columns["pull"], points),
        "adapter_by_condition": spreads,
        "slopes": slopes,
        "equivalence": constant,
        "correlation": correlation.as_json() | {"note": SHARED},
        "pass_through": through.as_json(),
    }
    return ResultSection("Margins of conflicts as delivered, in nats", content, "slopes", tuple(lines))
