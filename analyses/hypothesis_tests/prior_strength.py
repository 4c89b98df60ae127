"""H1, failure tracks prior strength: a rank score test of failure on prior strength."""

from __future__ import annotations

from scipy import stats

from override_gap.analyses import prior_gradient
from override_gap.analyses.hypothesis import Finding, Hypothesis, too_few
from override_gap.analyses.readings import DELIVERED, RunFrame
from override_gap.analyses.stats.intervals import complete_cases, score_test
from override_gap.analyses.stats.logistic import RARE


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


H1 = Hypothesis(
    "H1",
    "Failure tracks prior strength.",
    "Conflicts as delivered, top1: supported if failures rank higher in prior strength than successes "
    "(area under the curve above 1/2; clustered rank score test, Holm-adjusted p < 0.05); refuted if lower.",
    tracks_prior,
)
