"""H4, scaling the adapter up fixes the failures: the share held at a gain above 1 against one half."""

from __future__ import annotations

import numpy as np

from override_gap.analyses import verdict as verdicts
from override_gap.analyses.causes import causes
from override_gap.analyses.hypothesis import Finding, Hypothesis
from override_gap.analyses.readings import RunFrame, points_of
from override_gap.analyses.stats.intervals import drop_unmeasured, proportion, share_test
from override_gap.margins.text import plural

RESCUED = 0.50


def scaling_rescues(run: RunFrame) -> Finding | str:
    """H4: share of known failures that a larger gain repairs with content, against one half."""
    found = causes(run)
    if found is None:
        return "the failures were not searched at other gains (--probes search)"
    cause = found.items["cause"]
    fixed = np.where(cause == "undecided", np.nan, cause.isin(["too weak", "at a price"]).astype(float))
    outcome, points = drop_unmeasured(fixed, points_of(found.items))
    if len(outcome) < verdicts.FEWEST or len(set(points)) < verdicts.FEWEST_POINTS:
        need = f"{verdicts.FEWEST} over {verdicts.FEWEST_POINTS} knowledge points are needed"
        return f"{plural(len(outcome), 'failure')} whose search decided; {need}"
    above, below = share_test(outcome, points, RESCUED)
    share = proportion("fixed by scaling up", outcome, points)
    return Finding(share, above, below, f"{outcome.mean():.0%} of {len(outcome)} failures fixed by scaling up")


H4 = Hypothesis(
    "H4",
    "Scaling the adapter up fixes the failures.",
    "Known conflicts that fail as delivered: supported if more than half succeed (top1, and the answer rose more than others "
    "did) at some larger gain that does not break the model; refuted if fewer.",
    scaling_rescues,
)
