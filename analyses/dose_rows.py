"""Rows of the prior-dose experiment: an item under each dose beside the same item without one, and beside a placebo.

An update of a belief moves the base's prior margin by a dose; the document's adapter acts unchanged on top. A placebo is
the update of another fact at the gain that it has there for that dose: as large an update, and not of this belief.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from override_gap.analyses.readings import DELIVERED, RunFrame, Table, once_per_run, truth, values

OWN, PLACEBO, OTHER_LAYERS = "own", "placebo", "other-layers"
READ = ("moved", "prior_margin", "adapter_margin", "net_margin", "success_top1")
DIFFER = ("moved", "net_margin", "adapter_margin")
"""What is read under the own update less what is read under the placebo's."""


@once_per_run
def all_rows(run: RunFrame) -> Table:
    """The table `prior_dose` in an order that does not depend on how it was stored."""
    rows = run.table("prior_dose")
    return rows.sort_values(["item", "condition", "arm", "dose"], kind="stable").reset_index(drop=True)


@once_per_run
def under(run: RunFrame, arm: str = OWN, condition: str = DELIVERED) -> Table:
    """One row per item and dose, dose 0 included, of the items that were read without a dose under this condition.

    `net_before`, `prior_before` and `fails_before` are the item's at dose 0. `fails` (y_doc is not the arg max) is 1 or 0;
    `predicted_fails` is what it would be if the adapter margin did not change, so that the net margin is that at dose 0 less
    `moved`: an item with a third token before y_doc although its net margin is above 0 is predicted to fail on. Rows that
    were not read hold NaN, also where it is known how far their update moved the prior.
    """
    rows = all_rows(run)
    rows = rows[rows["condition"] == condition]
    before = rows[rows["dose"] == 0]
    # the reading without a dose is the same for every arm; an arm's own row is taken where there are several
    before = before.assign(other=before["arm"] != arm).sort_values(["item", "other"], kind="stable")
    before = before.drop_duplicates("item").drop(columns="other").assign(moved=0.0, reached=True)
    before = before[np.isfinite(values(before["net_margin"]))]
    after = rows[(rows["arm"] == arm) & (rows["dose"] != 0)]
    after = after[after["item"].isin(before["item"])]
    if after.empty:
        return after.assign(
            **dict.fromkeys(("fails", "predicted_fails", "net_before", "prior_before", "fails_before"), np.nan)
        )
    before = before[before["item"].isin(after["item"])]
    both = pd.concat([before, after], ignore_index=True).sort_values(["item", "dose"], kind="stable")
    at_zero = before.set_index("item")
    numbers = {name: values(both[name]) for name in READ}
    net_before, prior_before, top1_before = (
        values(both["item"].map(at_zero[name])) for name in ("net_margin", "prior_margin", "success_top1")
    )
    # an update whose effect on the base was not stored is known from the base's prior margin under it
    shift = numbers["prior_margin"] - prior_before
    moved = np.where(np.isnan(numbers["moved"]), shift, numbers["moved"])
    outcome = {
        "moved": moved,
        "fails": 1 - numbers["success_top1"],
        "fails_before": 1 - top1_before,
        "predicted_fails": np.where(
            np.isnan(numbers["net_margin"]), np.nan, would_fail(net_before, 1 - top1_before, moved)
        ),
        "net_before": net_before,
        "prior_before": prior_before,
    }
    return both.assign(**numbers | outcome).reset_index(drop=True)


def would_fail(
    net: Float[np.ndarray, " n"], fails: Float[np.ndarray, " n"], moved: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Whether y_doc is not first once the prior margin has moved and the adapter margin has not, 1 or 0.

    ``net`` and ``fails`` are the net margin and the outcome without the move. y_doc then stands before y_pre where net - moved
    is above 0; where it did so before and a third token stood before both, that token is taken to stay.
    """
    third_token = (net > 0) & (fails == 1)
    told = ((net - moved <= 0) | third_token).astype(float)
    return np.where(np.isnan(net) | np.isnan(moved), np.nan, told)


def less_placebo(own: Table, placebo: Table) -> Table:
    """The rows of `own` with margins less those under the placebo's update of the same dose, where there is one; and dose 0.

    What an update as such does to the adapted model, whatever it says, is in both and falls out. `fails_before` is then
    failing under the placebo, and `predicted_fails` what a constant adapter margin says from the placebo's net margin.
    """
    beside = placebo[["item", "dose", *DIFFER, "fails"]]
    both = own.merge(beside, on=["item", "dose"], suffixes=("", "_placebo"), how="left", sort=False)
    zero = values(both["dose"]) == 0
    difference = {name: values(both[name]) - values(both[f"{name}_placebo"]) for name in DIFFER}
    net, fails = values(both["net_margin_placebo"]), values(both["fails_placebo"])
    replaced = {
        **{name: np.where(zero, 0.0, column) for name, column in difference.items()},
        "fails_before": np.where(zero, values(both["fails_before"]), fails),
        "predicted_fails": np.where(zero, values(both["fails"]), would_fail(net, fails, difference["moved"])),
    }
    both = both.assign(**replaced)
    both = both[zero | np.isfinite(difference["net_margin"])]
    dosed = both.loc[values(both["dose"]) != 0, "item"]
    return both[both["item"].isin(dosed)].reset_index(drop=True)


def thirds(rows: Table) -> dict[str, Table]:
    """The rows of the items with the lowest, the middle and the highest net margin at dose 0, a third of the items each."""
    items = rows.drop_duplicates("item")
    order = items.assign(net=values(items["net_before"])).sort_values(["net", "item"], kind="stable")["item"].tolist()
    cuts = [round(len(order) * part / 3) for part in range(4)]
    return {
        name: rows[rows["item"].isin(order[low:high])]
        for name, low, high in zip(("lowest third", "middle third", "highest third"), cuts, cuts[1:], strict=False)
    }


def of_sign(rows: Table, doses: str) -> Table:
    """The rows of all doses, of the raised or of the lowered ones; dose 0 belongs to each."""
    dose = values(rows["dose"])
    return rows[{"all": np.ones(len(dose), dtype=bool), "raised": dose >= 0, "lowered": dose <= 0}[doses]]


def measured(rows: Table) -> Table:
    """The rows with what the update moved and a net margin, of items that have one at some dose other than 0."""
    rows = rows[np.isfinite(values(rows["moved"])) & np.isfinite(values(rows["net_margin"]))]
    return rows[rows["item"].isin(rows.loc[values(rows["dose"]) != 0, "item"])]


def asked(rows: Table, doses: list[float]) -> Table:
    """One row for every item and dose that was asked for: those that no update could be fitted for as well, unmeasured."""
    if rows.empty:
        return rows
    items = rows.drop_duplicates("item")
    grid = items[[name for name in ("item", "point", "cluster", "net_before", "prior_before") if name in items]]
    grid = grid.merge(pd.DataFrame({"dose": doses}), how="cross")
    reading = rows.drop(columns=[name for name in grid if name not in ("item", "dose")])
    filled = grid.merge(reading, on=["item", "dose"], how="left", sort=False)
    return filled.assign(reached=truth(filled["reached"]) == 1)
