"""`override-gap report`: every format from one run, and the same bytes when it is written again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from override_gap.reports.cli.main import main
from tests.cli.test_compare import stored
from tests.simulate import simulate_readings


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A run folder with layers, its report written once."""
    run = simulate_readings(
        1, points=24, questions=48, others=12, conditions=("base", "as-delivered", "uniform-2", "slb")
    )
    folder = stored(run, tmp_path_factory.mktemp("report") / "run")
    (folder / "layers").mkdir()
    run.layers.to_parquet(folder / "layers" / "all.parquet")
    assert main(["report", str(folder), "--quiet"]) == 0
    return folder


def without_drawings(page: str) -> str:
    return re.sub(r"<svg.*?</svg>", "", page, flags=re.S)


def test_a_rebuild_gives_the_same_bytes(run_folder, tmp_path, capsys) -> None:
    again = tmp_path / "elsewhere"
    shutil.copytree(run_folder, again, ignore=shutil.ignore_patterns("summary.json", "report.html", "figures"))
    assert main(["report", str(again), "--quiet"]) == 0
    assert (again / "summary.json").read_bytes() == (run_folder / "summary.json").read_bytes()
    assert without_drawings((again / "report.html").read_text()) == without_drawings(
        (run_folder / "report.html").read_text()
    )
    assert len(without_drawings((run_folder / "report.html").read_text())) > 20_000


def test_readings_in_several_files_give_the_same_summary(run_folder, tmp_path, capsys) -> None:
    import pandas as pd

    again = tmp_path / "split"
    shutil.copytree(run_folder, again)
    items = pd.read_parquet(again / "layers" / "all.parquet")["item"].unique()
    half = set(items[: len(items) // 2])
    for whole in again.glob("*/all.parquet"):
        rows = pd.read_parquet(whole)
        whole.unlink()
        for number, half_of_rows in enumerate((rows[rows["item"].isin(half)], rows[~rows["item"].isin(half)])):
            half_of_rows.to_parquet(whole.with_name(f"{number}.parquet"))
    assert main(["report", str(again), "--quiet"]) == 0
    assert json.loads((again / "summary.json").read_text()) == json.loads((run_folder / "summary.json").read_text())


@pytest.mark.parametrize(
    ("words", "name", "begins"),
    [
        (["--format", "md"], "report.md", "# Override-gap audit"),
        (["--format", "tex"], "report.tex", "% Needs"),
        (["--format", "json"], "summary.json", "{"),
        (["--model-card"], "model-card.md", "---\nlibrary_name: peft\n"),
    ],
)
def test_every_text_format(run_folder, tmp_path, capsys, monkeypatch, words, name, begins) -> None:
    monkeypatch.setattr("override_gap.reports.figures.FIGURES", ())
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    assert main(["report", str(folder), "--quiet", *words]) == 0
    printed = capsys.readouterr().out
    assert str(folder / name) in printed or printed == (folder / name).read_text()
    assert (folder / name).read_text().startswith(begins)
    out = tmp_path / "deep" / "out.txt"
    assert main(["report", str(folder), "--quiet", *words, "--out", str(out)]) == 0
    assert out.read_bytes() == (folder / name).read_bytes()


def test_tex_prints_the_fragment_and_nothing_else(run_folder, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("override_gap.reports.figures.FIGURES", ())
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    assert main(["report", str(folder), "--format", "tex"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.startswith("% Needs")
    assert printed.out.endswith("\\end{longtable}}\n")
    assert main(["report", str(folder), "--format", "tex", "--out", str(tmp_path / "out.tex")]) == 0
    silent = capsys.readouterr()
    assert (silent.out, silent.err) == ("", "")
    assert (tmp_path / "out.tex").read_text() == printed.out


def test_wrong_arguments_are_refused_in_one_line(run_folder, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for words, message in (
        (["--format", "pdf"], "needs a headless Chromium"),
        (["--format", "docx"], "invalid choice"),
        (["--format", "md", "--model-card"], "not allowed with"),
        (["--out", str(tmp_path)], "is a folder"),
    ):
        assert main(["report", str(run_folder), *words]) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error


def test_an_empty_manifest_is_refused_before_anything_is_written(run_folder, tmp_path, capsys) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(run_folder, empty)
    (empty / "manifest.json").write_text("{}")
    before = (empty / "summary.json").read_bytes()
    assert main(["report", str(empty), "--quiet"]) == 2
    assert "lacks subject, adapters, items" in capsys.readouterr().err
    assert (empty / "summary.json").read_bytes() == before
