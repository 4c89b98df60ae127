"""H6, raising the prior alone causes failure, by as much as the account says: slopes and failures under raised doses."""

from __future__ import annotations

import numpy as np

from override_gap.analyses import prior_dose
from override_gap.analyses.dose_rows import under
from override_gap.analyses.dose_slopes import BOUND, OUTER, slopes
from override_gap.analyses.hypothesis import Finding, Hypothesis, too_few
from override_gap.analyses.readings import RunFrame, Table, values

FEWEST_FLIPS = 10
"""Items that have to succeed without a dose and to fail under one if the account is right."""


def raised_prior_causes_failure(run: RunFrame) -> Finding | str:
    """H6: over raised doses, the slope of the adapted margin on what the prior moved near 1, and failures rising as predicted."""
    name, rows = prior_dose.compared(run)
    if rows.empty:
        return "no prior was changed in this run (--probes prior-dose)"
    causal, rise = slopes(rows, "raised"), prior_dose.failure_rise(rows)
    items = rows["item"].nunique() if causal is None else causal.everything.n
    lost = _without_placebo(run, rows)
    more = f"; {lost} more items fell out, as they have no placebo to take off" if lost else ""
    if reason := too_few(items, rows["point"].nunique()):
        return f"under raised doses: {reason}{more}"
    if causal is None or rise is None or any(part not in causal.parts for part in OUTER):
        return (
            "under raised doses too few knowledge points were read to give a slope for each third of the items" + more
        )
    if rise.flips < FEWEST_FLIPS:
        return (
            f"a constant adapter margin predicts that {rise.flips} of {items} items begin to fail under the doses reached; "
            f"{FEWEST_FLIPS} are needed{more}"
        )
    inside, outside = causal.constant()
    # a claim in parts: supported where each part is, refuted where some part is (two parts, Bonferroni)
    p, against = max(inside, rise.p), min(1.0, 2 * min(outside, rise.against))
    estimate = causal.everything.estimate(f"pass-through of a raised prior, {name}")
    low, high = (causal.parts[part].estimate("") for part in OUTER)
    effect = (
        f"pass-through {estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}] over raised doses ({name}); "
        f"{low.value:.2f} [{low.low:.2f}, {low.high:.2f}] in the third of the items with the lowest net margin, "
        f"{high.value:.2f} [{high.low:.2f}, {high.high:.2f}] in that with the highest; failures rise by "
        f"{100 * rise.observed.value:.0f} percentage points [{100 * rise.observed.low:.0f}, {100 * rise.observed.high:.0f}], "
        f"{100 * rise.predicted.value:.0f} predicted"
    )
    return Finding(estimate, p, against, effect)


def _without_placebo(run: RunFrame, compared: Table) -> int:
    """Items read under a dose that are not compared, as they have no placebo to take off."""
    own = under(run)
    read = own[(values(own["dose"]) != 0) & np.isfinite(values(own["net_margin"]))]
    return len(set(read["item"]) - set(compared["item"]))


H6 = Hypothesis(
    "H6",
    "Raising the prior alone causes failure, by as much as a constant adapter margin predicts.",
    "Needs --probes prior-dose. Over raised doses, less what the placebo's update does where it was read: supported if the slope "
    f"of the adapted margin on what the base's was moved is, by two one-sided clustered tests, within {BOUND:g} of 1, over all "
    "items and over the thirds with the lowest and with the highest net margin without a dose; and if the share of items that "
    f"fail (top1) rises by within {BOUND:.0%} of what a constant adapter margin predicts from each item's net margin. Refuted if "
    "one of these is outside.",
    raised_prior_causes_failure,
)
