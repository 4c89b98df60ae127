"""H4, scaling the adapter up fixes the failures: the rescued share against one half."""

from __future__ import annotations

from override_gap.analyses import dose_response
from override_gap.analyses import verdict as verdicts
from override_gap.analyses.hypothesis import Finding, Hypothesis
from override_gap.analyses.readings import RunFrame, points_of
from override_gap.analyses.stats.intervals import drop_unmeasured, proportion, share_test
from override_gap.margins.text import plural

RESCUED = 0.50


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


H4 = Hypothesis(
    "H4",
    "Scaling the adapter up fixes the failures.",
    "Known conflicts that fail as delivered: supported if more than half, beyond chance, succeed (top1) at "
    "some larger gain in range; refuted if fewer.",
    scaling_rescues,
)
