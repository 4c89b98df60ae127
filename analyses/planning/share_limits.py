"""Whether the limits of a share lie above or below some value, for many simulated audits at once.

The same decisions as `stats.intervals.limits_at` makes one audit at a time (a test asks for every one of them); a limit is
not computed where only its side of a value is wanted. Successes and sizes are [audit, cluster]; a cluster of size 0 was not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.special import expit, gammaln, logit, stdtrit

from override_gap.analyses.stats.beta_binomial import ALIKE, RHO, START

Counts = Float[np.ndarray, "audit cluster"]
PerAudit = Float[np.ndarray, " audit"]
PLACES = np.linspace(START[0], START[-1], 961)
"""Log-odds at which the likelihood is read to find its peak."""
BLOCK = 3_000_000
"""Numbers at once in the likelihood, so that memory stays small."""


@dataclass(frozen=True, eq=False)
class PointLimits:
    """The interval of a share by knowledge point, one per audit."""

    low: PerAudit
    high: PerAudit

    @classmethod
    def of(cls, x: Counts, m: Counts, coverage: float) -> PointLimits:
        """Wilson's limits at the effective size, as `stats.intervals.limits_at`; NaN where fewer than two points were seen."""
        n, seen = m.sum(1), m > 0
        count = seen.sum(1).astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            p = x.sum(1) / n
            rare = np.where((p <= 0.5)[:, None], x > 0, (m - x) > 0)
            k = (rare & seen).sum(1)
            sums2 = ((x - m * p[:, None]) ** 2).sum(1)
            squares, pairs = n * p * (1 - p), (m * (m - 1)).sum(1)
            rho = np.clip((sums2 - squares) / (pairs * p * (1 - p)), 0, 1)
            rho = np.where((squares <= 1e-24) | (pairs == 0), 1.0, rho)
            scale, df = _correction(m, n, count, rho)
            floor = 1 + ((m**2).sum(1) / n - 1) / (1 + k)
            spread = np.where((p > 0) & (p < 1), scale * sums2 / n / (p * (1 - p)), 1.0)
            size = n / np.maximum(np.maximum(floor, spread), 1.0)
            q = stdtrit(df, 0.5 + coverage / 2)
            centre = (p + q * q / (2 * size)) / (1 + q * q / size)
            half = q / (1 + q * q / size) * np.sqrt(p * (1 - p) / size + q * q / (4 * size * size))
        low = np.where(p <= 0, 0.0, np.maximum(0.0, centre - half))
        high = np.where(p >= 1, 1.0, np.minimum(1.0, centre + half))
        defined = count >= 2
        return cls(np.where(defined, low, np.nan), np.where(defined, high, np.nan))


def _correction(m: Counts, n: PerAudit, count: PerAudit, rho: PerAudit) -> tuple[PerAudit, PerAudit]:
    """Scale and degrees of freedom of a clustered mean's variance: `stats.effective.of_mean`, one per audit."""
    omega, u = m * (1 + (m - 1) * rho[:, None]), m / n[:, None]
    total = omega.sum(1)
    shift = -2 * u * omega + u**2 * total[:, None]
    d = omega.sum(1)
    trace = d + shift.sum(1)
    uu, uv, vv = (u**2).sum(1), (u * omega).sum(1), (omega**2).sum(1)
    a, b, c, e = total * uu - uv, total * uv - vv, -uu, -uv
    square = vv + 2 * (omega * shift).sum(1) + a * a + 2 * b * c + e * e
    few = (trace <= 1e-12 * d) | (d <= 0)
    df = np.where(square > 0, trace**2 / square, count - 1)
    scale = np.where(few, count / (count - 1), d / trace)
    return scale, np.where(few, count - 1, np.clip(df, 1.0, np.maximum(1.0, count - 1)))


class RelationLimits:
    """The interval of a share by relation (`stats.beta_binomial.limits`), of which only the side of a value is asked.

    Audits are read when they are asked for: `rows` tells which.
    """

    def __init__(self, x: Counts, m: Counts, coverage: float) -> None:
        self.x, self.m, self.coverage = x, m, coverage
        self.all_won, self.none = x.sum(1) == m.sum(1), x.sum(1) == 0
        seen = (m > 0).sum(1)
        self.drop = stdtrit(np.maximum(1, seen - 1), 0.5 + coverage / 2) ** 2 / 2
        self.centre, self.top = np.full(len(x), np.nan), np.full(len(x), np.nan)

    def above(self, value: float, rows: Integer[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
        """Whether the lower limit lies above a value, of these audits."""
        exact = self._rarer_than_tail(float(logit(value)), rows)
        return np.where(self.none[rows], False, np.where(self.all_won[rows], exact, self._beyond(value, 1, rows)))

    def below(self, value: float, rows: Integer[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
        """Whether the upper limit lies below a value, of these audits."""
        exact = self._rarer_than_tail(float(logit(1 - value)), rows)
        return np.where(self.all_won[rows], False, np.where(self.none[rows], exact, self._beyond(value, -1, rows)))

    def _rarer_than_tail(self, log_odds: float, rows: Integer[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
        """Whether all questions would agree with less probability than the interval leaves out on a side."""
        return _log_all(self.m[rows], log_odds) < np.log((1 - self.coverage) / 2)

    def _beyond(self, value: float, side: int, rows: Integer[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
        """Whether the likelihood at the value has fallen below the interval's, as it stands and moved to all questions."""
        new = rows[np.isnan(self.centre[rows])]
        if len(new):
            self.centre[new], self.top[new] = _peak(self.x[new], self.m[new])
        x, m, centre = self.x[rows], self.m[rows], self.centre[rows]
        mixed = ~(self.all_won | self.none)[rows]
        shift = logit(np.where(mixed, x.sum(1) / m.sum(1), 0.5)) - centre
        found = np.ones(len(rows), dtype=bool)
        for place in (np.full(len(rows), logit(value)), logit(value) - shift):
            fallen = self.top[rows] - _profile(x, m, place[:, None])[:, 0] > self.drop[rows]
            found &= fallen & ((centre - place) * side > 0)
        return found


def _peak(x: Counts, m: Counts) -> tuple[PerAudit, PerAudit]:
    """The log-odds of the most likely share of each audit, and the log-likelihood there.

    The likelihood depends on how many clusters have each number of successes and of failures, so that all audits are read
    at all places by two products of matrices; a parabola through the three highest gives the peak between them.
    """
    size, most = 1 / RHO - 1, int(m.max())
    numbers = np.arange(most + 1.0)
    a = expit(PLACES)[None, :, None] * size
    table = (gammaln(numbers[:, None, None] + a) - gammaln(a)).reshape(most + 1, -1)
    mirrored = table.reshape(most + 1, len(PLACES), -1)[:, ::-1].reshape(most + 1, -1)
    won, lost = _how_many(x, m, most), _how_many(m - x, m, most)
    fixed = _how_many(m, m, most) @ (gammaln(size) - gammaln(size + numbers[:, None]))
    centre, top = np.empty(len(x)), np.empty(len(x))
    rows = max(1, BLOCK // table.shape[1])
    for first in range(0, len(x), rows):
        part = slice(first, first + rows)
        at = (won[part] @ table + lost[part] @ mirrored).reshape(-1, len(PLACES), len(RHO)) + fixed[part, None, :]
        at = at.max(2)
        best = np.clip(at.argmax(1), 1, len(PLACES) - 2)
        left, middle, right = (at[np.arange(len(at)), best + by] for by in (-1, 0, 1))
        bend = left - 2 * middle + right
        with np.errstate(divide="ignore", invalid="ignore"):
            move = np.clip(np.where(bend < 0, 0.5 * (left - right) / bend, 0.0), -1, 1)
        centre[part] = PLACES[best] + move * (PLACES[1] - PLACES[0])
        top[part] = middle - 0.25 * (left - right) * move
    return centre, top


def _how_many(numbers: Counts, m: Counts, most: int) -> Float[np.ndarray, "audit number"]:
    """Of each audit's clusters that were seen, how many have each number 0..most."""
    audits = np.arange(len(numbers))[:, None] * (most + 1)
    seen = m > 0
    codes = (audits + numbers.astype(int))[seen]
    return np.bincount(codes, minlength=len(numbers) * (most + 1)).reshape(len(numbers), most + 1).astype(float)


def _profile(x: Counts, m: Counts, places: Float[np.ndarray, "audit at"]) -> Float[np.ndarray, "audit at"]:
    """Log-likelihood of each audit at some log-odds, at the best correlation for each: `stats.beta_binomial.profile`."""
    size = 1 / RHO - 1
    per_audit = x.shape[1] * places.shape[1] * len(RHO)
    rows = max(1, BLOCK // max(1, per_audit))
    found = np.empty(places.shape)
    for first in range(0, len(x), rows):
        part = slice(first, first + rows)
        successes, sizes = x[part, :, None, None], m[part, :, None, None]
        a = expit(places[part])[:, None, :, None] * size
        b = expit(-places[part])[:, None, :, None] * size
        terms = gammaln(a + successes) - gammaln(a) + gammaln(b + sizes - successes) - gammaln(b)
        fixed = (gammaln(size) - gammaln(size + m[part, :, None])).sum(1)
        found[part] = (terms.sum(1) + fixed[:, None]).max(2)
    return found


def _log_all(m: Counts, log_odds: float) -> PerAudit:
    """Log-probability that all questions succeed where the share has these log-odds: `stats.beta_binomial.log_all`."""
    size = 1 / ALIKE - 1
    a = expit(log_odds) * size
    return np.where(m > 0, gammaln(a + m) - gammaln(a) - gammaln(size + m) + gammaln(size), 0.0).sum(1)
