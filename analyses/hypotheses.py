"""Hypotheses over stored readings: a claim, a rule fixed before the data are seen, a test and a status.

Your own is one more instance; its test takes a run and returns a ``Finding``, or the reason why it cannot be tested:

    def doubling_helps(run):
        pair = comparison.conditions(run, "uniform-2", "as-delivered")
        if pair is None:
            return "no uniform-2 condition"
        return Finding(pair.difference, pair.above, 1 - pair.above, f"{pair.gained} gained, {pair.lost} lost")

    mine = Hypothesis("U1", "Doubling the adapter helps.", "supported if the paired test is below 5%", doubling_helps)
    evaluate(run, [*STANDARD, mine])
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from override_gap.analyses import constancy, dose_response, prior_gradient
from override_gap.analyses import matched_retention as specificity
from override_gap.analyses import verdict as verdicts
from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.hypothesis import Finding, Hypothesis, Result, Results
from override_gap.analyses.readings import DELIVERED, RunFrame, points_of, truth, values
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import (
    complete_cases,
    correlation,
    drop_unmeasured,
    limits,
    mover,
    one_sided,
    proportion,
    score_test,
    share_test,
)
from override_gap.analyses.stats.logistic import RARE
from override_gap.analyses.stats.paired import holm
from override_gap.margins.text import plural

ALPHA = 0.05
FEWEST, FEWEST_POINTS = 20, 10
SAID_RIGHT = 0.80
RESCUED = 0.50


def evaluate(run: RunFrame, hypotheses: Sequence[Hypothesis] | None = None, alpha: float = ALPHA) -> Results:
    """Test all hypotheses and give each its status, with p-values adjusted by Holm over those that can be tested.

    Supported where the adjusted p of the claim is below alpha, refuted where that of its opposite is, else inconclusive.
    """
    hypotheses = list(STANDARD if hypotheses is None else hypotheses)
    outcomes = [hypothesis.test(run) for hypothesis in hypotheses]
    findings = [outcome if isinstance(outcome, Finding) and not math.isnan(outcome.p) else None for outcome in outcomes]
    claims = holm([finding.p if finding else math.nan for finding in findings])
    opposites = holm([finding.against if finding else math.nan for finding in findings])
    results = []
    for hypothesis, outcome, finding, claim, opposite in zip(
        hypotheses, outcomes, findings, claims, opposites, strict=True
    ):
        if finding is None:
            reason = outcome if isinstance(outcome, str) else "the test statistic does not exist on these data"
            results.append(Result(hypothesis, "not testable", None, math.nan, reason))
            continue
        status = "supported" if claim < alpha else "refuted" if opposite < alpha else "inconclusive"
        results.append(Result(hypothesis, status, finding, claim))
    return Results(tuple(results))


def too_few(n: int, points: int) -> str | None:
    """Why so few conflicts cannot be tested, or None where they can."""
    if n < FEWEST or points < FEWEST_POINTS:
        return f"{plural(n, 'conflict')} over {plural(points, 'knowledge point')}; {FEWEST} over {FEWEST_POINTS} are needed"
    return None


def tracks_prior(run: RunFrame) -> Finding | str:
    """H1: rank score test of failure on prior strength."""
    strength, success, points = complete_cases(*prior_gradient.arrays(run.select("conflict", DELIVERED), "top1"))
    if reason := too_few(len(success), len(set(points))):
        return reason
    events = int(min(success.sum(), len(success) - success.sum()))
    if events < RARE:
        return f"too few {'failures' if success.mean() > 0.5 else 'successes'} ({events}) to relate to the prior"
    t, p = score_test(1 - success, stats.rankdata(strength), points)
    above = p / 2 if t > 0 else 1 - p / 2
    gap = prior_gradient.gradient(strength, success, points).gap
    effect = ""
    if gap.known:
        effect = f"success on the most weakly minus the most firmly held quarter of facts: {100 * gap.value:.0f} points"
    return Finding(prior_gradient.auc(strength, success, points), above, 1 - above, effect)


def constant_margin(run: RunFrame) -> Finding | str:
    """H2: equivalence test of the adapter margin's slope on log frequency."""
    rows = run.select("conflict", DELIVERED)
    axes = constancy.axes(rows)
    if "log_frequency" not in axes and (n := int(np.isfinite(values(rows["frequency"])).sum())):
        return f"training frequency is known for {n} conflicts here; {constancy.MIN_FREQUENCIES} are needed"
    if "log_frequency" not in axes:
        return "training frequency is unknown here, and prior strength shares a term with both margins"
    x, prior, adapter = axes["log_frequency"], values(rows["prior_margin"]), values(rows["adapter_margin"])
    x, prior, adapter, points = complete_cases(x, prior, adapter, points_of(rows))
    if reason := too_few(len(x), len(set(points))):
        return reason
    test = constancy.equivalence(x, prior, adapter, points)
    of_prior = constancy.slope("prior", x, prior, points).estimate
    of_adapter = constancy.slope("adapter", x, adapter, points).estimate
    effect = (
        f"slopes of {of_prior.value:.2f} (prior) and {of_adapter.value:.2f} (adapter) nats per unit of log frequency"
    )
    return Finding(test.ratio, test.p, test.against, effect)


def criterion_predicts(run: RunFrame) -> Finding | str:
    """H3: balanced accuracy of the criterion against the greedy answer (against top1 where answers are few)."""
    rows = run.select("conflict", DELIVERED)
    override, points = truth(rows["success_margin"]), points_of(rows)
    for measure in ("answer", "top1"):
        success = truth(rows[f"success_{measure}"])
        both = ~np.isnan(override) & ~np.isnan(success)
        if both.sum() >= FEWEST:
            break
    override, success, points = override[both], success[both], points[both]
    if reason := too_few(len(success), len(set(points))):
        return reason
    yes, no = override == 1, override == 0
    if min(yes.sum(), no.sum()) < RARE:
        return f"the criterion gives the same answer on nearly all items ({yes.sum()} yes, {no.sum()} no)"
    sides = [(success[yes], points[yes]), (1 - success[no], points[no])]
    if min(len(set(side_points)) for _, side_points in sides) < 2:
        return "all items on which the criterion says yes, or all on which it says no, are of one knowledge point"
    value = float(np.mean([side.mean() for side, _ in sides]))
    r = correlation(*sides[0], *sides[1])

    def interval(level: float) -> tuple[float, float]:
        (l1, h1), (l2, h2) = (limits(side, side_points, level) for side, side_points in sides)
        (p1, p2) = (side.mean() for side, _ in sides)
        return value - mover(p1 - l1, p2 - l2, -r) / 2, value + mover(h1 - p1, h2 - p2, -r) / 2

    low, high = interval(0.95)
    estimate = Estimate(
        f"balanced accuracy against {measure}", value, low, min(1.0, high), len(success), len(set(points))
    )
    p = one_sided(interval, SAID_RIGHT)
    same = float((override == success).mean())
    note = (
        "; a first-token success implies a positive margin, so only the other direction is tested"
        if measure == "top1"
        else ""
    )
    return Finding(estimate, p, 1 - p, f"criterion and {measure} agree on {same:.0%} of conflicts{note}")


def scaling_rescues(run: RunFrame) -> Finding | str:
    """H4: share of known failures that scaling the adapter up fixes, beyond chance, against one half."""
    rows = dose_response.failures(run, "known")
    outcome, points = drop_unmeasured(dose_response.rescued(run, rows), points_of(rows))
    if len(outcome) < verdicts.FEWEST or len(set(points)) < verdicts.FEWEST_POINTS:
        need = f"{verdicts.FEWEST} over {verdicts.FEWEST_POINTS} knowledge points are needed"
        return f"{plural(len(outcome), 'failure')} on which a gain above 1 was tried; {need}"
    chance = verdicts.chance_rate(run, rows)
    above, below = share_test(outcome, points, RESCUED + (1 - RESCUED) * (chance or 0.0))
    share = verdicts.corrected(proportion("rescued", outcome, points), chance)
    by_chance = f", chance {chance:.1%}" if chance is not None else ""
    return Finding(
        share, above, below, f"{outcome.mean():.0%} of {len(outcome)} failures fixed by scaling up{by_chance}"
    )


def specific_rescue(run: RunFrame, policy: str = "slb") -> Finding | str:
    """H5: the policy beats random layers and uniform scaling at the same retention, and nothing else suffers."""
    matched = next((row for row in specificity.matched(run) or [] if row.condition == policy), None)
    if matched is None:
        return f"needs {policy}, at least two uniform gains and retention items"
    randoms = [
        control
        for name in ("random-layers", "random-matched")
        if (control := comparison.conditions(run, policy, name)) is not None
    ]
    splits = [specificity.non_inferior(run, policy, split) for split in ("novel", "retention")]
    unharmed = [split for split in splits if split is not None]
    if not randoms or len(unharmed) < len(splits):
        return "needs a random-layers control, novel items and retention items"
    if reason := too_few(matched.difference.n, matched.difference.points):
        return reason
    p_values = [matched.above, *(control.above for control in randoms), *(split.p for split in unharmed)]
    # The opposite is that any one comparison has the opposite sign: Bonferroni over the comparisons.
    testable = not any(math.isnan(p) for p in p_values)
    opposite = min(1.0, len(p_values) * (1 - max(p_values))) if testable else math.nan
    effect = "; ".join(
        [
            f"{100 * matched.difference.value:+.1f} points against uniform {matched.gain:.2f}",
            *(f"{100 * control.difference.value:+.1f} against {control.second}" for control in randoms),
            *(f"{split.split} {100 * split.difference.value:+.1f} against as delivered" for split in unharmed),
        ]
    )
    return Finding(matched.difference, max(p_values), opposite, effect)


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
        criterion_predicts,
    ),
    Hypothesis(
        "H4",
        "Scaling the adapter up fixes the failures.",
        "Known conflicts that fail as delivered: supported if more than half, beyond chance, succeed (top1) at "
        "some larger gain in range; refuted if fewer.",
        scaling_rescues,
    ),
    Hypothesis(
        "H5",
        "Scaling up chosen layers (slb) is better than uniform scaling and than random layers.",
        "Supported if slb overrides more than uniform scaling at the same retention, more than each random-layer "
        f"control, and loses no more than {100 * specificity.MARGIN:.0f} points of novel recall and of retention "
        "against as delivered: every comparison below 5% (the largest p counts). Refuted if any comparison has the "
        "opposite sign.",
        specific_rescue,
    ),
)
