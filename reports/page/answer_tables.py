"""The tables on answers: disagreements by kind, drawn answers, robustness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from override_gap.reports.page.tables import Table
from override_gap.reports.text import chance, counted, estimate, said, short


def spoken(summary: Mapping) -> list[Table]:
    """Those that the run can fill."""
    made = [table for build in (_disagreements, _sampled, _robustness) for table in build(summary)]
    return [table for table in made if table.rows]


def _disagreements(summary: Mapping) -> Iterable[Table]:
    yield Table(
        "Where margin, first token and answer part",
        "Conflicts answered in words whose three measures are not all won or all lost, by the first kind that fits.",
        ("condition", "kind", "items", "of"),
        tuple(
            (said(row["condition"]), row["kind"], short(row["count"]), short(row["n"]))
            for row in summary.get("disagreements") or []
        ),
    )


def _sampled(summary: Mapping) -> Iterable[Table]:
    yield Table(
        "Answers drawn at a temperature",
        "Mean share of an item's draws that name the document's answer; greedy on the same items; unanimous: the share "
        "of items whose draws all succeed or all fail.",
        ("split", "condition", "temperature", "draws", "success", "greedy", "unanimous", "n"),
        tuple(
            (
                row["split"],
                said(row["condition"]),
                short(row["temperature"]),
                short(row["draws"]),
                estimate(row, "share"),
                estimate(row["greedy"], "share"),
                f"{row['unanimous']:.0%}",
                counted(row),
            )
            for row in summary.get("sampled") or []
        ),
    )


def _robustness(summary: Mapping) -> Iterable[Table]:
    found = summary.get("robustness") or {}
    yield Table(
        "Other documents: joined, in one prompt, repeated, hedged, negated, contested",
        "Success per fact, and its difference from the single plain document on the same items. Joined adapters add "
        "up; hedged and negated statements do not say what the document says, so there success is an error. p is of "
        "each test alone, not adjusted for their number.",
        ("condition", "split", "measure", "success", "compared with", "difference", "p, one test", "n"),
        tuple(
            (
                said(row["condition"]),
                row["split"],
                row["measure"],
                estimate(row, "share"),
                said(row["reference"]),
                estimate(row["difference"], "points"),
                chance(row["p"]),
                counted(row),
            )
            for row in found.get("variants") or []
        ),
        open=True,
    )
    yield Table(
        "Does the override hold when it is contested?",
        "Of the items that succeed as delivered, the share that still succeeds when the document's answer has been "
        "given, contradicted, and the question is asked again. The base behind the same words, on the same items, is the "
        "control: they name the answer, which can be copied.",
        ("split", "measure", "still held", "base, same words", "n"),
        tuple(
            (row["split"], row["measure"], estimate(row, "share"), estimate(row["control"], "share"), counted(row))
            for row in found.get("held") or []
        ),
        open=True,
    )
    yield Table(
        "Success by the question's wording",
        "Wordings as the item file numbers them.",
        ("condition", "split", "measure", "wording", "success", "n"),
        tuple(
            (
                said(row["condition"]),
                row["split"],
                row["measure"],
                said(row["wording"]),
                estimate(row, "share"),
                counted(row),
            )
            for row in found.get("wordings") or []
        ),
    )
    yield Table(
        "Do the wordings of one fact agree?",
        "Knowledge points asked in at least two wordings, by how many of their questions succeed. Expected: how many "
        "would be mixed if every question succeeded by itself at the mean rate.",
        ("condition", "split", "measure", "all", "none", "mixed", "mixed, expected", "points"),
        tuple(
            (
                said(row["condition"]),
                row["split"],
                row["measure"],
                *(short(row[key]) for key in ("all", "none", "mixed", "expected_mixed", "points")),
            )
            for row in found.get("consistency") or []
        ),
    )
