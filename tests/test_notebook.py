"""The notebook runs from top to bottom, and shows what it shows in the repository."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent


def shown(notebook) -> list[list[str]]:
    """What each cell of code shows, pictures by their kind only, results as a browser gets them."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[kept(own) for own in cell.outputs if own.get("name") != "stderr"] for cell in code]


def kept(output) -> str:
    data = output.get("data", {})
    return "image" if "image/png" in data else output.get("text") or data.get("text/html") or data["text/plain"]


def test_the_notebook_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    stored = nbformat.read(ROOT / "docs" / "first_look.ipynb", as_version=4)
    nbformat.validate(stored)
    assert "stderr" not in {own.get("name") for cell in stored.cells for own in cell.get("outputs", [])}, (
        "a machine's own words"
    )
    again = nbformat.from_dict(stored)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(again, timeout=900, kernel_name="python3", resources=where, record_timing=False).execute()
    assert shown(again) == shown(stored)
    assert ["image"] in shown(stored)
