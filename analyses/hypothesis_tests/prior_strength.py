"""H1, failure tracks prior strength: a rank score test of failure on prior strength."""

from __future__ import annotations

from scipy import stats

from override_gap.analyses import adjusted_gradient, prior_gradient
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
    parts = [adjusted_sentence(run), in_context_sentence(run)]
    if gap.known:
        quarters = "success on the most weakly minus the most firmly held quarter of facts"
        parts.insert(0, f"{quarters}: {100 * gap.value:.0f} points")
    effect = "; ".join(part for part in parts if part)
    return Finding(prior_gradient.auc(strength, success, points), above, 1 - above, effect)


def adjusted_sentence(run: RunFrame) -> str:
    """Whether the gradient survives its covariates, in words; empty where none could enter."""
    row = adjusted_gradient.most_adjusted(run)
    if row is None:
        return ""
    slope = row.slope
    what = "failure" if row.outcome == "failure" else "the net margin"
    if row.agrees:
        says = "firmly held facts resist more"
    elif row.reverses:
        says = "the sign is the opposite: firmly held facts resist less"
    else:
        says = "no slope is shown: the interval holds 0"
    size = f"{slope.value:+.2f} [{slope.low:+.2f}, {slope.high:+.2f}] {slope.units} of {what} per standard deviation"
    return f"{adjusted_gradient.adjusted_words(row.adjusted_for)}, {says} ({size})"


def in_context_sentence(run: RunFrame) -> str:
    """The slope of the net margin under the adapter minus that with the document in the prompt; empty without one."""
    section = adjusted_gradient.in_context(run)
    for row in section["slopes"] if section else []:
        difference = row["difference"]
        if (row["population"], row["outcome"], row["adjusted_for"]) == ("all", "net_margin", []) and difference["low"]:
            return (
                f"the net margin falls by {-row['adapter']['value']:.2f} nats per standard deviation of prior strength under "
                f"the adapter and by {-row['prompt']['value']:.2f} with the document in the prompt (difference "
                f"{-difference['value']:+.2f} [{-difference['high']:+.2f}, {-difference['low']:+.2f}])"
            )
    return ""


H1 = Hypothesis(
    "H1",
    "Failure tracks prior strength.",
    "Conflicts as delivered, top1: supported if failures rank higher in prior strength than successes "
    "(area under the curve above 1/2; clustered rank score test, Holm-adjusted p < 0.05); refuted if lower. The "
    "status is of failure alone. Beside it stands whether the slope keeps its sign when log P(y_doc) under the base, the "
    "answers' lengths, the form of the question and the relation are adjusted for.",
    tracks_prior,
)
