"""Imports point one way: reports -> analyses -> probes -> margins; and nothing works at import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = {"margins": 0, "probes": 1, "analyses": 2, "reports": 3}
FILES = sorted(file for package in ORDER for file in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_down(file: Path) -> None:
    own = ORDER[file.relative_to(ROOT).parts[0]]
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            assert ORDER.get(name.split(".")[0], -1) <= own, f"{file}: {name} is above it"


def test_analyses_and_margins_open_no_model() -> None:
    for file in FILES:
        package = file.relative_to(ROOT).parts[0]
        if package in ("margins", "analyses"):
            assert "transformers" not in file.read_text(), f"{file} names transformers"


def test_help_imports_no_heavy_library() -> None:
    code = "import sys; from reports.cli.main import main; main(['--help']); print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    loaded = set(out.split("\n")[-2].split())
    assert not loaded & {"torch", "transformers", "transformer_lens", "pandas", "numpy", "seaborn", "statsmodels"}
