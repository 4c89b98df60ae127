"""H2, the adapter margin is constant where the prior margin grows: two one-sided tests of slopes."""

from __future__ import annotations

import numpy as np

from override_gap.analyses import constancy
from override_gap.analyses.hypothesis import Finding, Hypothesis, too_few
from override_gap.analyses.readings import DELIVERED, RunFrame, points_of, values
from override_gap.analyses.stats.intervals import complete_cases


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


H2 = Hypothesis(
    "H2",
    "The prior margin grows with training frequency and the adapter margin does not.",
    "Supported if the prior margin rises with log frequency and the adapter margin's slope is, by two one-sided "
    f"clustered tests, within {constancy.BOUND:.0%} of the prior margin's; refuted if it is outside or the prior "
    "margin falls. Not testable where frequency is unknown: prior strength shares a term with both margins.",
    constant_margin,
)
