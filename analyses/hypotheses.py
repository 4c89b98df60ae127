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

from override_gap.analyses.hypothesis import Finding, Hypothesis, Result, Results
from override_gap.analyses.hypothesis_tests.criterion_accuracy import H3, SAID_RIGHT
from override_gap.analyses.hypothesis_tests.layer_choice import H5
from override_gap.analyses.hypothesis_tests.margin_constancy import H2
from override_gap.analyses.hypothesis_tests.prior_strength import H1
from override_gap.analyses.hypothesis_tests.raised_prior import H6
from override_gap.analyses.hypothesis_tests.scaling_rescue import H4, RESCUED
from override_gap.analyses.readings import RunFrame
from override_gap.analyses.stats.paired import holm

__all__ = ["ALPHA", "RESCUED", "SAID_RIGHT", "STANDARD", "Finding", "Hypothesis", "Result", "Results", "evaluate"]

ALPHA = 0.05
STANDARD = (H1, H2, H3, H4, H5, H6)


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
