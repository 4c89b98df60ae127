"""The wheel holds one package with its data, and the same commit gives the same file."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_one_package_and_two_builds_are_one_file(tmp_path: Path) -> None:
    found = importlib.util.spec_from_file_location("wheel", ROOT / ".ci" / "wheel.py")
    assert found is not None
    assert found.loader is not None
    made = importlib.util.module_from_spec(found)
    found.loader.exec_module(made)
    wheels, digests = made.twice(tmp_path)
    assert digests[0] == digests[1]
    names = zipfile.ZipFile(wheels[0]).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"override_gap"}
    assert "override_gap/margins/data/starter.jsonl" in names
    for split in ("novel", "combination", "conflict", "retention"):
        assert f"override_gap/margins/data/benchmark/{split}.jsonl" in names
    assert any(name.startswith("override_gap/reports/templates/") for name in names)
    assert "override_gap/reports/schema/summary.schema.json" in names
