"""Items by name, by file or from the hub."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path

from override_gap.margins.items.files import read_items
from override_gap.margins.items.formats import HUB
from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.catalogue import ITEMS

# conflicts first, since --limit keeps the first items and conflicts are what an audit is about
BENCHMARK = ("conflict", "retention", "novel", "combination")
BELIEF = ("conflict", "retention", "agreement", "reframed", "negated", "consequence")


def item_paths(spec: str) -> list[Path | str]:
    """The item files that a name, a file or a data set on the hub (`hf:OWNER/NAME`) stands for. Raises ItemError."""
    shipped = Path(str(files("override_gap.margins") / "data"))
    if spec == "starter":
        return [shipped / "starter.jsonl"]
    if spec in ("benchmark", "belief"):
        return [shipped / "benchmark" / f"{split}.jsonl" for split in (BENCHMARK if spec == "benchmark" else BELIEF)]
    if spec in ("organism", "organism-belief"):
        from override_gap.probes.organism.load import load

        names = ("items.jsonl", "belief.jsonl") if spec == "organism-belief" else ("items.jsonl",)
        return [load().folder / name for name in names]
    if not spec.startswith(HUB) and not Path(spec).exists():
        near = difflib.get_close_matches(spec, ITEMS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ItemError(f"--items {spec}: no such file{hint}")
    return [spec]


def open_items(spec: str, *, from_base: bool = False) -> list[Item]:
    """The items that a name, a file or a data set on the hub stands for. Raises ItemError.

    With `from_base`, items without an old answer, whose split the file does not state, are conflicts.
    """
    return [item for path in item_paths(spec) for item in read_items(path, from_base=from_base)]
