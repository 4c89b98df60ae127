"""The tables of belief: what follows from what is said, and what of it can be judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from override_gap.reports.page.table import Table
from override_gap.reports.text import SIZE_HEAD, estimate, size_cell, untrusted

NAMES = {"base": "base", "as-delivered": "own adapter", "in-context": "document in the prompt"}
ANSWERS = {"top1": "first of all tokens", "margin": "first of two answers"}


def belief_tables(summary: Mapping) -> Iterator[Table]:
    """Success on the judged questions by condition, and the same on all of them with what was left out."""
    belief = summary.get("belief") or {}
    left_out = {(row["split"], row["kind"]): row for row in belief.get("excluded") or []}
    can = {(row["split"], row["kind"]): row["can"] for row in belief.get("answerable") or []}
    for population, title, is_open in (
        ("judged", "Does the model believe it, or only say it?", True),
        ("all", "The same questions, none left out", False),
    ):
        note = " ".join(belief.get("sentences") or []) if is_open else " ".join(map(_left_out, left_out.values()))
        yield Table(
            title,
            note,
            (
                "questions",
                "condition",
                "right is",
                "right",
                "of what it says itself",
                "own \u2212 this",
                "margin moved, nats",
                "base can",
                SIZE_HEAD,
            ),
            tuple(
                (
                    untrusted(" ".join(filter(None, (row["split"], row["kind"])))),
                    untrusted(NAMES.get(row["condition"], row["condition"])),
                    ANSWERS[row["measure"]],
                    estimate(row, "share"),
                    estimate(row["of_own_said"], "share"),
                    estimate(row["own_minus"], "points"),
                    estimate(row["adapter_margin"]),
                    "yes" if can[row["split"], row["kind"]] else "no",
                    size_cell(row),
                )
                for row in belief.get("rows") or []
                if row["population"] == population
            ),
            open=is_open,
        )


def _left_out(row: Mapping) -> str:
    """Judged and left out, in words."""
    reasons = "; ".join(f"{reason['n']}: {reason['reason']}" for reason in row["reasons"] if reason["n"])
    name = " ".join(filter(None, (row["split"], row["kind"])))
    return f"{name}: {row['judged']} of {row['n']} judged{f' ({reasons})' if reasons else ''}."
