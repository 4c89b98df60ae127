"""Rows of the prior-dose experiment: an item under each dose beside the same item without one, and beside a placebo.

An update of a belief moves the base's prior margin by a dose; the document's adapter acts unchanged on top. A placebo is
the update of another fact at the gain that it has there for that dose: as large an update, and not of this belief.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, once_per_run, truth, values

OWN, PLACEBO, OTHER_LAYERS = "own", "placebo", "other-layers"
SMALL = 4.0
UP_TO_SMALL = f"up to {SMALL:g} nats"
"""Larger doses are made in another way: mostly by lowering y_doc, not by raising y_pre (column `old_lead`)."""
READ = ("moved", "prior_margin", "adapter_margin", "net_margin", "success_top1")
DIFFER = ("moved", "net_margin", "adapter_margin")
"""What is read under the own update less what is read under the placebo's."""


@once_per_run
def all_rows(run: RunFrame) -> Table:
    """The table `prior_dose` in an order that does not depend on how it was stored; `code` numbers the items in that order."""
    rows = (
        run.table("prior_dose").sort_values(["item", "condition", "arm", "dose"], kind="stable").reset_index(drop=True)
    )
    return rows.assign(code=pd.factorize(rows["item"])[0])


@once_per_run
def under(run: RunFrame, arm: str = OWN, condition: str = DELIVERED) -> Table:
    """One row per item and dose, dose 0 included, of the items that were read without a dose under this condition.

    `net_before`, `prior_before` and `fails_before` are the item's at dose 0. `fails` (y_doc is not the arg max) is 1 or 0;
    `predicted_fails` is what it would be if the adapter margin did not change, so that the net margin is that at dose 0 less
    `moved`: an item of which a third token is first without a dose is predicted to fail on (`third_token`). Rows that
    were not read hold NaN, also where it is known how far their update moved the prior.
    """
    rows = all_rows(run)
    rows = rows[(rows["condition"] == condition).to_numpy()]
    code, dose, of_arm = rows["code"].to_numpy(), values(rows["dose"]), (rows["arm"] == arm).to_numpy()
    before = np.full(code.max(initial=-1) + 1, -1)
    # the reading without a dose is the same for every arm; an arm's own row is taken where there are several
    zero = (dose == 0) & np.isfinite(values(rows["net_margin"]))
    for own in (~of_arm, of_arm):
        before[code[zero & own]] = np.flatnonzero(zero & own)
    after = np.flatnonzero(of_arm & (dose != 0) & (before[code] >= 0))
    places = np.concatenate([before[np.unique(code[after])], after]).astype(int)
    places = places[np.lexsort((dose[places], code[places]))]
    at_zero = before[code[places]].astype(int)
    all_numbers = {name: values(rows[name]) for name in READ}
    numbers = {name: column[places] for name, column in all_numbers.items()}
    net_before, prior_before, top1_before = (
        all_numbers[name][at_zero] for name in ("net_margin", "prior_margin", "success_top1")
    )
    is_zero = dose[places] == 0
    # an update whose effect on the base was not stored is known from the base's prior margin under it
    shift = numbers["prior_margin"] - prior_before
    moved = np.where(is_zero, 0.0, np.where(np.isnan(numbers["moved"]), shift, numbers["moved"]))
    third = third_token(run, rows["code"].to_numpy(), rows["top_token"], all_numbers)
    told = would_fail(net_before, third[at_zero], moved)
    outcome = {
        "moved": moved,
        "reached": (truth(rows["reached"])[places] == 1) | is_zero,
        "fails": 1 - numbers["success_top1"],
        "fails_before": 1 - top1_before,
        "third_token": third[places],
        "predicted_fails": np.where(np.isnan(numbers["net_margin"]), np.nan, told),
        "net_before": net_before,
        "prior_before": prior_before,
    }
    return rows.iloc[places].reset_index(drop=True).assign(**numbers | outcome)


def third_token(
    run: RunFrame, code: Int[np.ndarray, " n"], top: pd.Series, numbers: Mapping[str, Float[np.ndarray, " n"]]
) -> Bool[np.ndarray, " n"]:
    """Whether the arg max of each row is neither y_doc nor y_pre, as far as the table tells.

    y_doc is not first though it stands before y_pre, or the first token is another than the base's without a dose, which is
    y_pre for conflicts that the base knows.
    """
    every = all_rows(run)
    base = every[((every["condition"] == BASE) & (every["dose"] == 0)).to_numpy()].drop_duplicates("code")
    believed = pd.Series(code).map(base.set_index("code")["top_token"]).to_numpy(dtype=object)
    known, read = (~pd.isna(tokens) for tokens in (believed, top.to_numpy(dtype=object)))
    other = known & read & (believed != top.to_numpy(dtype=object))
    return (numbers["success_top1"] == 0) & ((numbers["net_margin"] > 0) | other)


def would_fail(
    net: Float[np.ndarray, " n"], third: Bool[np.ndarray, " n"], moved: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Whether y_doc is not first once the prior margin has moved and the adapter margin has not, 1 or 0.

    ``net`` is the net margin without the move, ``third`` whether a token other than y_doc and y_pre is first there: that one is
    taken to stay, whichever way the prior is moved. y_doc otherwise stands first where net - moved is above 0.
    """
    told = ((net - moved <= 0) | third).astype(float)
    return np.where(np.isnan(net) | np.isnan(moved), np.nan, told)


def less_placebo(own: Table, placebo: Table) -> Table:
    """The rows of `own` with margins less those under the placebo's update of the same dose, where there is one; and dose 0.

    What an update as such does to the adapted model, whatever it says, is in both and falls out. `fails_before` is then
    failing under the placebo, and `predicted_fails` what a constant adapter margin says from the placebo's net margin.
    """
    beside = placebo[["code", "dose", *DIFFER, "fails", "third_token"]]
    both = own.merge(beside, on=["code", "dose"], suffixes=("", "_placebo"), how="left", sort=False)
    zero = values(both["dose"]) == 0
    difference = {name: values(both[name]) - values(both[f"{name}_placebo"]) for name in DIFFER}
    net, fails = values(both["net_margin_placebo"]), values(both["fails_placebo"])
    third = truth(both["third_token_placebo"]) == 1
    replaced = {
        **{name: np.where(zero, 0.0, column) for name, column in difference.items()},
        "fails_before": np.where(zero, values(both["fails_before"]), fails),
        "predicted_fails": np.where(zero, values(both["fails"]), would_fail(net, third, difference["moved"])),
    }
    both = both.assign(**replaced)
    kept = zero | np.isfinite(difference["net_margin"])
    return _with_a_dose(both[kept]).reset_index(drop=True)


def norm_held(rows: Table) -> Table:
    """The rows with the net margin were the adapted stream divided by what the base's final norm divides by, where that is known.

    The adapter lengthens the stream, and the final norm then shrinks all that stands in it, the belief included. What the
    pass-through becomes without that is the share of the answer that is no other than this.
    """
    return rows.assign(net_margin=values(rows["net_margin_base_norm"]))


def _with_a_dose(rows: Table) -> Table:
    """The rows of items that have one at some dose other than 0."""
    code = rows["code"].to_numpy()
    some = np.zeros(code.max(initial=-1) + 1, dtype=bool)
    some[code[values(rows["dose"]) != 0]] = True
    return rows[some[code]]


def thirds(rows: Table) -> dict[str, Table]:
    """The rows of the items with the lowest, the middle and the highest net margin at dose 0, a third of the items each."""
    code = rows["code"].to_numpy()
    items, first = np.unique(code, return_index=True)
    order = items[np.argsort(values(rows["net_before"])[first], kind="stable")]
    cuts = [round(len(order) * part / 3) for part in range(4)]
    return {
        name: rows[np.isin(code, order[low:high])]
        for name, low, high in zip(("lowest third", "middle third", "highest third"), cuts, cuts[1:], strict=False)
    }


def of_sign(rows: Table, doses: str) -> Table:
    """The rows of all doses, of the raised or lowered ones, or of those up to SMALL nats either way; dose 0 belongs to each."""
    dose = values(rows["dose"])
    kept = {
        "all": np.ones(len(dose), dtype=bool),
        "raised": dose >= 0,
        "lowered": dose <= 0,
        UP_TO_SMALL: np.abs(dose) <= SMALL,
    }
    return rows[kept[doses]]


def measured(rows: Table) -> Table:
    """The rows with what the update moved and a net margin, of items that have one at some dose other than 0."""
    return _with_a_dose(rows[np.isfinite(values(rows["moved"])) & np.isfinite(values(rows["net_margin"]))])


def asked(rows: Table, doses: list[float]) -> Table:
    """One row for every item and dose that was asked for: those that no update could be fitted for as well, unmeasured."""
    if rows.empty:
        return rows
    items = rows.drop_duplicates("item")
    grid = items[[name for name in ("item", "code", "point", "cluster", "net_before", "prior_before") if name in items]]
    grid = grid.merge(pd.DataFrame({"dose": doses}), how="cross")
    reading = rows.drop(columns=[name for name in grid if name not in ("code", "dose")])
    filled = grid.merge(reading, on=["code", "dose"], how="left", sort=False)
    return filled.assign(reached=truth(filled["reached"]) == 1)
