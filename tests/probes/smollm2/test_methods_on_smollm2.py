"""The table of methods, made on the organism: its cells are shares of the readings."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.methods_on_smollm2 import Method, methods, over_relations, table, with_known_conflicts
from override_gap.analyses.readings import load, truth
from override_gap.margins.items.files import read_items
from override_gap.probes.organism.load import load as organism
from override_gap.probes.subject.load import open_subject
from tests.conftest import conflict


def test_the_cells_are_the_shares_of_the_readings(tmp_path: Path) -> None:
    subject = open_subject("organism", device="cpu")
    all_items = read_items(organism().folder / "items.jsonl")
    items = [item for split in ("novel", "conflict", "retention") for item in all_items if item.split == split][::6]
    audited = with_known_conflicts(subject, items)
    known, all_conflicts = (sum(item.split == "conflict" for item in group) for group in (audited, items))
    assert 0 < known < all_conflicts
    rows = [Method("ours", "hypernetwork"), Method("prompt", "hypernetwork", "in-context")]
    lines = table(subject, audited, rows, tmp_path)
    run = load(tmp_path / "ours")
    for line, method in zip(lines[2:4], rows, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == method.name
        for column, split in ((1, "novel"), (2, "conflict"), (7, "retention")):
            share = truth(run.select(split, method.condition)["success_top1"]).mean()
            assert float(cells[column].split()[0]) == pytest.approx(share, abs=0.006), split
    conflicts = run.select("conflict", "as-delivered")
    assert (truth(conflicts["known"]) == 1).all()
    assert lines[3].endswith("| - |")


def test_the_prompts_are_read_from_the_first_audit() -> None:
    assert methods(None)[0] == Method("hypernetwork", "hypernetwork")
    rows = methods(Path("trained"))
    assert rows[0].adapters == "hypernetwork:folder=trained"
    assert {row.adapters for row in rows if row.condition != "as-delivered"} == {rows[0].adapters}


def test_items_are_spread_over_the_relations() -> None:
    """Of 6 items of r and 3 of s in turn, three are two of r and one of s, each item once."""
    items = [conflict(n, meta={"relation": "s" if n % 3 == 2 else "r"}) for n in range(9)]
    chosen = over_relations(items, 3)
    assert [item.meta["relation"] for item in chosen] == ["r", "r", "s"]
    assert len({item.id for item in chosen}) == 3
    assert over_relations(items, None) == items
