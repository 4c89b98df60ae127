"""Tables of the gain path: terms of the adapter margin, its shares by map, and which reading chooses the right layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from override_gap.reports.page.table import Table
from override_gap.reports.text import SIZE_HEAD, estimate, rounded, size_cell, untrusted

EFFECTS = {"path": "share along the path", "causal": "alone and removed, mean"}


def gain_path_tables(summary: Mapping) -> Iterator[Table]:
    """The terms of the adapter margin, the maps and parts that carry it, then the layers that each reading would choose."""
    path = summary.get("gain_path") or {}
    nodes = path.get("nodes") or {}
    yield Table(
        "Adapter margin along the path of gains",
        f"Means over conflicts in nats. {str(path.get('note', '')).capitalize()}. Shares add up to the adapter margin to 1% on "
        f"{path.get('closed')} of {path.get('tried')} conflicts, at {rounded(nodes.get('median'))} gains on the median "
        f"conflict and {nodes.get('most')} at most.",
        ("term", "nats", SIZE_HEAD),
        tuple((row["term"], estimate(row), size_cell(row)) for row in path.get("terms") or []),
    )
    parts = [("part", row["part"], row) for row in path.get("parts") or []]
    maps = [("map", row["map"], row) for row in path.get("maps") or []]
    yield Table(
        "Which maps of the adapter carry its margin",
        "Mean shares in nats; share = push - pull. First order: the slope at gain 0.",
        ("of", "name", "share", "push", "pull", "first order", SIZE_HEAD),
        tuple(
            (
                kind,
                untrusted(name),
                *(estimate(row[key]) for key in ("path", "path_push", "path_pull", "path_first")),
                size_cell(row["path"]),
            )
            for kind, name, row in (*(parts if len(parts) > 1 else []), *maps)
        ),
    )
    yield Table(
        "Which reading would have chosen the right layers",
        "For each conflict the quarter of the layers acted on of which the reading is largest: the share of the effect that "
        "they carry, negative effects counted as 0. Best: chosen by the effect itself.",
        ("reading", "effect", "chosen most often", "carried", "best", "by chance", SIZE_HEAD),
        tuple(
            (
                row["reading"],
                EFFECTS[row["effect"]],
                ", ".join(map(str, row["layers"])),
                estimate(row, "share"),
                f"{row['best']:.0%}",
                f"{row['by_chance']:.0%}",
                size_cell(row),
            )
            for row in path.get("choice") or []
        ),
    )
