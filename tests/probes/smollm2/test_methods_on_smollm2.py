"""The table of methods, on the organism: its cells are the shares of the readings it was made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.methods_on_smollm2 import Method, chosen, methods, table
from override_gap.analyses.readings import load, truth
from override_gap.margins.items.files import read_items
from override_gap.probes.organism.load import load as organism
from override_gap.probes.subject.load import open_subject


def test_the_cells_are_the_shares_of_the_readings(tmp_path: Path) -> None:
    subject = open_subject("organism", device="cpu")
    every = read_items(organism().folder / "items.jsonl")
    items = [one for split in ("novel", "conflict", "retention") for one in every if one.split == split][::6]
    kept = chosen(subject, items)
    assert 0 < sum(one.split == "conflict" for one in kept) < sum(one.split == "conflict" for one in items)
    rows = [Method("ours", "hypernetwork"), Method("prompt", "hypernetwork", "in-context")]
    lines = table(subject, kept, rows, tmp_path)
    run = load(tmp_path / "ours")
    for line, method in zip(lines[2:4], rows, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == method.name
        for place, split in ((1, "novel"), (2, "conflict"), (7, "retention")):
            share = truth(run.select(split, method.condition)["success_top1"]).mean()
            assert float(cells[place].split()[0]) == pytest.approx(share, abs=0.006), split
    conflicts = run.select("conflict", "as-delivered")
    assert (truth(conflicts["known"]) == 1).all()
    assert lines[3].endswith("| - |")


def test_the_prompts_are_read_from_the_first_audit() -> None:
    assert methods(None)[0] == Method("hypernetwork", "hypernetwork")
    rows = methods(Path("trained"))
    assert rows[0].adapters == "hypernetwork:folder=trained"
    assert {one.adapters for one in rows if one.condition != "as-delivered"} == {rows[0].adapters}
