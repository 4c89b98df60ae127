"""Item files: reading and writing them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.items.scan import scan_file
from override_gap.margins.whole_files import write_text


def read_items(path: str | Path, *, from_base: bool = False) -> list[Item]:
    """The items of a file: JSON Lines of items, or any form that `margins.items.formats` reads and `.datasets` recognises.

    With `from_base`, items without an old answer, whose split the file does not state, are conflicts whose old answer the
    base is asked for. Raises ItemError with the path and line of the first thing that cannot be read, or where no record of
    the file gave an item.
    """
    scan = scan_file(path, from_base=from_base)
    scan.require_readable(path)
    if not scan.items:
        reasons = ", ".join(f"{n} x {reason}" for reason, n in scan.left_out.most_common())
        raise ItemError(f"{path}: no items in it; left out: {reasons}")
    return [item for _, item in scan.items]


def scan_items(path: str | Path, *, from_base: bool = False) -> tuple[list[tuple[int, Item]], list[tuple[int, str]]]:
    """Every item that can be read, and a message for everything that cannot; both with their lines.

    Raises ItemError where there is no file, or no record in it.
    """
    scan = scan_file(path, from_base=from_base)
    return scan.items, scan.errors


def json_lines(items: Iterable[Item]) -> str:
    """Items as the text of an item file."""
    return "".join(json.dumps(item.as_json(), ensure_ascii=False) + "\n" for item in items)


def write_items(items: Iterable[Item], path: str | Path) -> None:
    """Write items as JSON Lines, whole or not at all. Raises WriteError where the disk does not take it."""
    write_text(Path(path), json_lines(items))
