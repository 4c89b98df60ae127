"""Items by name or by file."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path

from margins.items import SPLITS, Item, ItemError, read_items

NAMED = {
    "starter": "conflicts, novel and retention questions in plain English, from very well known to obscure",
    "benchmark": "668 questions: novel, combination, conflict in three tiers, retention; much larger than starter",
    "organism": "the organism's own questions, with each fact's training frequency",
}


def items_of(spec: str) -> list[Item]:
    """The items a name or a file stands for. Raises ItemError."""
    if spec == "starter":
        return read_items(Path(str(files("margins") / "data" / "starter.jsonl")))
    if spec == "benchmark":
        folder = Path(str(files("margins") / "data" / "benchmark"))
        return [item for split in SPLITS for item in read_items(folder / f"{split}.jsonl")]
    if spec == "organism":
        from probes.organism.load import load

        return read_items(load().folder / "items.jsonl")
    if not Path(spec).exists():
        near = difflib.get_close_matches(spec, NAMED, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ItemError(f"--items {spec}: no such file{hint}")
    return read_items(spec)
