"""A figure on a full disk: one error that names the file, and nothing left."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from override_gap.margins.whole_files import WriteError
from override_gap.reports.figures import style
from tests.margins.test_whole_files import largest_file


@pytest.mark.parametrize("form", ["svg", "png", "pdf"])
def test_a_figure_on_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    # matplotlib's PDF closes what it could not write, and raised "'Stream' object has no attribute 'pos'"
    monkeypatch.setattr(style, "FORMS", (form,))
    drawing = Figure()
    drawing.subplots().plot([1, 2])
    (tmp_path / f"drawing.{form}").write_bytes(b"older")
    for size in (1, 300, 2000):
        with (
            largest_file(size),
            pytest.raises(WriteError, match=rf"drawing\.{form}: cannot be written: File too large"),
        ):
            style.save(drawing, tmp_path / "drawing")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"older"]
