"""A share over few clusters of unequal size: likelihood of a share that differs from cluster to cluster (beta-binomial).

Of cluster g, x_g of m_g questions succeed with a share drawn from Beta(p s, (1 - p) s), s = 1/rho - 1, rho the intraclass
correlation. Limits are where the profile likelihood over rho falls by half the square of Student's quantile for the
clusters (Skellam 1948; Williams 1975). Near 0 and 1, with 15 clusters, a variance estimated from the clusters that
happen to differ is too small or none; the likelihood knows how many clusters would have shown the rarer outcome.

The likelihood speaks of the share of clusters, all weighed alike. Where that of all questions differs from it, limits are
those of both: the likelihood's as they are, and moved in log-odds by that difference.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Integer
from scipy import stats
from scipy.optimize import minimize_scalar, root_scalar
from scipy.special import expit, gammaln, logit

from override_gap.analyses.stats.by_content import by_content

RHO = np.array([0.001, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
"""Intraclass correlations tried; .42 is the largest measured (prior strength by relation on CounterFact)."""
ALIKE = 0.5
"""Intraclass correlation up to which limits hold where all questions succeed, or none: the data then say nothing of it."""
START = np.linspace(-9.0, 9.0, 31)
"""Log-odds at which the profile is first looked at; beyond them a limit is 0 or 1."""


def profile(
    x: Float[np.ndarray, " cluster"], m: Float[np.ndarray, " cluster"]
) -> Callable[[Float[np.ndarray, " at"]], Float[np.ndarray, " at"]]:
    """Log-likelihood of log-odds of p, at the best rho for each, up to a constant; x of m questions succeed per cluster."""
    pairs, times = np.unique(np.stack([x, m]), axis=1, return_counts=True)
    x, m = pairs[0][:, None, None], pairs[1][:, None, None]
    size = (1 / RHO - 1)[None, :]
    # Differences of log-gamma that do not depend on p.
    fixed = (times[:, None] * (gammaln(size) - gammaln(size + m[:, 0]))).sum(0)

    def at(log_odds: Float[np.ndarray, " at"]) -> Float[np.ndarray, " at"]:
        a, b = expit(log_odds)[:, None] * size, expit(-log_odds)[:, None] * size
        terms = gammaln(a + x) - gammaln(a) + gammaln(b + m - x) - gammaln(b)
        return (np.tensordot(times, terms, 1) + fixed).max(1)

    return at


def peak(at: Callable[[Float[np.ndarray, " at"]], Float[np.ndarray, " at"]]) -> tuple[float, float]:
    """The log-odds of the most likely share, and the log-likelihood there."""
    near = int(at(START).argmax())
    low, high = START[max(near - 1, 0)], START[min(near + 1, len(START) - 1)]
    best = minimize_scalar(
        lambda place: -at(np.array([place]))[0], bounds=(low, high), method="bounded", options={"xatol": 1e-3}
    )
    return float(best.x), float(-best.fun)


@lru_cache(maxsize=4096)
def _limits(x: tuple[float, ...], m: tuple[float, ...], level: float) -> tuple[float, float]:
    at = profile(np.array(x), np.array(m))
    centre, top = peak(at)
    drop = float(stats.t.ppf(0.5 + level / 2, len(x) - 1)) ** 2 / 2
    seen = at(START)
    limits = []
    for direction, edge in ((-1, 0.0), (1, 1.0)):
        beyond = START[(top - seen > drop) & ((START - centre) * direction > 0)]
        if len(beyond) == 0:
            limits.append(edge)
            continue
        outside = beyond.max() if direction < 0 else beyond.min()
        # At the peak itself the drop is not reached; between there and the first point beyond it lies the limit.
        root = root_scalar(
            lambda place: top - at(np.array([place]))[0] - drop, bracket=sorted((centre, outside)), xtol=1e-4
        )
        limits.append(float(expit(root.root)))
    shift = seen_shift(sum(x) / sum(m), centre)
    moved = [float(expit(logit(limit) + shift)) for limit in limits]
    return min(limits[0], moved[0]), max(limits[1], moved[1])


def seen_shift(share: float, centre: float) -> float:
    """How far the share of the questions lies from the most likely share of relations, in log-odds.

    They differ where relations with many questions have another share than those with few, as among failures, of which
    relations whose failures are hard to repair have more.
    """
    return float(logit(share)) - centre


def log_all(m: Float[np.ndarray, " cluster"], log_odds: float) -> float:
    """Log-probability that all questions succeed where the share has these log-odds, at correlation `ALIKE`.

    It grows with the correlation, so that at a smaller one it is less.
    """
    size = 1 / ALIKE - 1
    a = expit(log_odds) * size
    return float((gammaln(a + m) - gammaln(a) - gammaln(size + m) + gammaln(size)).sum())


@by_content(4096)
def least_of_all(m: Float[np.ndarray, " cluster"], level: float) -> float:
    """The share at which all questions succeed with probability (1 - level) / 2: the lower limit where all do."""
    tail = float(np.log((1 - level) / 2))
    root = root_scalar(lambda place: log_all(m, place) - tail, bracket=(-30.0, 30.0), xtol=1e-6)
    return float(expit(root.root))


def limits(
    success: Float[np.ndarray, " n"], codes: Integer[np.ndarray, " n"], count: int, level: float
) -> tuple[float, float]:
    """Limits of the share that clusters succeed at on average.

    Where all questions succeed the upper limit is 1 and the lower one exact: the share at which all would succeed with half the
    probability that the interval leaves out, at correlation `ALIKE` or less. So where none succeeds.
    """
    x, m = (np.bincount(codes, weights=values, minlength=count) for values in (success, np.ones(len(success))))
    if x.sum() == m.sum():
        return least_of_all(m, level), 1.0
    if x.sum() == 0:
        return 0.0, 1 - least_of_all(m, level)
    order = np.lexsort((m, x))
    return _limits(tuple(x[order].tolist()), tuple(m[order].tolist()), level)


def share_test(
    success: Float[np.ndarray, " n"], codes: Integer[np.ndarray, " n"], count: int, null: float
) -> tuple[float, float]:
    """One-sided p of "the share is above ``null``" and of "below", by the signed root of the same likelihood ratio."""
    x, m = (np.bincount(codes, weights=values, minlength=count) for values in (success, np.ones(len(success))))
    if x.sum() in (0, m.sum()):
        p = float(np.exp(log_all(m, float(logit(null if x.sum() else 1 - null)))))
        return (p, 1 - p) if x.sum() else (1 - p, p)
    at = profile(x, m)
    centre, top = peak(at)
    roots = []
    for place in logit(null) - np.array([0.0, seen_shift(x.sum() / m.sum(), centre)]):
        fall = max(0.0, top - float(at(np.array([place]))[0]))
        roots.append(float(np.sign(centre - place)) * float(np.sqrt(2 * fall)))
    return float(stats.t.sf(min(roots), count - 1)), float(stats.t.cdf(max(roots), count - 1))
