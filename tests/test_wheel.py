"""The wheel holds exactly the four packages, with their data."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_exactly_the_four_packages(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"margins", "probes", "analyses", "reports"}
    assert "margins/data/starter.jsonl" in names
    for split in ("novel", "combination", "conflict", "retention"):
        assert f"margins/data/benchmark/{split}.jsonl" in names
    assert any(name.startswith("reports/templates/") for name in names)
    assert "reports/schema/summary.schema.json" in names
