"""Looks at data while they come in: the error spent at each look, and the bound that each look's statistic must pass.

With t the share of the planned information at a look, the error spent up to it on one side is
a(t) = 2 - 2 Phi(z_{alpha/2} / sqrt(t)), which gives nearly the bounds of O'Brien & Fleming (1979) and does not need looks to be
planned beforehand or equally spaced (Lan & DeMets 1983). Under the null the statistics are Z_k = W(t_k) / sqrt(t_k), W a
Brownian motion; the bound of look k is where the probability to pass it first there is a(t_k) - a(t_{k-1})
(Armitage, McPherson & Rowe 1969, by integration over the density of the paths that have passed none).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.optimize import root_scalar

NODES = 801
"""Nodes of the integration over the last statistic; the bounds are right to 1e-5."""
LOWEST, HIGHEST = -9.0, 9.0
"""Statistics beyond these have no probability that counts; a bound beyond the upper one is not reached."""


def spent(share: float, alpha: float) -> float:
    """One-sided error spent up to a look at this share (0..1) of the information: 2 - 2 Phi(z_{alpha/2} / sqrt(share))."""
    return float(2 * stats.norm.sf(stats.norm.isf(alpha / 2) / math.sqrt(share)))


def bounds(shares: Sequence[float], alpha: float = 0.025) -> list[float]:
    """The bound of each look, in standard errors, at a one-sided error of ``alpha`` over all looks.

    ``shares`` of the planned information ascend within 0..1; each bound depends on no later look. Raises ValueError.
    """
    before = 0.0
    for share in shares:
        if not before < share <= 1:
            raise ValueError(f"looks need ascending shares above 0 and up to 1, got {list(shares)}")
        before = share
    found: list[float] = []
    nodes = density = np.empty(0)
    error_before, share_before = 0.0, 0.0
    for share in shares:
        error = spent(share, alpha)
        bound = _bound(error - error_before, nodes, density, share_before, share)
        nodes, density = _surviving(bound, nodes, density, share_before, share)
        error_before, share_before = error, share
        found.append(bound)
    return found


def first_passage(limits: Sequence[float], shares: Sequence[float]) -> list[float]:
    """Probability to pass each look's limit first there, with no true effect; the sum is the error of any such bounds."""
    nodes = density = np.empty(0)
    before, found = 0.0, []
    for limit, share in zip(limits, shares, strict=True):
        found.append(_passing(limit, nodes, density, before, share))
        nodes, density = _surviving(limit, nodes, density, before, share)
        before = share
    return found


def coverage(bound: float) -> float:
    """Coverage of the two-sided interval of a look: 2 Phi(bound) - 1."""
    return float(1 - 2 * stats.norm.sf(bound))


def _bound(
    error: float, nodes: Float[np.ndarray, " node"], density: Float[np.ndarray, " node"], before: float, share: float
) -> float:
    def excess(limit: float) -> float:
        return _passing(limit, nodes, density, before, share) - error

    if excess(HIGHEST) >= 0:
        return HIGHEST
    return float(root_scalar(excess, bracket=(-1.0, HIGHEST), xtol=1e-10).root)


def _passing(
    limit: float, nodes: Float[np.ndarray, " node"], density: Float[np.ndarray, " node"], before: float, share: float
) -> float:
    """Probability that the statistic is above ``limit`` now and was below the bounds of all earlier looks."""
    if before == 0.0:
        return float(stats.norm.sf(limit))
    # Z_k given Z_{k-1} = z is normal with mean z sqrt(t_{k-1} / t_k) and variance 1 - t_{k-1} / t_k.
    r = before / share
    tail = stats.norm.sf((limit - nodes * math.sqrt(r)) / math.sqrt(1 - r))
    return float(np.trapezoid(tail * density, nodes))


def _surviving(
    bound: float, nodes: Float[np.ndarray, " node"], density: Float[np.ndarray, " node"], before: float, share: float
) -> tuple[Float[np.ndarray, " now"], Float[np.ndarray, " now"]]:
    """The density of the statistic over the paths that have passed no bound, at nodes up to this bound."""
    now = np.linspace(LOWEST, bound, NODES)
    if before == 0.0:
        return now, stats.norm.pdf(now)
    r = before / share
    kernel = stats.norm.pdf((now[:, None] - nodes[None] * math.sqrt(r)) / math.sqrt(1 - r)) / math.sqrt(1 - r)
    return now, np.asarray(np.trapezoid(kernel * density[None], nodes, axis=1))
