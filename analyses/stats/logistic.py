"""Logistic regression of failure on prior strength, with a penalised fit where the data separate."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import statsmodels.api as sm
from scipy import stats
from scipy.optimize import root_scalar
from scipy.special import expit
from statsmodels.stats.sandwich_covariance import cov_cluster
from statsmodels.tools.sm_exceptions import ConvergenceWarning, HessianInversionWarning, PerfectSeparationWarning

from override_gap.analyses.stats.estimate import LEVEL, number
from override_gap.analyses.stats.intervals import clusters, complete
from override_gap.margins.text import plural

RARE = 5
"""With fewer failures or successes than this, Wald intervals of a logistic regression mislead; it is penalised."""
STEEP = 4.0
STEEP_NOTE = "prior strength nearly separates failures from successes, so the coefficient is unstable; read the AUC"

STEPS = 41
"""Places at which the fitted curve is given, at even quantiles of prior strength, where the data are."""

Array = np.ndarray


@dataclass(frozen=True)
class FittedCurve:
    """A fitted line or curve at one place, with its pointwise interval (NaN where none is given)."""

    at: float
    value: float
    low: float = math.nan
    high: float = math.nan

    def band(self, name: str) -> dict[str, float | None]:
        """The height under a name of the caller's, and its interval."""
        return {name: number(self.value), "low": number(self.low), "high": number(self.high)}


@dataclass(frozen=True)
class Logit:
    """Failure on standardised prior strength: log-odds per standard deviation."""

    coef: float
    low: float
    high: float
    p: float
    method: str
    note: str
    n: int
    points: int
    curve: tuple[FittedCurve, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Null for what could not be fitted."""
        numbers = {name: number(getattr(self, name)) for name in ("coef", "low", "high", "p")}
        curve = [{"prior_logprob": own.at} | own.band("failure") for own in self.curve]
        about = {"method": self.method, "note": self.note, "n": self.n, "points": self.points}
        return numbers | about | {"curve": curve}


def logit(strength: Array, success: Array, points: Array, level: float = LEVEL) -> Logit:
    """Logistic regression of failure on prior strength per standard deviation, errors clustered by point.

    Where the data separate (or failures or successes are rare) the maximum likelihood does not exist or misleads:
    Firth's penalised likelihood is fitted and its profile interval given, scaled to the number of points.
    """
    strength, success, points = complete(strength, success, points)
    n, count = len(success), len(set(points))
    nan = float("nan")

    def none(note: str) -> Logit:
        return Logit(nan, nan, nan, nan, "none", note, n, count)

    if n < 8 or count < 3:
        return none(f"{plural(n, 'item')} of {plural(count, 'knowledge point')} are too few for a regression")
    if np.ptp(strength) < 1e-12:
        return none("prior strength does not vary")
    fail = 1 - success
    events = int(min(fail.sum(), n - fail.sum()))
    if events == 0:
        return none("every item fails" if fail.all() else "no item fails")
    x = (strength - strength.mean()) / strength.std(ddof=1)
    # Ties leave fewer places than steps; heights are of the fit on x, places in nats.
    places = np.unique(np.quantile(strength, np.linspace(0, 1, STEPS)))
    heights = (places - strength.mean()) / strength.std(ddof=1)
    separated = x[fail == 1].min() >= x[fail == 0].max() or x[fail == 1].max() <= x[fail == 0].min()
    if separated or events < RARE:
        why = (
            "prior strength separates failures from successes completely"
            if separated
            else f"only {events} {'failures' if fail.sum() == events else 'successes'}"
        )
        found = penalised(x, fail, count, f"{why}: penalised (Firth) fit, likelihood scaled to points", level)
        return replace(found, curve=penalised_curve(x, fail, places, heights))
    codes, _ = clusters(points)
    with warnings.catch_warnings():
        for kind in (ConvergenceWarning, HessianInversionWarning, PerfectSeparationWarning, RuntimeWarning):
            warnings.simplefilter("ignore", kind)
        try:
            fit = sm.Logit(fail, sm.add_constant(x)).fit(disp=0)
            coef, done = float(fit.params[1]), fit.mle_retvals["converged"]
            error = clustered_error(fit, x, fail, codes, count)
        except (np.linalg.LinAlgError, ValueError):
            coef, error, done = nan, nan, False
    if not done or not np.isfinite(error) or error <= 0:
        found = penalised(x, fail, count, "maximum likelihood did not converge: penalised (Firth) fit", level)
        return replace(found, curve=penalised_curve(x, fail, places, heights))
    half = stats.t.ppf(0.5 + level / 2, count - 1) * error
    p = 2 * stats.t.sf(abs(coef / error), count - 1)
    note = STEEP_NOTE if abs(coef) > STEEP else ""
    curve = fitted_curve(fit, codes, places, heights, float(stats.t.ppf(0.5 + level / 2, count - 1)))
    return Logit(float(coef), float(coef - half), float(coef + half), float(p), "logit", note, n, count, curve)


def fitted_curve(fit: Any, codes: Array, places: Array, heights: Array, quantile: float) -> tuple[FittedCurve, ...]:
    """P(failure) along prior strength with pointwise intervals, made on the log-odds with clustered covariance."""
    design = np.column_stack([np.ones_like(heights), heights])
    centre = design @ fit.params
    covariance = cov_cluster(fit, codes)
    half = quantile * np.sqrt(np.einsum("ij,jk,ik->i", design, covariance, design))
    columns = (places, expit(centre), expit(centre - half), expit(centre + half))
    return tuple(FittedCurve(*map(float, row)) for row in zip(*columns, strict=True))


def penalised_curve(x: Array, fail: Array, places: Array, heights: Array) -> tuple[FittedCurve, ...]:
    """P(failure) along prior strength by the penalised fit; a profile interval belongs to the slope alone."""
    constant, slope = firth(x, fail)[0]
    return tuple(
        FittedCurve(float(at), float(value))
        for at, value in zip(places, expit(constant + slope * heights), strict=True)
    )


def clustered_error(fit: Any, x: Array, fail: Array, codes: Array, count: int) -> float:
    """Standard error of the coefficient per standard deviation, clustered by point.

    The usual sandwich takes the standard deviation as known; prior strength is skewed, so its own sampling counts.
    With b the slope on x (mean 0, sd 1) each item's influence on b * sd is H^-1 s_i + b (x_i^2 - 1) / 2n.
    """
    design = np.column_stack([np.ones_like(x), x])
    scores = design * (fail - fit.predict())[:, None]
    bread = np.linalg.inv(-fit.model.hessian(fit.params))
    influence = scores @ bread[:, 1] + fit.params[1] * (x**2 - 1) / (2 * len(x))
    sums = np.bincount(codes, weights=influence, minlength=count)
    return float(np.sqrt(count / (count - 1) * (sums**2).sum()))


def penalised(x: Array, fail: Array, count: int, note: str, level: float) -> Logit:
    """Firth (1993) fit with a profile interval (Heinze & Schemper 2002).

    The penalised likelihood ratio is multiplied by points / n, which counts the questions of one point as one:
    conservative, and steady where a sandwich is not.
    """
    (_, best), peak = firth(x, fail)
    scale = count / len(x)
    limit = float(stats.chi2.ppf(level, 1))

    def excess(slope: float) -> float:
        return 2 * scale * (peak - firth(x, fail, slope)[1]) - limit

    low, high = (crossing(excess, float(best), direction) for direction in (-1, 1))
    note += "".join(f"; no {end} limit within 128" for end, at in (("lower", low), ("upper", high)) if np.isnan(at))
    p = float(stats.chi2.sf(2 * scale * (peak - firth(x, fail, 0.0)[1]), 1))
    return Logit(float(best), low, high, p, "penalised", note, len(x), count)


def crossing(excess, start: float, direction: int) -> float:
    """Where the likelihood ratio first exceeds its limit on one side; NaN if nowhere within 128."""
    step = 1.0
    while step <= 128:
        if excess(start + direction * step) > 0:
            return float(root_scalar(excess, bracket=(start, start + direction * step), xtol=1e-4).root)
        step *= 2
    return float("nan")


def firth(x: Array, fail: Array, slope: float | None = None) -> tuple[Array, float]:
    """Constant and slope [2] and log-likelihood + log det(information)/2 at its maximum; a given slope is held fixed."""
    design = np.column_stack([np.ones_like(x), x])
    beta = np.array([0.0, slope or 0.0])
    free = [0] if slope is not None else [0, 1]

    def at(beta: Array) -> tuple[float, Array, Array]:
        eta = design @ beta
        mu = 1 / (1 + np.exp(-np.clip(eta, -500, 500)))
        weight = np.maximum(mu * (1 - mu), 1e-12)
        information = design.T @ (weight[:, None] * design)
        value = float((fail * eta - np.logaddexp(0, eta)).sum() + 0.5 * np.linalg.slogdet(information)[1])
        hat = weight * np.einsum("ij,jk,ik->i", design, np.linalg.inv(information), design)
        return value, design.T @ (fail - mu + hat * (0.5 - mu)), information

    value, score, information = at(beta)
    for _ in range(200):
        step = np.zeros(2)
        step[free] = np.linalg.solve(information[np.ix_(free, free)], score[free])
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        for _ in range(30):  # halve until the penalised likelihood no longer falls
            trial = at(beta + step)
            if trial[0] >= value - 1e-12:
                break
            step = step / 2
        beta = beta + step
        done = np.abs(step).max() < 1e-8
        value, score, information = trial
        if done:
            break
    return beta, value
