"""Counts in words."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """A count with its noun, which takes an s in the plural: '1 cluster', '1,200 clusters'."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
