"""Words beside numbers."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """A count and what is counted, which takes an s: '1 cluster', '1,200 clusters'."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
