"""Hypotheses over stored readings: a claim, a rule written down beforehand, a test, a status.

Your own is one instance; its test takes a run and returns a ``FileFinding`` or a reason why it cannot be tested:

    def louder(run):
        found = comparison.conditions(run, "uniform-2", "as-delivered")
        if found is None:
            return "no uniform-2 condition"
        return Finding(found.difference, found.above, 1 - found.above, "points")

    mine = Hypothesis("U1", "Doubling the adapter helps.", "supported if the paired test is below 5%", louder)
    evaluate(run, [*STANDARD, mine])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from override_gap.analyses import constancy, dose_response, prior_gradient
from override_gap.analyses import matched_retention as specificity
from override_gap.analyses import verdict as verdicts
from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.readings import DELIVERED, RunFrame, truth, values
from override_gap.analyses.stats.estimate import Estimate, HtmlRepr, number
from override_gap.analyses.stats.intervals import (
    complete,
    correlation,
    limits,
    mover,
    one_sided,
    score_test,
    share_test,
)
from override_gap.analyses.stats.logistic import RARE
from override_gap.margins.text import plural

ALPHA = 0.05
FEWEST, FEWEST_POINTS = 20, 10
SAID_RIGHT = 0.80
RESCUED = 0.50


@dataclass(frozen=True)
class Finding:
    """What a test found: ``p`` for the claim, ``against`` for its contrary (both one-sided), effect size in words."""

    estimate: Estimate
    p: float
    against: float
    effect: str


Test = Callable[[RunFrame], Finding | str]


@dataclass(frozen=True)
class Hypothesis:
    """A claim with its rule; ``test`` returns a Finding, or the reason (str) why this run cannot test it."""

    id: str
    claim: str
    rule: str
    test: Test


@dataclass(frozen=True)
class Result(HtmlRepr):
    """A hypothesis judged among others: supported, refuted, inconclusive or not testable."""

    hypothesis: Hypothesis
    status: str
    finding: Finding | None
    p_holm: float
    reason: str = ""

    def __str__(self) -> str:
        found = f"{self.finding.estimate}, Holm p {self.p_holm:.3g}" if self.finding else self.reason
        return f"{self.hypothesis.id} {self.status}: {self.hypothesis.claim}\n  {found}"

    def as_json(self) -> dict[str, Any]:
        """Row of the section ``hypotheses``."""
        found = self.finding
        return {
            "id": self.hypothesis.id,
            "claim": self.hypothesis.claim,
            "rule": self.hypothesis.rule,
            "status": self.status,
            "estimate": found.estimate.as_json() if found else None,
            "quantity": found.estimate.name if found else None,
            "effect": found.effect if found else None,
            "p": number(found.p) if found else None,
            "p_holm": number(self.p_holm),
            "reason": self.reason,
        }


def evaluate(run: RunFrame, hypotheses: Sequence[Hypothesis] | None = None, alpha: float = ALPHA) -> list[Result]:
    """Test all, adjust by Holm over those that can be tested, and judge: p_holm < alpha supports; the contrary's
    adjusted p < alpha refutes; otherwise inconclusive."""
    hypotheses = list(STANDARD if hypotheses is None else hypotheses)
    outcomes = [hypothesis.test(run) for hypothesis in hypotheses]
    found = [outcome if isinstance(outcome, Finding) and not math.isnan(outcome.p) else None for outcome in outcomes]
    claims = comparison.holm([finding.p if finding else math.nan for finding in found])
    contraries = comparison.holm([finding.against if finding else math.nan for finding in found])
    results = []
    for hypothesis, outcome, finding, claim, contrary in zip(
        hypotheses, outcomes, found, claims, contraries, strict=True
    ):
        if finding is None:
            reason = outcome if isinstance(outcome, str) else "the test statistic does not exist on these data"
            results.append(Result(hypothesis, "not testable", None, math.nan, reason))
            continue
        status = "supported" if claim < alpha else "refuted" if contrary < alpha else "inconclusive"
        results.append(Result(hypothesis, status, finding, claim))
    return results


def too_few(n: int, points: int) -> str | None:
    """Reason not to test, or None."""
    if n < FEWEST or points < FEWEST_POINTS:
        return f"{plural(n, 'conflict')} over {plural(points, 'knowledge point')}; {FEWEST} over {FEWEST_POINTS} are needed"
    return None


def tracks_prior(run: RunFrame) -> Finding | str:
    """H1: rank score test of failure on prior strength."""
    strength, success, points = complete(*prior_gradient.arrays(run.select("conflict", DELIVERED), "top1"))
    if reason := too_few(len(success), len(set(points))):
        return reason
    events = int(min(success.sum(), len(success) - success.sum()))
    if events < RARE:
        return f"only {events} {'failures' if success.mean() > 0.5 else 'successes'}: nothing to relate to the prior"
    t, p = score_test(1 - success, stats.rankdata(strength), points)
    above = p / 2 if t > 0 else 1 - p / 2
    gap = prior_gradient.gradient(strength, success, points).gap
    effect = f"{100 * gap.value:.0f} percentage points from the weakest to the strongest quartile" if gap.known else ""
    return Finding(prior_gradient.auc(strength, success, points), above, 1 - above, effect)


def constant_margin(run: RunFrame) -> Finding | str:
    """H2: equivalence of the adapter margin's slope on log frequency."""
    rows = run.select("conflict", DELIVERED)
    axes = constancy.axes(rows)
    if "log_frequency" not in axes:
        return "training frequency is unknown here, and prior strength shares a term with both margins"
    x, prior, adapter = axes["log_frequency"], values(rows["prior_margin"]), values(rows["adapter_margin"])
    points = rows["point"].to_numpy(dtype=object)
    keep = ~np.any([np.isnan(column) for column in (x, prior, adapter)], axis=0)
    if reason := too_few(int(keep.sum()), len(set(points[keep]))):
        return reason
    found = constancy.equivalence(x, prior, adapter, points)
    grows = constancy.slope("prior", x, prior, points).estimate
    still = constancy.slope("adapter", x, adapter, points).estimate
    effect = f"slopes of {grows.value:.2f} (prior) and {still.value:.2f} (adapter) nats per unit of log frequency"
    return Finding(found.ratio, found.p, found.against, effect)


def criterion_speaks(run: RunFrame) -> Finding | str:
    """H3: balanced accuracy of the criterion against the greedy answer (top1 where answers are few)."""
    rows = run.select("conflict", DELIVERED)
    override, points = truth(rows["success_margin"]), rows["point"].to_numpy(dtype=object)
    for measure in ("answer", "top1"):
        said = truth(rows[f"success_{measure}"])
        both = ~np.isnan(override) & ~np.isnan(said)
        if both.sum() >= FEWEST:
            break
    override, said, points = override[both], said[both], points[both]
    if reason := too_few(len(said), len(set(points))):
        return reason
    yes, no = override == 1, override == 0
    if min(yes.sum(), no.sum()) < RARE:
        return f"the criterion says the same of nearly all items ({yes.sum()} yes, {no.sum()} no)"
    sides = [(said[yes], points[yes]), (1 - said[no], points[no])]
    if min(len(set(where)) for _, where in sides) < 2:
        return "one answer of the criterion comes from a single knowledge point"
    value = float(np.mean([side.mean() for side, _ in sides]))
    r = correlation(*sides[0], *sides[1])

    def interval(level: float) -> tuple[float, float]:
        (l1, h1), (l2, h2) = (limits(side, where, level) for side, where in sides)
        (p1, p2) = (side.mean() for side, _ in sides)
        return value - mover(p1 - l1, p2 - l2, -r) / 2, value + mover(h1 - p1, h2 - p2, -r) / 2

    low, high = interval(0.95)
    estimate = Estimate(f"balanced accuracy against {measure}", value, low, min(1.0, high), len(said), len(set(points)))
    p = one_sided(interval, SAID_RIGHT)
    same = float((override == said).mean())
    note = "; against the first token one direction is an identity" if measure == "top1" else ""
    return Finding(estimate, p, 1 - p, f"criterion and {measure} agree on {same:.0%} of conflicts{note}")


def amplitude_rescues(run: RunFrame) -> Finding | str:
    """H4: share of known failures rescued by amplitude, beyond chance, against one half."""
    rows = dose_response.failures(run, "known")
    outcome = dose_response.rescued(run, rows)
    points = rows["point"].to_numpy(dtype=object)
    keep = ~np.isnan(outcome)
    outcome, points = outcome[keep], points[keep]
    if len(outcome) < verdicts.FEWEST or len(set(points)) < verdicts.FEWEST_POINTS:
        return f"{len(outcome)} failures with amplitude tried; {verdicts.FEWEST} are needed"
    chance = verdicts.chance_rate(run, rows)
    above, below = share_test(outcome, points, RESCUED + (1 - RESCUED) * (chance or 0.0))
    share = verdicts.corrected(verdicts.proportion("rescued", outcome, points), chance)
    allowed = f", chance {chance:.1%}" if chance is not None else ""
    return Finding(share, above, below, f"{outcome.mean():.0%} of {len(outcome)} failures rescued{allowed}")


def specific_rescue(run: RunFrame, policy: str = "slb") -> Finding | str:
    """H5: the policy beats random layers and matched uniform scaling, and nothing else suffers."""
    found = specificity.matched(run)
    own = next((row for row in found or [] if row.condition == policy), None)
    if own is None:
        return f"needs {policy}, a uniform sweep and retention items"
    randoms = [
        rival
        for name in ("random-layers", "random-matched")
        if (rival := comparison.conditions(run, policy, name)) is not None
    ]
    tried = [specificity.non_inferior(run, policy, split) for split in ("novel", "retention")]
    sides = [side for side in tried if side is not None]
    if not randoms or len(sides) < len(tried):
        return "needs a random-layers control, novel and retention items"
    if reason := too_few(own.difference.n, own.difference.points):
        return reason
    parts = [own.above, *(rival.above for rival in randoms), *(side.p for side in sides)]
    # The contrary is any one part turned round: Bonferroni over the parts.
    contrary = min(1.0, len(parts) * (1 - max(parts))) if not any(math.isnan(p) for p in parts) else math.nan
    effect = "; ".join(
        [
            f"{100 * own.difference.value:+.1f} points against uniform {own.gain:.2f}",
            *(f"{100 * rival.difference.value:+.1f} against {rival.second}" for rival in randoms),
            *(f"{side.split} {100 * side.difference.value:+.1f} against as delivered" for side in sides),
        ]
    )
    return Finding(own.difference, max(parts), contrary, effect)


STANDARD = (
    Hypothesis(
        "H1",
        "Failure tracks prior strength.",
        "Conflicts as delivered, top1: supported if failures rank higher in prior strength than successes "
        "(area under the curve above 1/2; clustered rank score test, Holm-adjusted p < 0.05); refuted if lower.",
        tracks_prior,
    ),
    Hypothesis(
        "H2",
        "The prior margin grows with training frequency and the adapter margin does not.",
        "Supported if the prior margin rises with log frequency and the adapter margin's slope is, by two one-sided "
        f"clustered tests, within {constancy.BOUND:.0%} of the prior margin's; refuted if it is outside or the prior "
        "margin falls. Not testable where frequency is unknown: prior strength shares a term with both margins.",
        constant_margin,
    ),
    Hypothesis(
        "H3",
        "The criterion (net margin above zero) predicts what the model says.",
        "Conflicts as delivered, greedy answers (first token where answers are few): supported if the mean of "
        f"P(said | criterion) and P(not said | no criterion) is above {SAID_RIGHT:.0%}; refuted if below.",
        criterion_speaks,
    ),
    Hypothesis(
        "H4",
        "Amplitude rescues the failures.",
        "Known conflicts that fail as delivered: supported if more than half, beyond chance, are rescued (top1) at "
        "some gain in range; refuted if fewer.",
        amplitude_rescues,
    ),
    Hypothesis(
        "H5",
        "The rescue by chosen layers (slb) is specific.",
        "Supported if slb overrides more than uniform scaling at the same retention, more than each random-layer "
        f"control, and loses no more than {100 * specificity.MARGIN:.0f} points of novel recall and of retention "
        "against as delivered: every part below 5% (the largest p counts). Refuted if any part is turned round.",
        specific_rescue,
    ),
)
