"""The prior changed and the failure watched: what an audit with `--probes prior-dose` shows, from its table alone.

An update of the item's own belief raises or lowers the base's prior margin by a dose; the document's adapter acts unchanged
on top. The account under test says that the adapter margin then stays the same, so that the net margin falls by what the
prior was raised, and the items whose net margin it exceeds fail. `dose_slopes` has the slope; here stand what happens dose by
dose, the controls, and how many more items fail than under a placebo, beside how many the account says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from override_gap.analyses import dose_slopes
from override_gap.analyses import pass_through as observational
from override_gap.analyses.dose_answer import LESS_PLACEBO, cautions, sentence, too_few_reached
from override_gap.analyses.dose_rows import (
    OTHER_LAYERS,
    OWN,
    PLACEBO,
    UP_TO_SMALL,
    all_rows,
    asked,
    less_placebo,
    norm_held,
    under,
)
from override_gap.analyses.dose_slopes import BOUND, Slopes, slope_row, slopes
from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, once_per_run, points_of, truth, values
from override_gap.analyses.results import ResultSection
from override_gap.analyses.stats.clusters import levels
from override_gap.analyses.stats.estimate import Estimate, json_number
from override_gap.analyses.stats.intervals import complete_cases, mean, mean_error, proportion

SHARE_WITH_PLACEBO = 0.5
"""The placebo is taken off where at least this share of the own update's readings has one."""
NORM_HELD = "own, final norm held"


@dataclass(frozen=True)
class FailureRise:
    """How many more items fail where their prior is raised: shares over raised doses, the mean item's."""

    observed: Estimate
    """Failing (first token) under the own update less failing under the placebo's, or less failing at dose 0."""
    predicted: Estimate
    """The same if the adapter margin did not change: failing at the placebo's (dose 0's) net margin less what the prior moved."""
    flips: int
    """Items predicted to fail under some raised dose, and not to fail without."""
    p: float
    """p of "the observed rise is within BOUND of the predicted one": two one-sided clustered tests, the larger."""
    against: float
    """p of the opposite (Bonferroni)."""

    def as_json(self) -> dict[str, Any]:
        """``prior_dose.failure``."""
        ratio = self.observed.value / self.predicted.value if self.predicted.value > 0 else None
        return {
            "observed": self.observed.as_json(),
            "predicted": self.predicted.as_json(),
            "ratio": json_number(ratio),
            "flips": self.flips,
            "p": json_number(self.p),
            "against": json_number(self.against),
        }


@once_per_run
def compared(run: RunFrame) -> tuple[str, Table]:
    """The rows that the answer is read from, and their name: the own update's less the placebo's where there are placebos."""
    own = under(run)
    corrected = less_placebo(own, under(run, PLACEBO))
    dosed = (values(own["dose"]) != 0).sum()
    with_placebo = (values(corrected["dose"]) != 0).sum()
    return (LESS_PLACEBO, corrected) if dosed and with_placebo >= SHARE_WITH_PLACEBO * dosed else (OWN, own)


def failure_rise(rows: Table) -> FailureRise | None:
    """The rise in failures over raised doses, observed and predicted, of rows as `compared` gives them; None where too few.

    An item counts once: what it shows is the mean over its raised doses.
    """
    raised = rows[(values(rows["dose"]) > 0) & np.isfinite(values(rows["net_margin"]))]
    before = values(raised["fails_before"])
    seen, told = values(raised["fails"]) - before, values(raised["predicted_fails"]) - before
    each = raised.assign(seen=seen, told=told, flips=told > 0).groupby("item", sort=True)
    by_item = each[["seen", "told"]].mean()
    points = points_of(raised.drop_duplicates("item").sort_values("item"))
    seen, told, points = complete_cases(values(by_item["seen"]), values(by_item["told"]), points)
    if len(set(points)) < dose_slopes.FEWEST_CLUSTERS:
        return None
    low, high = (seen - (1 - BOUND) * told, (1 + BOUND) * told - seen)
    inside = max(_above(low, points), _above(high, points))
    outside = min(1.0, 2 * min(_above(-low, points), _above(-high, points)))
    return FailureRise(
        mean("rise in failures", seen, points),
        mean("rise predicted by a constant adapter margin", told, points),
        int(each["flips"].max().sum()),
        inside,
        outside,
    )


def _above(outcome: np.ndarray, points: np.ndarray) -> float:
    """One-sided p of "the mean is above 0", the larger of those by point and by relation; NaN where nothing varies."""
    found = []
    for level in levels(points):
        error, df = mean_error(outcome, level)
        found.append(float(stats.t.sf(outcome.mean() / error, df)) if error > 0 else float("nan"))
    return max(found) if np.isfinite(found).all() else float("nan")


def dose_rows(run: RunFrame) -> Iterator[dict[str, Any]]:
    """``prior_dose.doses``: per condition, update and dose, what moved, what became of the adapter margin, and who fails."""
    every = all_rows(run)
    sizes = sorted({float(dose) for dose in values(every["dose"])})
    for condition in [name for name in dict.fromkeys(every["condition"]) if name != BASE]:
        for arm in (OWN, PLACEBO, OTHER_LAYERS):
            rows = under(run, arm, condition)
            if (values(rows["dose"]) == 0).sum() == 0:
                continue
            grid = asked(rows, sizes)
            for dose in sizes:
                if len(at := grid[values(grid["dose"]) == dose]):
                    yield {"condition": condition, "arm": arm, "dose": dose, **_at_dose(at)}


def _at_dose(rows: Table) -> dict[str, Any]:
    """The readings of one condition, update and dose; success by first token with bounds for what was not reached."""
    points = points_of(rows)
    zero = values(rows["dose"])[0] == 0
    reached = truth(rows["reached"]) == 1 if not zero else np.ones(len(rows), dtype=bool)
    net, fails = values(rows["net_margin"]), values(rows["fails"])
    moved = np.where(np.isnan(net), np.nan, values(rows["moved"]))
    change = net - values(rows["net_before"])
    succeeds, predicted = 1 - fails, 1 - values(rows["predicted_fails"])
    at_most, at_least = (np.where(reached & np.isfinite(succeeds), succeeds, side) for side in (1.0, 0.0))
    return {
        "asked": len(rows),
        "reached": int(reached.sum()),
        "moved": mean("moved", moved, points, units="nats").as_json(),
        "adapter_change": mean("change of the adapter margin", change + moved, points, units="nats").as_json(),
        "net_change": mean("change of the net margin", change, points, units="nats").as_json(),
        "success": proportion("success", succeeds, points).as_json(),
        "predicted": proportion("predicted", predicted, points).as_json(),
        "excess": mean("observed less predicted", succeeds - predicted, points).as_json(),
        "success_margin": proportion("net margin above 0", np.where(np.isnan(net), np.nan, net > 0), points).as_json(),
        "success_least": json_number(at_least.mean()),
        "success_most": json_number(at_most.mean()),
    }


def control_rows(run: RunFrame) -> Iterator[dict[str, Any]]:
    """``prior_dose.controls``: what each update does to the base: to the prior, to other wordings, to unrelated answers."""
    every = all_rows(run)
    base = every[every["condition"] == BASE]
    lead = base[base["dose"] == 0].drop_duplicates("item").set_index("item")["old_lead"]
    base = base[base["dose"] != 0]
    for (arm, dose), rows in base.groupby(["arm", "dose"], sort=True):
        read = np.isfinite(values(rows["prior_margin"]))
        points, moved = points_of(rows), np.where(read, values(rows["moved"]), np.nan)
        others = values(rows["others_moved"])
        risen = values(rows["old_lead"]) - values(rows["item"].map(lead))
        yield {
            "arm": str(arm),
            "dose": float(dose),
            "moved": mean("moved", moved, points, units="nats").as_json(),
            "moved_size": mean("size of what it moved", np.abs(moved), points, units="nats").as_json(),
            "old_lead_moved": mean("rise of the old answer alone", risen, points, units="nats").as_json(),
            "others_moved": mean("other wordings moved", others, points, units="nats").as_json(),
            "kept": mean("unrelated answers kept", values(rows["kept"]), points).as_json(),
            "kl": mean("KL to the base on unrelated questions", values(rows["kl"]), points, units="nats").as_json(),
        }


def slope_rows(run: RunFrame) -> Iterator[dict[str, Any]]:
    """``prior_dose.pass_through``: by condition and update, by sign of the dose, and by third of the net margin at dose 0."""
    every = all_rows(run)
    for condition in [name for name in dict.fromkeys(every["condition"]) if name != BASE]:
        own, placebo = under(run, OWN, condition), under(run, PLACEBO, condition)
        sets = {OWN: own, LESS_PLACEBO: less_placebo(own, placebo), NORM_HELD: norm_held(own)}
        sets[OTHER_LAYERS] = under(run, OTHER_LAYERS, condition)
        for name, rows in sets.items():
            for doses in ("all", "raised", "lowered", UP_TO_SMALL):
                found = slopes(rows, doses)
                if found is None:
                    continue
                for items, slope in found.all.items():
                    if items == "all" or (condition == DELIVERED and doses != UP_TO_SMALL):
                        yield slope_row(slope, condition=condition, update=name, doses=doses, items=items)


def observational_rows(run: RunFrame, rows: Table, causal: Slopes) -> list[dict[str, Any]]:
    """``prior_dose.observed``: the slope over items without any intervention, and the causal one less it."""
    found = []
    across = dose_slopes.observed(rows)
    if across is not None:
        found.append({"what": "items of the experiment", **across.estimate("pass-through").as_json()})
        if [len(part) for part in across.without] == [len(part) for part in causal.everything.without]:
            gap = causal.everything - across
            found.append({"what": "causal less observed", **gap.estimate("difference").as_json()})
    through = observational.read(run)
    if through.slope.known:
        name = f"known conflicts of the run, {observational.METHODS[through.method]}"
        found.append({"what": name, **through.slope.as_json()})
    return found


def prior_dose(run: RunFrame) -> ResultSection | None:
    """The section ``prior_dose``; None where no item was read under a dose."""
    own = under(run)
    if own.empty or (values(own["dose"]) != 0).sum() == 0:
        return None
    name, rows = compared(run)
    causal = slopes(rows)
    rise = failure_rise(rows)
    sizes = sorted({float(dose) for dose in values(all_rows(run)["dose"])})
    chosen = dose_slopes.selection(own, sizes)
    lacks = too_few_reached(own, sizes)
    answer = "open" if causal is None or lacks else causal.answer()
    between = dose_slopes.steps(rows)
    small = dose_slopes.pass_through(rows, UP_TO_SMALL)
    said = " ".join([sentence(answer, causal, name, between, small), *([lacks] if lacks else []), *cautions(run)])
    content = {
        "read": name,
        "bound": BOUND,
        "answer": answer,
        "sentence": said,
        "steps": [{"from": low, "to": high, **step.estimate("pass-through").as_json()} for low, high, step in between],
        "pass_through": list(slope_rows(run)),
        "bend": None
        if causal is None or causal.bend is None
        else causal.bend.estimate("raised less lowered").as_json(),
        "observed": [] if causal is None else observational_rows(run, rows, causal),
        "failure": None if rise is None else rise.as_json(),
        "doses": list(dose_rows(run)),
        "controls": list(control_rows(run)),
        "selection": chosen,
    }
    lines = [content["sentence"]]
    if rise is not None:
        lines += [str(rise.observed), str(rise.predicted)]
    lines += [
        f"observed over {row['what']}: {row['value']:.2f}" for row in content["observed"] if row["value"] is not None
    ]
    return ResultSection("The prior changed by a dose, the adapter unchanged", content, "doses", tuple(lines))
