"""How often 95% intervals contain the truth, over simulated audits of facts that come in relations (`tests/simulated_worlds.py`).

The truth is known by construction or, for the quartile gap, the area under the curve and the share that scaling up rescues,
read from one draw of very many independent questions: neither relations nor sizes change what holds of one question.
A row pools the audits of worlds of 15 and 40 relations with n questions, and names the lowest cell of relations and n.

    python -m benchmarks.coverage [AUDITS PER CELL] > docs/calibration/coverage.md
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pandas as pd

from override_gap.analyses.calibration import markdown
from override_gap.analyses.compare.conditions import paired
from override_gap.analyses.constancy import slope
from override_gap.analyses.prior_gradient import auc, gradient
from override_gap.analyses.stats.clusters import labelled
from override_gap.analyses.stats.differences import difference
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import mean, proportion, wilson
from tests.simulated_worlds import Facts, RelationWorld, facts, normal_quantile

SIZES, ICC, RELATIONS, N = ("equal", "lognormal", "pareto"), (0.0, 0.2, 0.5), (15, 40), (50, 200, 2000)
SHARES = (0.05, 0.5, 0.9, 0.97)
TIE = 0.3
"""Correlation of the adapter margin with the prior margin: the area under the curve is then neither 1/2 nor 1."""
RESAMPLED_EVERY, LARGEST_RESAMPLED = 3, 200
"""Statistics that resample take long: one audit in so many, and only up to so many questions."""


HEAD = """# Do 95% intervals hold the truth 95% of the time?

An interval that is called 95% should contain the true value in 95 of 100 studies. Here many audits are simulated whose true
values are known, with facts that are alike to different degrees (*icc*: 0 not at all), and the share of intervals that
contain the truth is counted: *coverage*, with its own interval *low* to *high*, should be near 0.95. How it was made:
[calibration](README.md).
"""


def labels(drawn: Facts) -> np.ndarray:
    """Each question's point with its relation."""
    points = np.array([f"p{number}" for number in drawn.point], dtype=object)
    return labelled(points, np.array([f"r{number}" for number in drawn.relation], dtype=object))


def truths(world: RelationWorld) -> dict[str, float]:
    """What holds of one question of this world, whatever its relation."""
    drawn = facts(
        np.random.default_rng(0), replace(world, relations=2, n=400_000, sizes="equal", icc=0.0, point_icc=0.0)
    )
    failing = drawn.adapter < drawn.prior
    order = np.argsort(drawn.prior)
    quarter = len(order) // 4
    won = np.sort(drawn.prior[~failing])
    return {
        "gap": float((~failing)[order[:quarter]].mean() - (~failing)[order[-quarter:]].mean()),
        "auc": float(np.searchsorted(won, drawn.prior[failing]).mean() / len(won)),
        "held": float((3 * drawn.adapter > drawn.prior)[failing].mean()),
    }


def estimates(
    drawn: Facts, world: RelationWorld, true: dict[str, float], resample: bool
) -> Iterator[tuple[str, Estimate, float]]:
    """Name, estimate and truth of every quantity on one audit."""
    points = labels(drawn)
    net_sd = world.sd * float(np.sqrt((1 - world.tie) ** 2 + 1 - world.tie**2))
    success = (drawn.adapter > drawn.prior).astype(float)
    for share in SHARES:
        reached = drawn.adapter - drawn.prior + net_sd * normal_quantile(share) > 0
        yield f"share {share:g}", proportion("", reached.astype(float), points), share
    yield "mean prior margin", mean("", drawn.prior, points), 3.0
    yield (
        "slope on log frequency",
        slope("", drawn.log_frequency, drawn.prior + 0.5 * drawn.log_frequency, points).estimate,
        0.5,
    )
    stronger = (1.5 * drawn.adapter > drawn.prior).astype(float)
    spread = world.sd * float(np.sqrt(1.5**2 + 1 - 2 * 1.5 * world.tie))
    gained = NormalDist().cdf(1.5 / spread) - 0.5
    yield "paired difference", paired(stronger, success, points, ("", ""), "", "").difference, gained
    half = np.arange(len(success)) % 2 == 0
    split = difference("", stronger[half], points[half], success[~half], points[~half])
    yield "difference of shares", split, gained
    failing = success == 0
    if failing.sum() >= 10:
        rescued = (3 * drawn.adapter > drawn.prior)[failing].astype(float)
        yield "share held of failures", proportion("", rescued, points[failing]), true["held"]
    if resample:
        yield "quartile gap", gradient(drawn.prior, success, points).gap, true["gap"]
        yield "area under the curve", auc(drawn.prior, success, points), true["auc"]


def main(audits: int = 100) -> None:
    """Print the coverage table."""
    hits: dict[tuple[str, str, float], dict[tuple[int, int], list[bool]]] = defaultdict(lambda: defaultdict(list))
    widths: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    true = truths(RelationWorld(tie=TIE))
    for sizes in SIZES:
        for icc in ICC:
            for relations in RELATIONS:
                for n in N:
                    world = RelationWorld(relations, n, sizes, icc, tie=TIE)
                    for seed in range(audits):
                        drawn = facts(np.random.default_rng([seed, relations, n]), world)
                        resample = n <= LARGEST_RESAMPLED and seed % RESAMPLED_EVERY == 0
                        for name, found, truth in estimates(drawn, world, true, resample):
                            if not np.isnan(found.low):
                                hits[name, sizes, icc][relations, n].append(found.low <= truth <= found.high)
                                widths[name, sizes, icc].append(found.high - found.low)
            print(f"{sizes}, {icc:g}", file=sys.stderr, flush=True)
    rows = []
    for key in sorted(
        hits, key=lambda key: (list(dict.fromkeys(k[0] for k in hits)).index(key[0]), SIZES.index(key[1]), key[2])
    ):
        cells = hits[key]
        pooled = [hit for cell in cells.values() for hit in cell]
        low, high = wilson(sum(pooled), len(pooled))
        worst, (relations, n) = min((float(np.mean(cell)), name) for name, cell in cells.items())
        rows.append(
            {
                "estimate": key[0], "sizes": key[1], "icc": key[2], "mean width": f"{np.mean(widths[key]):.2f}",
                "coverage": f"{np.mean(pooled):.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}", "audits": len(pooled),
                "lowest cell": f"{worst:.2f} ({relations} relations, n {n})",
            }
        )  # fmt: skip
    print(HEAD)
    print(markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
