"""Logistic regression of failure on prior strength, with a penalised fit where the data separate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer, Shaped
from scipy import stats
from scipy.optimize import root_scalar
from scipy.special import expit
from statsmodels.discrete import discrete_model  # not statsmodels.api, which loads time series and graphics as well
from statsmodels.stats.sandwich_covariance import cov_cluster
from statsmodels.tools.sm_exceptions import ConvergenceWarning, HessianInversionWarning, PerfectSeparationWarning
from statsmodels.tools.tools import add_constant

from override_gap.analyses.stats.clusters import clusters, levels
from override_gap.analyses.stats.effective import intraclass, of_regression
from override_gap.analyses.stats.estimate import LEVEL, HtmlRepr, json_number
from override_gap.analyses.stats.intervals import complete_cases, widest
from override_gap.margins.text import plural

RARE = 5
"""With fewer failures or successes than this, Wald intervals of a logistic regression mislead; Firth's fit is used."""
STEEP = 4.0
"""Log-odds per standard deviation above which the coefficient is called unstable."""
STEEP_NOTE = "prior strength nearly separates failures from successes, so the coefficient is unstable; read the AUC"

STEPS = 41
"""Points of the fitted curve, at even quantiles of prior strength, so that they lie where the data are."""


@dataclass(frozen=True)
class FittedCurve:
    """One point of a fitted line or curve, with its pointwise interval (NaN where none is given)."""

    at: float
    value: float
    low: float = math.nan
    high: float = math.nan

    def band(self, name: str) -> dict[str, float | None]:
        """The fitted value under the given name, and its interval, as JSON."""
        return {name: json_number(self.value), "low": json_number(self.low), "high": json_number(self.high)}


@dataclass(frozen=True)
class Logit(HtmlRepr):
    """Logistic regression of failure on prior strength: log-odds per standard deviation."""

    coef: float
    low: float
    high: float
    p: float
    method: str
    note: str
    n: int
    points: int
    curve: tuple[FittedCurve, ...] = ()

    def __str__(self) -> str:
        line = (
            f"failure on prior strength {self.coef:.3g} [{self.low:.3g}, {self.high:.3g}] log-odds per standard "
            f"deviation, p {self.p:.3g} ({self.method}), n={self.n}, points={self.points}"
        )
        return f"{line}\n  note: {self.note}" if self.note else line

    def frame(self) -> pd.DataFrame:
        """The fitted curve: prior strength (nats), probability of failure and its pointwise interval."""
        return pd.DataFrame(self.as_json()["curve"])

    def as_json(self) -> dict[str, Any]:
        """The fit as JSON, null for what could not be fitted."""
        numbers = {name: json_number(getattr(self, name)) for name in ("coef", "low", "high", "p")}
        curve = [{"prior_logprob": point.at} | point.band("failure") for point in self.curve]
        about = {"method": self.method, "note": self.note, "n": self.n, "points": self.points}
        return numbers | about | {"curve": curve}


def logit(
    strength: Float[np.ndarray, " n"],
    success: Float[np.ndarray, " n"],
    points: Shaped[np.ndarray, " n"],
    level: float = LEVEL,
) -> Logit:
    """Logistic regression of failure on prior strength per standard deviation, errors clustered by point.

    Where the data separate (or failures or successes are rare) the maximum likelihood does not exist or misleads:
    Firth's penalised likelihood is fitted and its profile interval given, scaled to the number of points.
    """
    strength, success, points = complete_cases(strength, success, points)
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
    # Tied strengths leave fewer places than steps; places are in nats, standardised as x is.
    places = np.unique(np.quantile(strength, np.linspace(0, 1, STEPS)))
    standardised = (places - strength.mean()) / strength.std(ddof=1)
    fewest = min(clustering.count for clustering in levels(points))
    separated = x[fail == 1].min() >= x[fail == 0].max() or x[fail == 1].max() <= x[fail == 0].min()
    if separated or events < RARE:
        why = (
            "prior strength separates failures from successes completely"
            if separated
            else f"only {events} {'failures' if fail.sum() == events else 'successes'}"
        )
        fitted = penalised(x, fail, fewest, f"{why}: penalised (Firth) fit, likelihood scaled to points", level)
        return replace(fitted, points=count, curve=penalised_curve(x, fail, places, standardised))
    codes, _ = clusters(points)
    with warnings.catch_warnings():
        for kind in (ConvergenceWarning, HessianInversionWarning, PerfectSeparationWarning, RuntimeWarning):
            warnings.simplefilter("ignore", kind)
        try:
            fit = discrete_model.Logit(fail, add_constant(x)).fit(disp=0)
            coef, converged = float(fit.params[1]), fit.mle_retvals["converged"]
            error = clustered_error(fit, x, fail, codes, count)
        except (np.linalg.LinAlgError, ValueError):
            coef, error, converged = nan, nan, False
    if not converged or not np.isfinite(error) or error <= 0:
        fitted = penalised(x, fail, fewest, "maximum likelihood did not converge: penalised (Firth) fit", level)
        return replace(fitted, points=count, curve=penalised_curve(x, fail, places, standardised))
    design, weight = np.column_stack([np.ones_like(x), x]), fit.predict() * (1 - fit.predict())
    residual = (fail - fit.predict()) / np.sqrt(np.maximum(weight, 1e-12))
    intervals, p, curves = [], 0.0, []
    for clustering in levels(points):
        codes, number = clustering.codes, clustering.count
        rho = intraclass(residual, codes, number)
        shared = of_regression(design, weight, np.array([0.0, 1.0]), codes, number, rho)
        # `clustered_error` holds the factor of equal clusters already.
        factor = float(np.sqrt(shared.scale * (number - 1) / number))
        error, quantile = factor * clustered_error(fit, x, fail, codes, number), stats.t.ppf(0.5 + level / 2, shared.df)
        intervals.append((coef - quantile * error, coef + quantile * error))
        p = max(p, float(2 * stats.t.sf(abs(coef / error), shared.df)))
        curves.append(fitted_curve(fit, codes, places, standardised, float(quantile) * factor))
    low, high = (float(limit) for limit in widest(intervals))
    note = STEEP_NOTE if abs(coef) > STEEP else ""
    curve = max(curves, key=lambda points: max(point.high - point.low for point in points))
    return Logit(float(coef), low, high, p, "logit", note, n, count, curve)


def fitted_curve(
    fit: Any,
    codes: Integer[np.ndarray, " n"],
    places: Float[np.ndarray, " place"],
    standardised: Float[np.ndarray, " place"],
    quantile: float,
) -> tuple[FittedCurve, ...]:
    """P(failure) along prior strength with pointwise intervals, made on the log-odds with clustered covariance."""
    design = np.column_stack([np.ones_like(standardised), standardised])
    centre = design @ fit.params
    covariance = cov_cluster(fit, codes)
    half = quantile * np.sqrt(np.einsum("ij,jk,ik->i", design, covariance, design))
    columns = (places, expit(centre), expit(centre - half), expit(centre + half))
    return tuple(FittedCurve(*map(float, row)) for row in zip(*columns, strict=True))


def penalised_curve(
    x: Float[np.ndarray, " n"],
    fail: Float[np.ndarray, " n"],
    places: Float[np.ndarray, " place"],
    standardised: Float[np.ndarray, " place"],
) -> tuple[FittedCurve, ...]:
    """P(failure) along prior strength by the penalised fit; no band: a profile interval is of the slope alone."""
    constant, slope = firth(x, fail)[0]
    return tuple(
        FittedCurve(float(at), float(value))
        for at, value in zip(places, expit(constant + slope * standardised), strict=True)
    )


def clustered_error(
    fit: Any,
    x: Float[np.ndarray, " n"],
    fail: Float[np.ndarray, " n"],
    codes: Integer[np.ndarray, " n"],
    count: int,
) -> float:
    """Standard error of the coefficient per standard deviation, clustered by point.

    The usual sandwich takes the standard deviation as known; prior strength is skewed, so the error of its own estimate counts.
    With b the slope on x (mean 0, sd 1) each item's influence on b * sd is H^-1 s_i + b (x_i^2 - 1) / 2n.
    """
    design = np.column_stack([np.ones_like(x), x])
    scores = design * (fail - fit.predict())[:, None]
    bread = np.linalg.inv(-fit.model.hessian(fit.params))
    influence = scores @ bread[:, 1] + fit.params[1] * (x**2 - 1) / (2 * len(x))
    sums = np.bincount(codes, weights=influence, minlength=count)
    return float(np.sqrt(count / (count - 1) * (sums**2).sum()))


def penalised(x: Float[np.ndarray, " n"], fail: Float[np.ndarray, " n"], count: int, note: str, level: float) -> Logit:
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


def crossing(excess: Callable[[float], float], start: float, direction: int) -> float:
    """Where the likelihood ratio first exceeds its limit on one side; NaN if nowhere within 128."""
    step = 1.0
    while step <= 128:
        if excess(start + direction * step) > 0:
            return float(root_scalar(excess, bracket=(start, start + direction * step), xtol=1e-4).root)
        step *= 2
    return float("nan")


def firth(
    x: Float[np.ndarray, " n"], fail: Float[np.ndarray, " n"], slope: float | None = None
) -> tuple[Float[np.ndarray, " 2"], float]:
    """Constant and slope at the maximum of log-likelihood + log det(information)/2, and that maximum.

    A slope that is passed is held fixed. Newton steps of at most 2, halved until the maximum no longer falls.
    """
    design = np.column_stack([np.ones_like(x), x])
    beta = np.array([0.0, slope or 0.0])
    free = [0] if slope is not None else [0, 1]

    def penalised_likelihood(
        beta: Float[np.ndarray, " 2"],
    ) -> tuple[float, Float[np.ndarray, " 2"], Float[np.ndarray, "2 2"]]:
        eta = design @ beta
        mu = 1 / (1 + np.exp(-np.clip(eta, -500, 500)))
        weight = np.maximum(mu * (1 - mu), 1e-12)
        information = design.T @ (weight[:, None] * design)
        value = float((fail * eta - np.logaddexp(0, eta)).sum() + 0.5 * np.linalg.slogdet(information)[1])
        hat = weight * np.einsum("ij,jk,ik->i", design, np.linalg.inv(information), design)
        return value, design.T @ (fail - mu + hat * (0.5 - mu)), information

    value, score, information = penalised_likelihood(beta)
    for _ in range(200):
        step = np.zeros(2)
        step[free] = np.linalg.solve(information[np.ix_(free, free)], score[free])
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        for _ in range(30):  # halve until the penalised likelihood no longer falls
            trial = penalised_likelihood(beta + step)
            if trial[0] >= value - 1e-12:
                break
            step = step / 2
        beta = beta + step
        value, score, information = trial
        if np.abs(step).max() < 1e-8:
            break
    return beta, value
