"""`override-gap report`: every form from one run, and the same bytes when it is made again."""

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
def made(tmp_path_factory) -> Path:
    """A run folder with layers, its report written once."""
    run = simulate_readings(
        1, points=24, questions=48, others=12, conditions=("base", "as-delivered", "uniform-2", "slb")
    )
    folder = stored(run, tmp_path_factory.mktemp("made") / "run")
    (folder / "layers").mkdir()
    run.layers.to_parquet(folder / "layers" / "all.parquet")
    assert main(["report", str(folder), "--quiet"]) == 0
    return folder


def without_drawings(page: str) -> str:
    return re.sub(r"<svg.*?</svg>", "", page, flags=re.S)


def test_a_rebuild_gives_the_same_bytes(made, tmp_path, capsys) -> None:
    again = tmp_path / "elsewhere"
    shutil.copytree(made, again, ignore=shutil.ignore_patterns("summary.json", "report.html", "figures"))
    assert main(["report", str(again), "--quiet"]) == 0
    assert (again / "summary.json").read_bytes() == (made / "summary.json").read_bytes()
    assert without_drawings((again / "report.html").read_text()) == without_drawings((made / "report.html").read_text())
    assert len(without_drawings((made / "report.html").read_text())) > 20_000


def test_how_the_readings_were_split_over_files_does_not_matter(made, tmp_path, capsys) -> None:
    import pandas as pd

    again = tmp_path / "split"
    shutil.copytree(made, again)
    rows = pd.read_parquet(again / "readings" / "all.parquet")
    (again / "readings" / "all.parquet").unlink()
    half = set(rows["item"].unique()[::2])
    for number, part in enumerate((rows[rows["item"].isin(half)], rows[~rows["item"].isin(half)])):
        part.to_parquet(again / "readings" / f"{number}.parquet")
    assert main(["report", str(again), "--quiet"]) == 0
    assert json.loads((again / "summary.json").read_text()) == json.loads((made / "summary.json").read_text())


@pytest.mark.parametrize(
    ("words", "name", "begins"),
    [
        (["--format", "md"], "report.md", "# Override-gap audit"),
        (["--format", "tex"], "report.tex", "% Needs"),
        (["--format", "json"], "summary.json", "{"),
        (["--model-card"], "model-card.md", "## Does it override"),
    ],
)
def test_every_text_form(made, tmp_path, capsys, monkeypatch, words, name, begins) -> None:
    monkeypatch.setattr("override_gap.reports.figures.FIGURES", ())
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    assert main(["report", str(folder), "--quiet", *words]) == 0
    assert str(folder / name) in capsys.readouterr().out
    assert (folder / name).read_text().startswith(begins)
    out = tmp_path / "deep" / "out.txt"
    assert main(["report", str(folder), "--quiet", *words, "--out", str(out)]) == 0
    assert out.read_bytes() == (folder / name).read_bytes()


def test_wrong_words_end_in_one_line(made, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for words, message in (
        (["--format", "pdf"], "needs a headless Chromium"),
        (["--format", "docx"], "invalid choice"),
        (["--format", "md", "--model-card"], "not allowed with"),
        (["--out", str(tmp_path)], "is a folder"),
    ):
        assert main(["report", str(made), *words]) == 2
        said = capsys.readouterr().err.strip()
        assert message in said
        assert "\n" not in said


def test_a_manifest_that_says_nothing_is_refused_before_anything_is_written(made, tmp_path, capsys) -> None:
    hollow = tmp_path / "hollow"
    shutil.copytree(made, hollow)
    (hollow / "manifest.json").write_text("{}")
    before = (hollow / "summary.json").read_bytes()
    assert main(["report", str(hollow), "--quiet"]) == 2
    assert "lacks subject, adapters, items" in capsys.readouterr().err
    assert (hollow / "summary.json").read_bytes() == before
