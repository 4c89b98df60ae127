"""The library's way in: light to import, and checked by the shape hook."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from override_gap import reports
from override_gap.analyses.readings import RunFrame
from override_gap.reports import figures
from override_gap.reports.comparison import compare
from override_gap.reports.page.headline import headline_numbers
from override_gap.reports.text import rounded
from tests.simulate import simulate_readings

HEAVY = {"torch", "transformers", "pandas", "numpy", "matplotlib", "seaborn"}


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after running this code."""
    code += "; import sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("code", ["import override_gap.reports", "from override_gap.reports import figures"])
def test_importing_reports_loads_no_heavy_library(code: str) -> None:
    assert not loaded_by(code) & HEAVY


@pytest.mark.parametrize("module", [reports, figures])
def test_every_name_of_a_front_door_is_there_and_no_other(module) -> None:
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


def stored(run: RunFrame, folder: Path) -> Path:
    """The run as a run folder."""
    (folder / "readings").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(run.manifest))
    run.readings.to_parquet(folder / "readings" / "all.parquet")
    return folder


def test_write_returns_page_and_summary_and_prints_nothing(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(figures, "FIGURES", ())
    few = {"conditions": ("base", "as-delivered"), "others": 0, "with_layers": False}
    folder = stored(simulate_readings(1, **few), tmp_path / "run")
    stages: list[str] = []
    report = reports.write(folder, tmp_path / "page.html", say=stages.append)
    assert capsys.readouterr().out == ""
    assert report.page == tmp_path / "page.html"
    assert report.page.is_file()
    assert (folder / "summary.json").is_file()
    assert str(report).endswith(f"report: {report.page}")
    assert str(report).startswith(report.summary["verdict"]["label"])
    # between them, what takes longer than some seconds says so
    assert [stages[0], stages[-1]] == ["computing the statistics", "writing the page"]


def test_compare_takes_two_or_more_runs() -> None:
    with pytest.raises(ValueError, match="two or more"):
        compare("runs/one")


def test_a_wrong_type_fails_where_the_hook_is_on() -> None:
    with pytest.raises(Exception, match="violates type hint"):
        rounded("3")  # type: ignore[arg-type]
    with pytest.raises(Exception, match="violates type hint"):
        headline_numbers(["no", "mapping"])  # type: ignore[arg-type]
    with pytest.raises(Exception, match="violates type hint"):
        figures.margins({"readings": None}, {})
