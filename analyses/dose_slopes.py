"""How much of what is added to a belief reaches the adapted model: slopes over doses, within each item, and what they say.

Pass-through is the slope of the adapted margin g(y_pre) - g(y_doc) on what an update adds to the base's f(y_pre) - f(y_doc):
1 where the adapter margin does not change, 0 where the adapter sets a level; the net margin's slope is its negative, the
adapter margin's is 1 less it. Every item is its own control (a constant for each), so nothing by which items differ enters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import stats

from override_gap.analyses.dose_rows import asked, measured, of_sign, thirds
from override_gap.analyses.pass_through import BOUND, equivalence
from override_gap.analyses.readings import Table, points_of, values
from override_gap.analyses.stats.estimate import json_number
from override_gap.analyses.stats.regression import Coefficient, least_squares, within

FEWEST_CLUSTERS = 4
"""Knowledge points below which no slope is given."""
ALPHA = 0.05
OUTER = ("lowest third", "highest third")
ANSWERS = {
    "constant": "the adapter margin does not change with the prior",
    "grows": "the adapter margin grows with the prior, by less than the prior does",
    "level": "the adapter sets a level, whatever the prior",
    "falls": "the adapter margin falls where the prior is raised",
    "opposites": "items of low and of high net margin differ, so that the mean over items describes neither",
    "bends": "the answer is no straight line, so that one slope over all doses describes none of them",
    "open": "the intervals leave open what the adapter margin does",
}


def pass_through(rows: Table, doses: str = "all") -> Coefficient | None:
    """The slope of minus the net margin on what the update moved, with a constant per item; n counts items.

    `doses`: as `of_sign` takes them. None with fewer than FEWEST_CLUSTERS knowledge points.
    """
    rows = measured(of_sign(rows, doses))
    points, items = points_of(rows), rows["code"].to_numpy()
    if len(set(points)) < FEWEST_CLUSTERS:
        return None
    moved, adapted = within(np.column_stack([values(rows["moved"]), -values(rows["net_margin"])]), items).T
    (slope,) = least_squares(adapted, moved[:, None], points)
    return replace(slope, n=len(np.unique(items)))


def bend(rows: Table) -> Coefficient | None:
    """By how much the slope over raised doses exceeds that over lowered ones, of two lines that meet at no dose, per item.

    The coefficient of max(moved, 0) beside that of moved, with a constant per item; None where either sign of the dose is absent.
    """
    rows = measured(rows)
    points, items, moved = points_of(rows), rows["code"].to_numpy(), values(rows["moved"])
    if len(set(points)) < FEWEST_CLUSTERS or not (moved > 0).any() or not (moved < 0).any():
        return None
    columns = np.column_stack([moved, np.maximum(moved, 0), -values(rows["net_margin"])])
    *covariates, adapted = within(columns, items).T
    _, hinge = least_squares(adapted, np.column_stack(covariates), points)
    return replace(hinge, n=len(np.unique(items)))


def steps(rows: Table) -> list[tuple[float, float, Coefficient]]:
    """From each dose to the next larger one: the slope over these two doses alone, of the items that were read at both."""
    rows = measured(rows)
    sizes = sorted({float(dose) for dose in values(rows["dose"])})
    found = []
    for low, high in itertools.pairwise(sizes):
        both = rows[rows["dose"].isin((low, high))]
        both = both[both.groupby("item")["dose"].transform("nunique") == 2]
        if len(set(points_of(both))) < FEWEST_CLUSTERS:
            continue
        moved, adapted = within(
            np.column_stack([values(both["moved"]), -values(both["net_margin"])]), both["code"].to_numpy()
        ).T
        (slope,) = least_squares(adapted, moved[:, None], points_of(both))
        found.append((low, high, replace(slope, n=both["item"].nunique())))
    return found


def observed(rows: Table) -> Coefficient | None:
    """The slope over items, at dose 0, of the adapted margin on the base's: what an audit sees that changes nothing."""
    rows = measured(rows).drop_duplicates("item")
    points = points_of(rows)
    prior, net = values(rows["prior_before"]), values(rows["net_before"])
    if len(set(points)) < FEWEST_CLUSTERS or np.ptp(prior) < 1e-9:
        return None
    return least_squares(-net, prior[:, None], points)[0]


@dataclass(frozen=True)
class Slopes:
    """The slopes of one set of rows: over all items, and over the thirds of them by net margin at dose 0.

    Of all doses there are also the slopes over raised and over lowered ones (`signs`) and by how much they differ (`bend`).
    """

    everything: Coefficient
    parts: Mapping[str, Coefficient]
    signs: Mapping[str, Coefficient] = field(default_factory=dict)
    bend: Coefficient | None = None

    @property
    def all(self) -> dict[str, Coefficient]:
        """Slopes by the name of their items."""
        return {"all": self.everything, **self.parts}

    @property
    def judged(self) -> list[Coefficient]:
        """Those that have to be near 1 for the adapter margin to be constant: of all items and of the outer thirds."""
        return [self.everything, *(self.parts[name] for name in OUTER if name in self.parts)]

    def constant(self) -> tuple[float, float]:
        """p of "all judged slopes lie within BOUND of 1", the largest of two one-sided tests each; and p of "one does not"."""
        inside, outside = zip(*(equivalence(slope) for slope in self.judged), strict=True)
        return max(inside), min(1.0, len(outside) * min(outside))

    def answer(self) -> str:
        """A key of ANSWERS: by the interval over all items, unless their mean hides two that differ.

        `constant`: within BOUND of 1 by two one-sided tests, with both outer thirds' slopes there as well. `opposites`: the
        outer thirds differ (p < ALPHA) and lie on either side of 1, one of them by more than BOUND; `bends`: the same of
        raised and lowered doses. Hypothesis H6 asks for more of thirds: that the tests pass in them too.
        """
        slope, outer = self.everything, [self.parts[name] for name in OUTER if name in self.parts]
        if len(outer) == 2 and hidden(*outer) and apart(*outer) < ALPHA:
            return "opposites"
        if len(self.signs) == 2 and self.bend and hidden(*self.signs.values()) and self.bend.two_sided() < ALPHA:
            return "bends"
        if equivalence(slope)[0] < ALPHA:
            return "constant" if len(outer) == 2 and all(abs(part.value - 1) < BOUND for part in outer) else "open"
        if slope.above(1 + BOUND) < ALPHA:
            return "falls"
        if max(slope.above(-BOUND), slope.below(BOUND)) < ALPHA:
            return "level"
        if max(slope.above(BOUND), slope.below(1 - BOUND)) < ALPHA:
            return "grows"
        return "open"


def hidden(one: Coefficient, other: Coefficient) -> bool:
    """Whether two slopes lie on either side of 1 and one of them by more than BOUND, so that their mean hides it."""
    low, high = sorted((one.value, other.value))
    return low < 1 < high and (low < 1 - BOUND or high > 1 + BOUND)


def apart(low: Coefficient, high: Coefficient) -> float:
    """Two-sided p of "two slopes of different items differ", at the larger error of each and the fewer degrees of freedom.

    Items of one knowledge point in both are alike in the same direction, which makes the true error smaller.
    """
    errors = [max(slope.errors, key=lambda pair: pair[0]) for slope in (low, high)]
    error, df = math.hypot(*(error for error, _ in errors)), min(df for _, df in errors)
    return float(2 * stats.t.sf(abs(high.value - low.value) / error, df)) if error > 0 else float("nan")


def slopes(rows: Table, doses: str = "all") -> Slopes | None:
    """The slopes of these rows; None where there are too few."""
    everything = pass_through(rows, doses)
    if everything is None or any(error <= 0 for error, _ in everything.errors):
        return None
    parts = {name: pass_through(part, doses) for name, part in thirds(measured(rows)).items()}
    signs = {sign: pass_through(rows, sign) for sign in ("raised", "lowered")} if doses == "all" else {}
    return Slopes(
        everything,
        {name: part for name, part in parts.items() if part is not None},
        {sign: part for sign, part in signs.items() if part is not None and part.value == part.value},
        bend(rows) if doses == "all" else None,
    )


def slope_row(slope: Coefficient, **about: Any) -> dict[str, Any]:
    """A row of ``prior_dose.pass_through``."""
    inside, outside = equivalence(slope)
    tested = {"p": json_number(inside), "against": json_number(outside)}
    return {**about, **slope.estimate("pass-through").as_json(), **tested}


def selection(rows: Table, doses: list[float]) -> dict[str, Any]:
    """What the doses that were not reached may hide: ``prior_dose.selection``.

    `as_moved` is the slope of all rows that were read, at what their update did move; `reached` that of the rows that
    reached their dose, `complete` that of the items that reached all of theirs. `lowest` and `highest` put in the place of each
    row that did not the dose asked for and the least or the greatest pass-through that an item which reached it shows there;
    where no item reached some dose there is no such pass-through, and neither of the two. `as_moved` is left out where it is
    `reached`: an audit reads no dose that was not reached.
    """
    grid = asked(rows, doses)
    dosed = values(grid["dose"]) != 0
    reached = grid["reached"].to_numpy(dtype=bool)
    missed = dosed & ~reached
    lost = set(grid.loc[missed, "item"])
    first = grid.drop_duplicates("item")
    is_lost = first["item"].isin(lost).to_numpy()
    prior = values(first["prior_before"])
    named: dict[str, Table | None] = {
        "as_moved": rows,
        "reached": rows[(rows["reached"].astype(bool) | (values(rows["dose"]) == 0)).to_numpy()],
        "complete": rows[~rows["item"].isin(lost).to_numpy()],
    }
    named |= {side: _filled(grid, missed, side) for side in ("lowest", "highest")}
    found = {name: None if part is None else pass_through(part) for name, part in named.items()}
    if found["as_moved"] and found["reached"] and found["as_moved"].value == found["reached"].value:
        del found["as_moved"]
    return {
        "asked": int(dosed.sum()),
        "reached": int((dosed & reached).sum()),
        "items": len(first),
        "items_complete": int((~is_lost).sum()),
        "prior_of_reached": json_number(prior[~is_lost].mean()) if (~is_lost).any() else None,
        "prior_of_unreached": json_number(prior[is_lost].mean()) if is_lost.any() else None,
        "slopes": [
            {"rows": name, **slope.estimate("pass-through").as_json()}
            for name, slope in found.items()
            if slope is not None
        ],
    }


def _filled(grid: Table, missed: np.ndarray, side: str) -> Table | None:
    """The grid with its missed rows set to the dose asked for and the extreme pass-through seen there; None without one."""
    dose, before = values(grid["dose"]), values(grid["net_before"])
    moved, net = values(grid["moved"]).copy(), values(grid["net_margin"]).copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        passed = (before - net) / moved
    extreme = np.nanmin if side == "lowest" else np.nanmax
    for size in np.unique(dose[missed]):
        there = passed[(dose == size) & ~missed]
        if not np.isfinite(there).any():
            return None
        at = missed & (dose == size)
        moved[at] = size
        net[at] = before[at] - size * extreme(there)
    return grid.assign(moved=moved, net_margin=net)
