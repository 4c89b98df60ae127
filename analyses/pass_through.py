"""How much of the base's margin passes through the adapter: the slope of the adapted margin on the base's, over items.

M_f = f(y_pre) - f(y_doc) is the prior margin, M_g = g(y_pre) - g(y_doc) the adapted one (minus the net margin): two
passes with no term in common. An adapter margin that is the same for every item gives M_g = M_f - constant, slope 1.
Slope 0: the adapter sets a level, whatever the base believed. An adapter that does nothing has slope 1 as well, so the
slope speaks of a method only where `margin_check` passes.

Noise of the base margin that the adapted one does not share pulls the least-squares slope towards 0. The prior margin of
the same conflict in other wordings does not share that noise, and serves as an instrument (two-stage least squares).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from override_gap.analyses.readings import DELIVERED, POPULATIONS, RunFrame, Table, points_of, truth, values
from override_gap.analyses.results import ResultSection
from override_gap.analyses.stats import bootstrap
from override_gap.analyses.stats.estimate import Estimate, json_number, missing
from override_gap.analyses.stats.intervals import complete_cases, mean
from override_gap.analyses.stats.regression import Coefficient, least_squares
from override_gap.margins.text import plural

BOUND = 0.25
"""The adapter margin counts as constant where the pass-through slope is within this of 1."""
LEAST_SHARE = 0.25
"""Mean adapter margin over mean prior margin below which no slope speaks of the method."""
NULL = "null-other"
"""The condition under which each document has another document's adapter."""
FEWEST, FEWEST_POINTS = 20, 10
STRONG = 10.0
"""First-stage F below which other wordings say too little of a wording's prior margin (Staiger & Stock 1997)."""
METHODS = {"ols": "least squares", "iv": "other wordings as instrument"}


@dataclass(frozen=True)
class PassThrough:
    """The slope of the adapted margin on the base's by one method and population."""

    population: str
    method: str
    slope: Estimate
    p: float
    """Largest p of two one-sided tests that the slope is within BOUND of 1."""
    against: float
    """p of the opposite: the slope is outside."""
    intercept: float = float("nan")
    first_stage_f: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Row of ``margins.pass_through.slopes``."""
        return {
            "population": self.population,
            "method": self.method,
            **self.slope.as_json(),
            "p": json_number(self.p),
            "against": json_number(self.against),
            "intercept": json_number(self.intercept),
            "first_stage_f": json_number(self.first_stage_f),
            "note": "; ".join(self.slope.caveats),
        }


def pass_through(run: RunFrame, population: str = "known", method: str = "ols") -> PassThrough:
    """The slope of M_g on M_f over conflicts as delivered.

    With the instrument, items are chosen as known by their other wordings, not by their own: choosing by the margin that is
    regressed on would tie its noise to the belief.
    """
    rows = run.select("conflict", DELIVERED, population if method == "ols" else "all")
    base, adapted, points = values(rows["prior_margin"]), -values(rows["net_margin"]), points_of(rows)
    instrument = base
    if method == "iv":
        instrument, known = other_wordings(rows)
        if population == "known":
            instrument = np.where(known > 0.5, instrument, np.nan)
    base, adapted, instrument, points = complete_cases(base, adapted, instrument, points)
    name, n, count = f"pass-through, {METHODS[method]}", len(base), len(set(points))

    def none(why: str, f: float | None = None) -> PassThrough:
        return PassThrough(
            population, method, missing(name, why, n, count), float("nan"), float("nan"), first_stage_f=f
        )

    if n < FEWEST or count < FEWEST_POINTS:
        of = "conflict" if method == "ols" else "conflict with another wording"
        return none(
            f"{plural(n, of)} over {plural(count, 'knowledge point')}; {FEWEST} over {FEWEST_POINTS} are needed"
        )
    if np.ptp(base) < 1e-9 or np.ptp(instrument) < 1e-9:
        return none("the base's margin does not vary")
    f = None
    if method == "iv":
        f = first_stage_f(instrument, base, points)
        if not f >= STRONG:
            return none(f"other wordings say too little of this one's prior margin (F {f:.1f}, {STRONG:.0f} needed)", f)
    (slope,) = least_squares(adapted, base[:, None], points, instrument[:, None])
    intercept = float(adapted.mean() - slope.value * base.mean())
    inside, outside = equivalence(slope)
    return PassThrough(population, method, slope.estimate(name), inside, outside, intercept, f)


def equivalence(slope: Coefficient, bound: float = BOUND) -> tuple[float, float]:
    """p of "within bound of 1" (two one-sided tests, the larger) and of "outside" (either side, Bonferroni)."""
    inside = max(slope.above(1 - bound), slope.below(1 + bound))
    outside = min(1.0, 2 * min(slope.below(1 - bound), slope.above(1 + bound)))
    return inside, outside


def first_stage_f(instrument: Float[np.ndarray, " n"], base: Float[np.ndarray, " n"], points: Any) -> float:
    """Squared t of the base margin on its instrument, clustered."""
    (slope,) = least_squares(base, instrument[:, None], points)
    return min((slope.value / error) ** 2 if error > 0 else float("inf") for error, _ in slope.errors)


def other_wordings(rows: Table) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Mean prior margin of each conflict's other wordings, and the share of them that the base knows; NaN where it has none.

    Another wording is another question of the same knowledge point with the same two answers; a question that several
    documents share counts once.
    """
    conflicts = list(zip(rows["point"], rows["answer"].astype(str), rows["prior_answer"].astype(str), strict=True))
    margins, known = values(rows["prior_margin"]), truth(rows["known"])
    wordings: dict[tuple, dict[str, tuple[float, float]]] = {}
    for conflict, question, margin, is_known in zip(conflicts, rows["question"], margins, known, strict=True):
        if np.isfinite(margin):
            wordings.setdefault(conflict, {})[str(question)] = (margin, is_known)
    others = np.full((len(rows), 2), np.nan)
    for n, (conflict, question) in enumerate(zip(conflicts, rows["question"], strict=True)):
        rest = [pair for text, pair in wordings.get(conflict, {}).items() if text != str(question)]
        if rest:
            others[n] = np.mean(rest, axis=0)
    return others[:, 0], others[:, 1]


@dataclass(frozen=True)
class MarginCheck:
    """Whether the adapter moves the margin enough for its slopes to speak of it, over known conflicts as delivered."""

    prior: Estimate
    adapter: Estimate
    share: Estimate
    """Mean adapter margin over mean prior margin."""
    null: Estimate | None
    """Adapter margin minus that of the null condition on the same items; None where the run has none."""
    reason: str
    """Why the slopes do not speak of the method; empty where they do."""

    @property
    def passes(self) -> bool:
        """Whether the slopes speak of the method."""
        return not self.reason

    def as_json(self) -> dict[str, Any]:
        """``margins.pass_through.margin``."""
        return {
            "prior": self.prior.as_json(),
            "adapter": self.adapter.as_json(),
            "share": self.share.as_json(),
            "least_share": LEAST_SHARE,
            "null": NULL if self.null is not None else None,
            "own_minus_null": self.null.as_json() if self.null is not None else None,
            "passes": self.passes,
            "reason": self.reason,
        }


def margin_check(run: RunFrame, seed: int = 0) -> MarginCheck:
    """Mean adapter margin: at least a quarter of the mean prior margin, and (where there is a null) above the null's.

    Above: the interval of the paired difference lies above zero.
    """
    used = ["item", "point", "cluster", "prior_margin", "adapter_margin"]
    rows = run.select("conflict", DELIVERED, "known", used)
    points, prior, adapter = points_of(rows), values(rows["prior_margin"]), values(rows["adapter_margin"])
    p, a, kept = complete_cases(prior, adapter, points)
    prior_mean, adapter_mean = (
        mean("prior margin", p, kept, units="nats"),
        mean("adapter margin", a, kept, units="nats"),
    )

    def ratio(w: Float[np.ndarray, "replicate n"]) -> Float[np.ndarray, " replicate"]:
        return (w @ a) / (w @ p)

    share = bootstrap.bootstrap("adapter margin / prior margin", ratio, kept, seed)
    other = run.select("conflict", NULL, "known", used).drop_duplicates("item").set_index("item")["adapter_margin"]
    null = None
    if len(other):
        null = mean("own minus null", adapter - values(rows["item"].map(other)), points, units="nats")
    return MarginCheck(prior_mean, adapter_mean, share, null, _reason(prior_mean, adapter_mean, null))


def _reason(prior: Estimate, adapter: Estimate, null: Estimate | None) -> str:
    if prior.n < FEWEST or prior.points < FEWEST_POINTS:
        few = f"{plural(prior.n, 'known conflict')} over {plural(prior.points, 'knowledge point')}"
        return f"{few}; {FEWEST} over {FEWEST_POINTS} are needed"
    if not prior.value > 0:
        return f"the base does not prefer the old answers (mean prior margin {prior.value:.2f} nats)"
    if adapter.value < LEAST_SHARE * prior.value:
        return (
            f"the adapter's mean margin ({adapter.value:.2f} nats) is less than a quarter of the prior's "
            f"({prior.value:.2f} nats): an adapter that does next to nothing is constant too"
        )
    if null is not None and null.known and not null.low > 0:
        return (
            f"the adapter's margin is not above that of another document's adapter (own minus null {null.value:.2f} "
            f"[{null.low:.2f}, {null.high:.2f}] nats, own {adapter.value:.2f}): what is constant may be no content"
        )
    return ""


def read(run: RunFrame) -> PassThrough:
    """The slope by which constancy is judged: known conflicts, with the instrument where most of them have one that is strong."""
    plain, instrumented = pass_through(run, "known", "ols"), pass_through(run, "known", "iv")
    return instrumented if instrumented.slope.known and instrumented.slope.n >= plain.slope.n / 2 else plain


def section(run: RunFrame, seed: int = 0) -> ResultSection:
    """``margins.pass_through`` of the summary."""
    slopes = [pass_through(run, population, method) for population in POPULATIONS for method in METHODS]
    check = margin_check(run, seed)
    content = {
        "bound": BOUND,
        "read": read(run).method,
        "slopes": [slope.as_json() for slope in slopes],
        "margin": check.as_json(),
    }
    lines = [f"{slope.population}: {slope.slope}" for slope in slopes if slope.slope.known]
    if check.reason:
        lines.append(f"these slopes do not speak of the method: {check.reason}")
    return ResultSection("Adapted margin on base margin (1: constant adapter margin)", content, "slopes", tuple(lines))
