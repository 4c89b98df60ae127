"""Regressions with several covariates, each fitted again without every cluster in turn.

The estimates without a cluster give the clustered covariance (the jackknife, CR3 of Bell & McCaffrey 2002), also of
the difference of two coefficients that come from the same clusters. A few clusters of much influence widen it, which
the usual sandwich, too small there, does not show. Student's distribution, points - 1 degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer, Shaped
from scipy import stats
from scipy.special import expit

from override_gap.analyses.stats.clusters import clusters, levels
from override_gap.analyses.stats.estimate import LEVEL, Estimate


@dataclass(frozen=True)
class Coefficient:
    """One coefficient, or a difference of two: its value, and its value without each cluster, for every clustering.

    The first clustering is that by knowledge point. Where there is another (by relation), intervals and p-values are those
    of the clustering that gives the larger error.
    """

    value: float
    without: tuple[Float[np.ndarray, " _"], ...]
    n: int

    @property
    def points(self) -> int:
        """Number of knowledge points."""
        return len(self.without[0])

    @property
    def errors(self) -> list[tuple[float, float]]:
        """Standard error and degrees of freedom at each clustering: sqrt((P - 1) / P sum_p (b_without_p - b)^2), P - 1."""
        return [
            (float(np.sqrt((len(b) - 1) / len(b) * ((b - self.value) ** 2).sum())), float(len(b) - 1))
            for b in self.without
        ]

    def __sub__(self, other: Coefficient) -> Coefficient:
        """The difference of two coefficients fitted on the same items, with the covariance that they share."""
        without = tuple(a - b for a, b in zip(self.without, other.without, strict=True))
        return Coefficient(self.value - other.value, without, self.n)

    def __rmul__(self, factor: float) -> Coefficient:
        """The coefficient in another unit."""
        return Coefficient(factor * self.value, tuple(factor * b for b in self.without), self.n)

    def estimate(self, name: str, units: str = "", level: float = LEVEL, caveats: tuple[str, ...] = ()) -> Estimate:
        """The coefficient with Student's interval."""
        half = max(float(stats.t.ppf(0.5 + level / 2, df)) * error for error, df in self.errors)
        low, high = self.value - half, self.value + half
        return Estimate(name, self.value, low, high, self.n, self.points, units, level, caveats)

    def above(self, null: float = 0.0) -> float:
        """One-sided p of "the coefficient is above ``null``", the largest over the clusterings; NaN where nothing varies."""
        return self._one_sided(self.value - null)

    def below(self, null: float = 0.0) -> float:
        """One-sided p of "the coefficient is below ``null``"."""
        return self._one_sided(null - self.value)

    def two_sided(self, null: float = 0.0) -> float:
        """Two-sided p of "the coefficient is not ``null``"."""
        return min(1.0, 2 * min(self.above(null), self.below(null)))

    def _one_sided(self, excess: float) -> float:
        if any(error <= 0 for error, _ in self.errors):
            return float("nan")
        return max(float(stats.t.sf(excess / error, df)) for error, df in self.errors)


def least_squares(
    outcome: Float[np.ndarray, " n"],
    covariates: Float[np.ndarray, "n k"],
    points: Shaped[np.ndarray, " n"],
    instruments: Float[np.ndarray, "n k"] | None = None,
) -> list[Coefficient]:
    """Coefficient of each covariate beside a constant: (Z'X)^-1 Z'y, Z the instruments (default: the covariates).

    With one instrument per covariate this is two-stage least squares (Wooldridge 2010, section 5.2).
    """
    design = with_constant(covariates)
    other = design if instruments is None else with_constant(instruments)
    products, moments = other[:, :, None] * design[:, None, :], other * outcome[:, None]
    whole = solve(products.sum(0), moments.sum(0))

    def without(codes: Integer[np.ndarray, " n"], count: int) -> Float[np.ndarray, "point k"]:
        return solve(
            products.sum(0) - cluster_sums(products, codes, count), moments.sum(0) - cluster_sums(moments, codes, count)
        )

    return coefficients(whole, [without(*clustering) for clustering in clusterings(points)], len(outcome))


def logistic(
    event: Float[np.ndarray, " n"], covariates: Float[np.ndarray, "n k"], points: Shaped[np.ndarray, " n"]
) -> list[Coefficient] | None:
    """Log-odds of the event per unit of each covariate, by Firth's (1993) penalised likelihood; None where data separate.

    The penalty keeps the estimate finite and removes its bias of first order; it vanishes as n grows. Estimates without
    a cluster are one Newton step from the estimate with all. Where a combination of the covariates separates events
    from the others completely, no interval of this kind can be trusted.
    """
    design = with_constant(covariates)
    beta, score, information = firth(event, design)
    fitted = design @ beta
    if fitted[event == 1].min(initial=np.inf) >= fitted[event == 0].max(initial=-np.inf):
        return None
    weight = expit(fitted) * expit(-fitted)
    informations = weight[:, None, None] * design[:, :, None] * design[:, None, :]

    def without(codes: Integer[np.ndarray, " n"], count: int) -> Float[np.ndarray, "point k"]:
        return beta - solve(information - cluster_sums(informations, codes, count), cluster_sums(score, codes, count))

    return coefficients(beta, [without(*clustering) for clustering in clusterings(points)], len(event))


def clusterings(points: Shaped[np.ndarray, " n"]) -> list[tuple[Integer[np.ndarray, " n"], int]]:
    """Each item's cluster as a code, and the number of clusters, for every clustering that errors have to allow for."""
    return [(level.codes, level.count) for level in levels(points)]


def coefficients(
    whole: Float[np.ndarray, " k"], without: Sequence[Float[np.ndarray, "_ k"]], n: int
) -> list[Coefficient]:
    """The coefficients behind the constant's."""
    return [Coefficient(float(whole[k]), tuple(part[:, k] for part in without), n) for k in range(1, len(whole))]


def firth(
    event: Float[np.ndarray, " n"], design: Float[np.ndarray, "n k"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "n k"], Float[np.ndarray, "k k"]]:
    """Coefficients at the maximum of log-likelihood + log det(information) / 2, with each item's score and the information."""
    beta = np.zeros(design.shape[1])

    def state(beta: Float[np.ndarray, " k"]) -> tuple[float, Float[np.ndarray, "n k"], Float[np.ndarray, "k k"]]:
        eta = design @ beta
        mu = expit(eta)
        weight = np.maximum(mu * (1 - mu), 1e-12)
        information = design.T @ (weight[:, None] * design)
        hat = weight * np.einsum("ij,jk,ik->i", design, np.linalg.pinv(information), design)
        value = float((event * eta - np.logaddexp(0, eta)).sum() + 0.5 * np.linalg.slogdet(information)[1])
        return value, design * (event - mu + hat * (0.5 - mu))[:, None], information

    value, score, information = state(beta)
    for _ in range(100):
        step = solve(information, score.sum(0))
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        for _ in range(30):  # halve until the penalised likelihood no longer falls
            trial = state(beta + step)
            if trial[0] >= value - 1e-12:
                break
            step = step / 2
        beta = beta + step
        value, score, information = trial
        if np.abs(step).max() < 1e-8:
            break
    return beta, score, information


def with_constant(covariates: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n more"]:
    """The covariates behind a column of ones."""
    return np.column_stack([np.ones(len(covariates)), covariates])


def cluster_sums(
    rows: Float[np.ndarray, "n ..."], codes: Integer[np.ndarray, " n"], count: int
) -> Float[np.ndarray, "point ..."]:
    """Sum of the rows of each cluster."""
    sums = np.zeros((count, *rows.shape[1:]))
    np.add.at(sums, codes, rows)
    return sums


def solve(
    matrix: Float[np.ndarray, "*batch k k"], vector: Float[np.ndarray, "*batch k"]
) -> Float[np.ndarray, "*batch k"]:
    """matrix^-1 vector; of least norm where a cluster alone made a covariate vary, so that without it no inverse exists."""
    return (np.linalg.pinv(matrix, rcond=1e-10) @ vector[..., None])[..., 0]


def within(values: Float[np.ndarray, "n k"], groups: Shaped[np.ndarray, " n"]) -> Float[np.ndarray, "n k"]:
    """Each value less the mean of its group: a regression of such values has a constant of its own for every group."""
    codes, count = clusters(groups)
    sizes = np.bincount(codes, minlength=count).astype(float)
    means = cluster_sums(values, codes, count) / sizes[:, None]
    return values - means[codes]
