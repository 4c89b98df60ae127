"""Effective degrees of freedom: what clusters of unequal size leave of the variance of a clustered sum.

A clustered variance sums the squares of one number per cluster. Where a few clusters hold most of the questions, that sum
is too small on average and varies like one of far fewer clusters. Both are computed under a working covariance, in
which two questions of one cluster correlate by rho (Bell & McCaffrey 2002; Pustejovsky & Tipton 2018): the factor that
makes the variance unbiased, and Satterthwaite's degrees of freedom, at most clusters - 1, which equal sizes attain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer
from scipy.special import stdtrit

from override_gap.analyses.stats.by_content import by_content

UNKNOWN = 1.0
"""Correlation within a cluster that is assumed where the data cannot tell: clusters then count by their sizes alone."""


@dataclass(frozen=True)
class Correction:
    """``scale`` makes the sum of squared cluster terms unbiased; ``df`` are its degrees of freedom."""

    scale: float
    df: float


def quantile(df: float, coverage: float) -> float:
    """Student's quantile of a two-sided interval; scipy's distribution object takes twenty times as long."""
    return float(stdtrit(df, 0.5 + coverage / 2))


def intraclass(
    residual: Float[np.ndarray, " n"], codes: Integer[np.ndarray, " n"], count: int, unknown: float = UNKNOWN
) -> float:
    """Correlation of two residuals of one cluster, from the sums over clusters, in 0..1; ``unknown`` where none varies.

    rho = (sum_g (sum_{i in g} r_i)^2 - sum_i r_i^2) / (sum_g m_g (m_g - 1) * mean r^2)
    """
    sizes = np.bincount(codes, minlength=count)
    pairs, squares = float((sizes * (sizes - 1)).sum()), float((residual**2).sum())
    if squares <= 1e-24 or pairs == 0:
        return unknown
    sums = np.bincount(codes, weights=residual, minlength=count)
    return float(np.clip(((sums**2).sum() - squares) / (pairs * squares / len(residual)), 0, 1))


def correction(
    b: Float[np.ndarray, " q"], u: Float[np.ndarray, "cluster q"], omega: Float[np.ndarray, "cluster q q"]
) -> Correction:
    """Scale and degrees of freedom of V = sum_g e_g^2, e_g = b't_g - u_g' sum_h t_h, where cov(t_g) = omega_g.

    t_g are the cluster's own sums and u_g what estimating the mean or the regression takes away from them. With
    M = cov(e): scale = sum_g b'omega_g b / tr M, df = (tr M)^2 / tr M^2. M is never formed (it has a row per cluster).
    """
    count = len(u)
    v = omega @ b
    d = v @ b
    total = omega.sum(0)
    shift = -2 * (u * v).sum(1) + np.einsum("gi,ij,gj->g", u, total, u)
    trace = float((d + shift).sum())
    if trace <= 1e-12 * float(d.sum()) or d.sum() <= 0:
        return Correction(count / (count - 1), float(count - 1))
    z = np.hstack([u, v])
    q = len(b)
    k = np.block([[total, -np.eye(q)], [-np.eye(q), np.zeros((q, q))]])
    zz = k @ (z.T @ z)
    square = float((d**2).sum() + 2 * (d * shift).sum() + np.trace(zz @ zz))
    df = trace**2 / square if square > 0 else count - 1
    return Correction(float(d.sum()) / trace, float(np.clip(df, 1.0, count - 1)))


@by_content(4096)
def of_mean(sizes: Integer[np.ndarray, " cluster"], rho: float) -> Correction:
    """The correction of a mean over clusters of these sizes."""
    m = sizes.astype(float)
    omega = (m * (1 + (m - 1) * rho))[:, None, None]
    return correction(np.ones(1), (m / m.sum())[:, None], omega)


def of_regression(
    design: Float[np.ndarray, "n q"],
    weight: Float[np.ndarray, " n"],
    contrast: Float[np.ndarray, " q"],
    codes: Integer[np.ndarray, " n"],
    count: int,
    rho: float,
) -> Correction:
    """The correction of one coefficient of a (weighted) regression; ``weight`` is one for least squares.

    The outcome's working variance is 1 / weight, up to a factor, so that of a score w x (y - mu) is weight x x'.
    """
    inside = cluster_products(design * weight[:, None], design, codes, count)
    bread = np.linalg.inv(inside.sum(0))
    roots = cluster_sums(design * np.sqrt(weight)[:, None], codes, count)
    omega = (1 - rho) * inside + rho * roots[:, :, None] * roots[:, None, :]
    b = bread @ contrast
    return correction(b, inside @ b @ bread.T, omega)


def cluster_sums(
    rows: Float[np.ndarray, "n q"], codes: Integer[np.ndarray, " n"], count: int
) -> Float[np.ndarray, "cluster q"]:
    """The sum of the rows of each cluster."""
    return np.stack([np.bincount(codes, weights=column, minlength=count) for column in rows.T], axis=1)


def cluster_products(
    left: Float[np.ndarray, "n q"], right: Float[np.ndarray, "n q"], codes: Integer[np.ndarray, " n"], count: int
) -> Float[np.ndarray, "cluster q q"]:
    """The sum over each cluster's rows of left_i right_i'."""
    q = left.shape[1]
    flat = (left[:, :, None] * right[:, None, :]).reshape(len(left), q * q)
    return cluster_sums(flat, codes, count).reshape(count, q, q)
