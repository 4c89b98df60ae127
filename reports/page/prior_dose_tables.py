"""Tables of the prior-dose experiment: slopes, what happens dose by dose, controls, and what unreached doses may hide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from markupsafe import Markup

from override_gap.reports.page.table import Table
from override_gap.reports.text import SIZE_HEAD, estimate, p_cell, per_cent, rounded, size_cell, untrusted

BESIDE = ("other wordings moved", "answers kept", "KL per token")
ROWS = {
    "as_moved": "all that were read, at what their update moved",
    "reached": "rows that reached their dose",
    "complete": "items that reached all doses",
    "lowest": "unreached rows set to the least pass-through seen at their dose",
    "highest": "unreached rows set to the greatest pass-through seen at their dose",
}


def prior_dose_tables(summary: Mapping) -> Iterator[Table]:
    """Those of the section `prior_dose`; without it, tables without rows."""
    found = summary.get("prior_dose") or {}
    yield _slopes(found)
    yield _doses(found)
    yield _controls(found)
    yield _selection(found)


def _slopes(found: Mapping) -> Table:
    note = (
        f"{found.get('sentence', '')} Pass-through: of each nat that is added to the prior margin, what reaches the adapted "
        "margin, with a constant per item; 1 where the adapter margin is constant, 0 where the adapter sets a level. p: of a "
        f"slope within 1 \u00b1 {found.get('bound', 0.25):g}. Observed: slopes over items, without any intervention."
    )
    causal = [
        (row["condition"], row["update"], _doses_named(row["doses"]), row["items"], row, row["p"])
        for row in found.get("pass_through") or []
        if row["items"] == "all" or row["update"] == found["read"]
    ]
    seen = [("as-delivered", "none: observed", "\u2013", row["what"], row, None) for row in found.get("observed") or []]
    return Table(
        "Prior dose: causal and observed pass-through",
        note,
        ("condition", "update", "doses", "items", "pass-through", "p", SIZE_HEAD),
        tuple(
            (untrusted(condition), update, doses, untrusted(items), estimate(row), p_cell(p), size_cell(row))
            for condition, update, doses, items, row, p in causal + seen
        ),
        open=True,
    )


def _doses_named(doses: str) -> str:
    return f"{doses} doses" if doses in ("all", "raised", "lowered") else doses


def _doses(found: Mapping) -> Table:
    note = (
        "Changes in nats against the same item without a dose. Predicted: success if the adapter margin did not change. Bounds: "
        "success of all items, with those that did not reach the dose counted as failing and as succeeding."
    )
    if failure := found.get("failure"):
        seen, told = (estimate(failure[key], "points") for key in ("observed", "predicted"))
        note = Markup("{} Failures rise by {} over raised doses ({}); {} are predicted.").format(
            note, seen, found["read"], told
        )
    return Table(
        "Prior dose: what happens dose by dose",
        note,
        (
            "condition",
            "update",
            "dose",
            "reached",
            "moved",
            "adapter margin changes by",
            "success",
            "predicted",
            "bounds",
            SIZE_HEAD,
        ),
        tuple(
            (
                untrusted(row["condition"]),
                row["arm"],
                rounded(row["dose"]),
                f"{row['reached']:,} of {row['asked']:,}",
                estimate(row["moved"]),
                estimate(row["adapter_change"]),
                estimate(row["success"], "share"),
                estimate(row["predicted"], "share"),
                f"{per_cent(row['success_least'])} to {per_cent(row['success_most'])}%",
                size_cell(row["success"]),
            )
            for row in found.get("doses") or []
        ),
    )


def _controls(found: Mapping) -> Table:
    return Table(
        "Prior dose: what the updates do to the base",
        "Moved: the prior margin of the item's question (placebo: by another fact's update). Old answer rises: over the mean of "
        "all logits; the rest of the move lowers the document's answer. Other wordings: of the same knowledge point. Kept and "
        "KL: over unrelated questions that the base knows.",
        (*("update", "dose", "moved", "size of move", "old answer rises"), *BESIDE, SIZE_HEAD),
        tuple(
            (
                row["arm"],
                rounded(row["dose"]),
                estimate(row["moved"]),
                estimate(row["moved_size"]),
                estimate(row["old_lead_moved"]),
                estimate(row["others_moved"]),
                estimate(row["kept"], "share"),
                estimate(row["kl"]),
                size_cell(row["moved"]),
            )
            for row in found.get("controls") or []
        ),
    )


def _delivered(found: Mapping) -> list[Mapping]:
    """What the own updates did as delivered, by dose."""
    return [row for row in found.get("doses") or [] if (row["condition"], row["arm"]) == ("as-delivered", "own")]


def _selection(found: Mapping) -> Table:
    chosen = found.get("selection") or {}
    rows, note = chosen.get("slopes") or [], ""
    if chosen:
        note = (
            f"{chosen['reached']:,} of {chosen['asked']:,} doses were reached, all of them for {chosen['items_complete']:,} of "
            f"{chosen['items']:,} items"
        )
        prior, lost = chosen["prior_of_reached"], chosen["prior_of_unreached"]
        if prior is not None and lost is not None:
            note += f" (mean prior margin {rounded(prior)} nats, of the others {rounded(lost)})"
        if chosen["reached"] == chosen["asked"]:
            rows = [row for row in rows if row["rows"] == "reached"]  # the others are the same
        never = [rounded(row["dose"]) for row in _delivered(found) if row["asked"] and not row["reached"]]
        if never:
            nats = ", ".join(never)
            note += f"; no item reached {nats} nats, so that nothing bounds the slope there and no such rows are given"
        note += ". Own update as delivered, no placebo taken off."
    return Table(
        "Prior dose: what unreached doses may hide",
        note,
        ("rows", "pass-through", SIZE_HEAD),
        tuple((ROWS[row["rows"]], estimate(row), size_cell(row)) for row in rows),
    )
