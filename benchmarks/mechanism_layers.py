"""Sections of docs/mechanism.md on layers: what the adapter margin is made of along the gain path, and who finds its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.mechanism_table import estimate, first, table

Summaries = Mapping[str, Mapping[str, Any]]
TERMS = ("adapter margin", "first order", "own curvature", "between layers")
READINGS = ("norm", "direct", "attribution", "lens", "alone", "removed", "first order")


def terms(summaries: Summaries) -> list[str]:
    """The adapter margin as first order, own curvature of each layer, and what layers do to each other."""

    def rows() -> Iterator[Sequence[str]]:
        for name, summary in summaries.items():
            found = summary.get("gain_path")
            if not found:
                continue
            yield (
                name,
                *(estimate(first(found["terms"], term=term)) for term in TERMS),
                f"{found['nodes']['median']:.0f} ({found['nodes']['most']})",
                f"{found['closed']} of {found['tried']}",
            )

    says = (
        "The adapter margin, nats, along the path of uniform gains from 0 to 1. *First order*: the slope at gain 0, what the "
        "adapter would give if everything were linear. *Own curvature*: what each layer alone adds to its own first order. "
        "*Between layers*: the rest, what layers do to each other. *Gains*: how many closure to 1% took: median (most)."
    )
    head = ("audit", *TERMS, "gains", "closed")
    return table("What the adapter margin is made of", says, head, rows())


def choice(summaries: Summaries) -> list[str]:
    """The share of the path's effect that lies in the layers which each reading would have chosen."""

    def rows() -> Iterator[Sequence[str]]:
        for name, summary in summaries.items():
            found = [row for row in (summary.get("gain_path") or {}).get("choice", []) if row["effect"] == "path"]
            if found:
                yield (
                    name,
                    f"{found[0]['best']:.0%}",
                    f"{found[0]['by_chance']:.0%}",
                    *(estimate(first(found, reading=reading)) for reading in READINGS),
                )

    says = (
        "Which reading would have chosen the right layers: the share of the path's effect that a quarter of the layers carries, "
        "chosen by each reading, beside the best quarter and one by chance. SLB chooses by norm."
    )
    return table("Which layers?", says, ("audit", "best", "chance", *READINGS), rows())


SECTIONS = (terms, choice)
