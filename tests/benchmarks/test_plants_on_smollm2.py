"""The page of plants, made on the organism: its cells are counts of the stored readings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.content_rule import known_conflicts, of_source
from benchmarks.plants_on_smollm2 import Audited, audited, findings, table
from override_gap.analyses.readings import truth
from override_gap.probes.items import open_items
from override_gap.probes.subject.load import open_subject


def test_the_cells_are_counts_of_the_readings(tmp_path: Path) -> None:
    """Right times 0.1 and random, 30 known conflicts: failures by the readings, and held by the rows of the search alone."""
    subject = open_subject("organism", device="cpu")
    items = open_items("organism")
    conflicts = known_conflicts(subject, items, 30)
    plants = [
        Audited(name, kind, audited(subject, conflicts, name, adapters, tmp_path))
        for name, kind, adapters in of_source(subject, conflicts, 0, (1.0, 0.1))
        if name in ("right, times 1", "right, times 0.1", "random")
    ]
    lines = table(plants)
    for line, plant in zip(lines[2:5], plants, strict=True):
        name, kind, label, failing, _flips, held, *_ = [cell.strip() for cell in line.strip("|").split("|")]
        assert (name, kind) == (plant.name, plant.kind)
        rows = plant.readings.select("conflict", "as-delivered", "known")
        failed = rows["item"][truth(rows["success_top1"]) == 0]
        assert float(failing.split()[0]) == np.round(len(failed) / len(rows), 2)
        rises = plant.readings.search
        first = rises[(rises["success_top1"] == True) & (rises["broken"] == False)]  # noqa: E712
        ranks = first[["rise_rank", "rise_rank_base", "rise_rank_relation"]].fillna(1.0)
        above = first[(ranks > 0.9499).all(axis=1)]
        above = above[(above["doc_place"] != 0) | (above["push_excess"] > 0)]
        share = np.isin(failed, above["item"]).mean()
        assert abs(float(held.split()[0]) - share) < 0.0051
        assert label == ("*magnitude*" if name.startswith("right") else "*representational*")
    assert findings(plants)[0].startswith("Labels of the right adapters by factor: 1 *magnitude*, 0.1 *magnitude*.")
    whole, weak = ({*rows_failing(plant)} for plant in plants[:2])
    cells = [int(cell) for cell in findings(plants)[6].strip("| ").split("|")[1:]]
    assert cells == [len(weak & whole)] * 2 + [len(weak - whole)] * 2  # the organism's adapters hold every answer
    assert len(weak - whole) > 0
    assert findings(plants)[2] == "Blind plants called *magnitude*: none of 1."


def rows_failing(plant: Audited) -> list[str]:
    """Items whose old answer is known and that fail as delivered."""
    rows = plant.readings.select("conflict", "as-delivered", "known")
    return list(rows["item"][truth(rows["success_top1"]) == 0])
