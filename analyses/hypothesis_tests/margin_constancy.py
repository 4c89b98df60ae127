"""H2, the adapter margin is constant where the prior margin grows: equivalence tests of slopes."""

from __future__ import annotations

from override_gap.analyses import constancy, pass_through
from override_gap.analyses.hypothesis import Finding, Hypothesis, too_few
from override_gap.analyses.readings import DELIVERED, RunFrame, points_of, values
from override_gap.analyses.stats.intervals import complete_cases


def constant_margin(run: RunFrame) -> Finding | str:
    """H2: equivalence of slopes on log frequency where it is known, else of the pass-through slope with 1."""
    check = pass_through.margin_check(run)
    if not check.passes:
        return check.reason
    against = (
        f"own minus {pass_through.NULL} {check.null.value:.2f} nats"
        if check.null is not None and check.null.known
        else f"the run has no condition {pass_through.NULL}"
    )
    size = f"mean adapter margin {check.share.value:.2f} of the mean prior margin, over known conflicts ({against})"
    through = pass_through.read(run)
    slope = through.slope
    words = (
        f"pass-through {slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}], {pass_through.METHODS[through.method]}"
        if slope.known
        else f"no pass-through slope: {'; '.join(slope.caveats)}"
    )
    rows = run.select("conflict", DELIVERED)
    axes = constancy.axes(rows)
    if "log_frequency" not in axes:
        if not slope.known:
            return f"training frequency is unknown here and there is {words}"
        return Finding(slope, through.p, through.against, f"{words}; training frequency is unknown here; {size}")
    x, prior, adapter = axes["log_frequency"], values(rows["prior_margin"]), values(rows["adapter_margin"])
    x, prior, adapter, points = complete_cases(x, prior, adapter, points_of(rows))
    if reason := too_few(len(x), len(set(points))):
        return reason
    test = constancy.equivalence(x, prior, adapter, points)
    of_prior = constancy.slope("prior", x, prior, points).estimate
    of_adapter = constancy.slope("adapter", x, adapter, points).estimate
    effect = (
        f"slopes of {of_prior.value:.2f} (prior) and {of_adapter.value:.2f} (adapter) nats per unit of log frequency; "
        f"{words}; {size}"
    )
    return Finding(test.ratio, test.p, test.against, effect)


H2 = Hypothesis(
    "H2",
    "The adapter margin stays the same where the prior margin grows.",
    "Needs known conflicts whose mean adapter margin is at least a quarter of the mean prior margin, and above that of another "
    f"document's adapter where the run has {pass_through.NULL}. Where training frequency is known (meta.frequency): supported if "
    "the prior margin rises with its logarithm and the adapter margin's slope is, by two one-sided clustered tests, within "
    f"{constancy.BOUND:.0%} of the prior margin's; refuted if it is outside or the prior margin falls. Elsewhere: supported if "
    "the slope of the adapted margin on the base's, over known conflicts, is by two one-sided clustered tests within "
    f"{pass_through.BOUND:g} of 1; refuted if it is outside. That slope is read with the prior margins of other wordings as the "
    "instrument where most conflicts have one and it is strong, else by least squares.",
    constant_margin,
)
