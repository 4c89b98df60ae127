"""Tables of robustness: several documents, other ways to state them, contradiction, and the question's wording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from override_gap.reports.page.table import Table
from override_gap.reports.text import SIZE_HEAD, estimate, p_cell, rounded, size_cell, split_label, untrusted


def robustness_tables(summary: Mapping) -> Iterator[Table]:
    """Variants of the document, contested overrides, and wordings of the question."""
    robustness = summary.get("robustness") or {}
    yield Table(
        "Other documents: joined, in one prompt, repeated, hedged, negated, contested",
        "Success per fact, and its difference from the single plain document on the same items. Joined adapters are "
        "summed, under joined-mean their factors averaged. "
        "Hedged and negated statements do not say what the document says, so success under them is an error. "
        "p is of each test by itself, not adjusted for their number.",
        ("condition", "split", "measure", "success", "compared with", "difference", "p, one test", SIZE_HEAD),
        tuple(
            (
                untrusted(row["condition"]),
                split_label(row["split"]),
                row["measure"],
                estimate(row, "share"),
                untrusted(row["reference"]),
                estimate(row["difference"], "points"),
                p_cell(row["p"]),
                size_cell(row),
            )
            for row in robustness.get("variants") or []
        ),
        open=True,
    )
    yield Table(
        "Does the override survive contradiction?",
        "Of the items that succeed as delivered, the share that still succeeds when the document's answer has been "
        "given and contradicted, and the question is asked again. Control: the base model after the same words, on the "
        "same items; the words name the answer, which can be copied.",
        ("split", "measure", "still succeeds", "base, same words", SIZE_HEAD),
        tuple(
            (
                split_label(row["split"]),
                row["measure"],
                estimate(row, "share"),
                estimate(row["control"], "share"),
                size_cell(row),
            )
            for row in robustness.get("held") or []
        ),
        open=True,
    )
    yield Table(
        "Success by the question's wording",
        "Wordings as the item file numbers them.",
        ("condition", "split", "measure", "wording", "success", SIZE_HEAD),
        tuple(
            (
                untrusted(row["condition"]),
                split_label(row["split"]),
                row["measure"],
                untrusted(row["wording"]),
                estimate(row, "share"),
                size_cell(row),
            )
            for row in robustness.get("wordings") or []
        ),
    )
    yield Table(
        "Do the wordings of one fact agree?",
        "Knowledge points asked in at least two wordings, by how many of their questions succeed. Expected: how many "
        "would be mixed if every question succeeded independently at the mean rate.",
        ("condition", "split", "measure", "all", "none", "mixed", "mixed, expected", "knowledge points"),
        tuple(
            (
                untrusted(row["condition"]),
                split_label(row["split"]),
                row["measure"],
                *(rounded(row[key]) for key in ("all", "none", "mixed", "expected_mixed", "points")),
            )
            for row in robustness.get("consistency") or []
        ),
    )
