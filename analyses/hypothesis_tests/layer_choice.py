"""H5, scaling up chosen layers beats uniform scaling and random layers: every comparison at once."""

from __future__ import annotations

import math

from override_gap.analyses import equal_cost
from override_gap.analyses import matched_retention as specificity
from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.hypothesis import Finding, Hypothesis, too_few
from override_gap.analyses.readings import RunFrame


def specific_rescue(run: RunFrame, policy: str = "slb") -> Finding | str:
    """H5: the policy beats random layers and uniform scaling at the same cost, by either cost, and nothing else suffers."""
    by_cost = equal_cost.matched(run) or {}
    matched = [row for cost in equal_cost.COSTS for row in by_cost.get(cost, []) if row.condition == policy]
    if not matched or matched[0].cost != equal_cost.RETENTION:
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
    if reason := too_few(matched[0].difference.n, matched[0].difference.points):
        return reason
    p_values = [
        *(row.above for row in matched),
        *(control.above for control in randoms),
        *(split.p for split in unharmed),
    ]
    # The opposite is that any one comparison has the opposite sign: Bonferroni over the comparisons.
    testable = not any(math.isnan(p) for p in p_values)
    opposite = min(1.0, len(p_values) * (1 - max(p_values))) if testable else math.nan
    effect = "; ".join(
        [
            *(
                f"{100 * row.difference.value:+.1f} points against uniform {row.gain:.2f} (equal "
                f"{'retention' if row.cost == equal_cost.RETENTION else 'KL'})"
                for row in matched
            ),
            *(f"{100 * control.difference.value:+.1f} against {control.second}" for control in randoms),
            *(f"{split.split} {100 * split.difference.value:+.1f} against as delivered" for split in unharmed),
        ]
    )
    # the estimate shown is the comparison that decides: that of the larger p
    shown = max(matched, key=lambda row: -math.inf if math.isnan(row.above) else row.above)
    return Finding(shown.difference, max(p_values), opposite, effect)


H5 = Hypothesis(
    "H5",
    "Scaling up chosen layers (slb) is better than uniform scaling and than random layers.",
    "Supported if slb overrides more than uniform scaling both at the same retention and at the same mean KL to the base on "
    "unrelated questions (retention alone in runs without KL), more than each random-layer "
    f"control, and loses no more than {100 * specificity.MARGIN:.0f} points of novel recall and of retention "
    "against as delivered: every comparison below 5% (the largest p counts). Refuted if any comparison has the "
    "opposite sign.",
    specific_rescue,
)
