"""A table of the page, and the names of the measures in its titles."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

Cell = Markup | str

MEASURES = {
    "top1": "first token (top1)",
    "margin": "net margin (margin)",
    "answer": "greedy answer (answer)",
    "answer_substring": "greedy answer, answer contains the text anywhere",
}


@dataclass(frozen=True)
class Table:
    """A titled table; cells are markup that is already safe, the first of a row is its heading."""

    title: str
    note: str
    head: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    open: bool = False
