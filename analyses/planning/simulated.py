"""Simulated audits of a stated truth: questions of a knowledge point are alike, and points of a relation too.

A question is a success where a standard normal number lies below the quantile of the true share; the numbers of two questions
share a part of a relation and a part of a point, so that the share stays exact and the correlation is the one stated.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from scipy import stats
from scipy.optimize import root_scalar
from scipy.special import ndtr, ndtri

from override_gap.analyses.planning.rule import Tallies

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(64)


MOST_ALIKE = 0.9999
"""Correlation of two normal numbers of a point, at most."""


@dataclass(frozen=True)
class Truth:
    """What a plan supposes: shares of all questions, and how alike those of one point and of one relation are.

    `known` is the share of conflicts whose old answer the base knows, `failing` the share of these that fail as delivered,
    `held` the share of the failures that some gain repairs. `icc` is the correlation of two questions of a point in each of
    these, `icc_relation` that of two questions of different points of a relation (at most `icc`); `apart` gives both for each
    of the three shares where a pilot shows them. `items_per_point` is the mean; `relations` are of like size, 0 for none.
    """

    known: float = 1.0
    failing: float = 0.6
    held: float = 0.9
    items_per_point: float = 2.5
    relations: int = 0
    icc: float = 0.3
    icc_relation: float = 0.05
    apart: tuple[tuple[float, float], ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


@lru_cache(maxsize=512)
def latent(correlation: float, share: float) -> float:
    """The correlation of two normal numbers whose successes, each of probability ``share``, correlate as stated."""
    if correlation <= 0 or not 0 < share < 1:
        return 0.0
    if correlation >= _success_correlation(MOST_ALIKE, share):
        return MOST_ALIKE
    found = root_scalar(
        lambda rho: _success_correlation(rho, share) - correlation, bracket=(0.0, MOST_ALIKE), xtol=1e-6
    )
    return float(found.root)


def _success_correlation(rho: float, share: float) -> float:
    """Correlation of two successes whose normal numbers correlate by rho; both succeed with

    E[Phi((z - sqrt(rho) u) / sqrt(1 - rho))^2], u standard normal.
    """
    given = ndtr((ndtri(share) - np.sqrt(rho) * NODES) / np.sqrt(1 - rho))
    both = float((WEIGHTS * given**2).sum() / WEIGHTS.sum())
    return (both - share**2) / (share * (1 - share))


def sizes(points: int, items_per_point: float) -> Integer[np.ndarray, " point"]:
    """Questions per point with this mean, as equal as whole numbers allow, at least one each."""
    total = max(points, round(points * items_per_point))
    return np.diff(np.round(np.linspace(0, total, points + 1)).astype(int))


def draw(
    rng: np.random.Generator,
    count: int,
    of_point: Integer[np.ndarray, " item"],
    relation: Integer[np.ndarray, " point"] | None,
    share: float,
    icc: float,
    icc_relation: float,
) -> Float[np.ndarray, "audit item"]:
    """Successes (1) and failures (0) of ``count`` audits; questions stand point by point."""
    n, points = len(of_point), int(of_point.max()) + 1
    if share <= 0 or share >= 1:
        return np.full((count, n), float(share >= 1))
    rho, rho_relation = latent(icc, share), latent(min(icc, icc_relation), share) if relation is not None else 0.0
    shared = np.sqrt(rho - rho_relation) * rng.standard_normal((count, points))
    if relation is not None:
        shared += np.sqrt(rho_relation) * rng.standard_normal((count, int(relation.max()) + 1))[:, relation]
    own = np.sqrt(1 - rho) * rng.standard_normal((count, n))
    return (shared[:, of_point] + own < stats.norm.ppf(share)).astype(float)


def audits(rng: np.random.Generator, truth: Truth, points: int, count: int) -> Tallies:
    """``count`` audits of so many points, in an order in which any first part is a random sample of the points."""
    of_point = np.repeat(np.arange(points), sizes(points, truth.items_per_point))
    relation = rng.permutation(np.arange(points) % truth.relations) if truth.relations else None
    shares, alike = (truth.known, truth.failing, truth.held), truth.apart or 3 * ((truth.icc, truth.icc_relation),)
    drawn = [draw(rng, count, of_point, relation, share, *icc) for share, icc in zip(shares, alike, strict=True)]
    known, failing = drawn[0], drawn[0] * drawn[1]
    tallies = [per_point(outcome, of_point) for outcome in (known, failing, failing * drawn[2])]
    return Tallies(tallies[0], tallies[1], tallies[2], relation)


def per_point(
    outcome: Float[np.ndarray, "audit item"], of_point: Integer[np.ndarray, " item"]
) -> Float[np.ndarray, "audit point"]:
    """Sums over each point's questions, which stand together."""
    return np.add.reduceat(outcome, np.flatnonzero(np.diff(of_point, prepend=-1)), axis=1)
