"""What each command writes: on a full disk, after a kill and under any umask the old file or the new one, and one line."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from override_gap.analyses.readings import load
from override_gap.margins.gains_file import GainsFile
from override_gap.probes.plan import Plan
from override_gap.probes.run import shards as merging
from override_gap.probes.run.engine import Local
from override_gap.probes.run.loop import run_plan
from override_gap.probes.run.resolve import resolve
from override_gap.probes.run.shards import Shard, merge
from override_gap.probes.sources.export import export
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.doctor import diagnose
from override_gap.probes.store.files import DiskError
from override_gap.probes.store.folder import Store
from override_gap.probes.store.half_written import diagnose_place
from override_gap.reports.cli.main import DONE, WRONG, main
from tests.conftest import conflict, ended, tiny
from tests.margins.test_whole_files import largest_file, mode, umask
from tests.reports import synthetic

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"]
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue", tier="deep") for n in range(6)]
PLAN = Plan(
    subject="tiny", adapters="fitted", items="own", policies="as-delivered,uniform-2", probes=("margins", "layers")
)
REMEDY = "write to another disk"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, whole and in two shards."""
    folder = tmp_path_factory.mktemp("runs")
    subject = tiny("llama")
    engine = Local(subject, FittedAdapters(subject, steps=1, lr=3e-2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 3)
        run_plan(engine, resolve(PLAN, ITEMS), folder / "whole")
        for number in (1, 2):
            run_plan(engine, resolve(PLAN, ITEMS), folder / str(number), shard=Shard(number, 2))
    return folder


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    return synthetic.summary(synthetic.run())


@pytest.fixture
def run(runs: Path, summary: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, whose summary is a made-up one and is not computed."""
    copy = Path(shutil.copytree(runs / "whole", tmp_path / "run"))
    monkeypatch.setattr("override_gap.reports.build.rebuild", lambda *_: (summary, copy / "report.html"))
    return copy


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def one_line(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("override-gap "), last
    assert "[Errno" not in last
    for part in parts:
        assert part in last


VERBS: dict[str, Callable[[Path, Path], list[str]]] = {
    "report-md": lambda run, out: ["report", str(run), "--quiet", "--format", "md", "--out", str(out)],
    "report-tex": lambda run, out: ["report", str(run), "--quiet", "--format", "tex", "--out", str(out)],
    "report-json": lambda run, out: ["report", str(run), "--quiet", "--format", "json", "--out", str(out)],
    "model-card": lambda run, out: ["report", str(run), "--quiet", "--model-card", "--out", str(out)],
    "convert": lambda _, out: ["items", "convert", "starter", "--out", str(out)],
    "documents": lambda _, out: ["items", "documents", "starter", "--out", str(out)],
    "tune": lambda run, out: ["tune", str(run), "--out", str(out)],
    "compare": lambda run, out: [
        "compare",
        str(run),
        str(run),
        "--condition",
        "as-delivered,uniform-2",
        "--out",
        str(out),
    ],
    "index": lambda run, out: ["index", str(run.parent), "--out", str(out)],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_leaves_the_old_file_and_one_line(
    verb: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "place" / "old"
    out.parent.mkdir()
    if verb == "tune":  # so short a run has no unrelated answers to choose by; what is written is the test's
        monkeypatch.setattr("override_gap.analyses.tune.run.tune", lambda *_: SimpleNamespace())
        gains = GainsFile("uniform-1", (1.0,), False, "scale", "x" * 3000, {})
        monkeypatch.setattr("override_gap.analyses.tune.run.gains_file", lambda *_: gains)
    if verb == "compare":
        page = functools.partial("<html>{}</html>".format, "x" * 5000)
        monkeypatch.setattr("override_gap.reports.page.compare.template_environment", lambda: _Templates(page()))
        monkeypatch.setattr("override_gap.reports.page.compare.comparison_figures", lambda _: [])
        monkeypatch.setattr("override_gap.reports.page.compare.first_figure", lambda _: None)
    out.write_text("OLD")
    before = files(tmp_path)
    with largest_file(700):
        assert main(VERBS[verb](run, out)) == WRONG
    one_line(capsys, str(out), "cannot be written: File too large; ")
    assert files(tmp_path) == before, "the old file, and nothing beside it"


class _Templates:
    """Stands in for the page's templates, which take their time."""

    def __init__(self, html: str) -> None:
        self.html = html

    def get_template(self, _: str) -> _Templates:
        return self

    def render(self, **_: Any) -> str:
        return self.html


def test_a_report_on_a_full_disk_leaves_the_old_page_and_removes_what_a_killed_one_had_left(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(runs / "whole", tmp_path / "run"))
    left = [run / f".report.html.{ended()}.tmp", run / "figures" / f".gain_path.svg.{ended()}.tmp"]
    for file in left:
        file.write_text("<html>")
    assert [finding.about for finding in diagnose(run).findings] == [str(file.relative_to(run)) for file in left]
    (run / "report.html").write_text("OLD")
    with largest_file(500_000):  # the page alone is larger: it holds the plotting script
        assert main(["report", str(run), "--quiet"]) == WRONG
    one_line(capsys, f"{run / 'report.html'}: cannot be written: File too large; ", REMEDY)
    assert (run / "report.html").read_text() == "OLD"
    assert not list(run.rglob(".*")), "nothing half written, neither of this one nor of the killed one"
    assert diagnose(run).sound


def test_a_summary_on_a_full_disk_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("OLD")
    with (
        largest_file(1000),
        pytest.raises(DiskError, match=r"summary\.json: cannot be written: File too large.*make room"),
    ):
        Store(tmp_path).write_json("summary.json", {"label": "x" * 2000})
    assert files(tmp_path) == {"summary.json": b"OLD"}


def test_what_a_killed_command_left_beside_its_output_is_removed_by_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = tmp_path / f".items.jsonl.{ended()}.tmp"
    left.write_text("{")
    assert main(["items", "convert", "starter", "--out", str(tmp_path / "items.jsonl")]) == DONE
    assert f"removed {left}, half written by a process that was killed" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["items.jsonl"]


def test_merge_gives_what_umask_gives_and_flushes_every_table(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (flushed.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))[1]
    )
    with umask(0o077):
        out = merge([runs / "1", runs / "2"], tmp_path / "deep" / "out")
    assert {mode(path) for path in out.rglob("*") if path.is_dir()} | {mode(out)} == {0o700}
    assert {mode(path) for path in out.rglob("*") if path.is_file()} == {0o600}
    names = {Path(path).name for path in flushed}
    assert names >= {path.name for path in out.rglob("*")}, "every table and folder of tables"
    assert flushed[-1] == str(tmp_path / "deep"), "the rename too"
    assert not [path for path in (tmp_path / "deep").iterdir() if path != out]
    pages = [load(run).readings.sort_values(["item", "condition"], ignore_index=True) for run in (out, runs / "whole")]
    assert pages[0].equals(pages[1])


def test_a_full_disk_during_a_merge_leaves_nothing_and_says_what_to_do(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with largest_file(1000):
        assert main(["merge", str(runs / "1"), str(runs / "2"), "--out", str(tmp_path / "out")]) == WRONG
    one_line(capsys, f"{tmp_path / 'out'}: cannot be written: File too large; ", REMEDY)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_merge_left_is_named_and_removed(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for doctor in (True, False):
        child = os.fork()
        if child == 0:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(merging, "_merged_manifest", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
                merge([runs / "1", runs / "2"], out)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
        [left] = tmp_path.iterdir()
        assert left.name.startswith(".out.")
        assert left.name.endswith(".tmp")
        assert main(["doctor", str(out)]) == WRONG
        said = capsys.readouterr().out
        assert (
            f"leftover: {left}: half written by a process that was killed; removed by --repair, or by the next such command"
            in said
        )
        if doctor:
            assert main(["doctor", str(out), "--repair"]) == WRONG, "there is still no run"
            assert capsys.readouterr().out.startswith(f"removed {left}\nmissing: {out}: no run is here; ")
            assert not list(tmp_path.iterdir())
    assert main(["merge", str(runs / "1"), str(runs / "2"), "--out", str(out)]) == DONE
    assert f"removed {left}, half written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [out]
    assert diagnose(out).sound


def test_doctor_leaves_what_a_running_process_writes(runs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs / "whole", tmp_path / "run"))
    busy = tmp_path / f".run.{os.getppid()}.tmp"
    busy.mkdir()
    says = "being written by a process that runs on this machine"
    assert [f.says for f in diagnose_place(run).findings if f.kind == "leftover"] == [says]
    assert main(["doctor", str(run), "--repair"]) == DONE
    assert busy.is_dir()


@pytest.mark.parametrize("form", ["peft", "compact"])
def test_an_export_on_a_full_disk_leaves_nothing(form: str, tmp_path: Path) -> None:
    subject = tiny("llama")
    documents = resolve(PLAN, ITEMS).items.documents[:2]
    with largest_file(2000), pytest.raises(OSError, match=r"out: cannot be written: File too large; .*other disk"):
        export(subject, FittedAdapters(subject, steps=1), documents, form, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    with umask(0o077):
        export(subject, FittedAdapters(subject, steps=1), documents, form, tmp_path / "out")
    assert {mode(path) & 0o077 for path in tmp_path.rglob("*")} == {0}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_standard_output_is_one_line() -> None:
    words = [sys.executable, "-m", "override_gap", "items", "convert", "starter"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == WRONG
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("override-gap items: ")
    assert "No space left on device; make room" in line


def test_standard_output_can_be_named_and_stays_what_it_is(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "override_gap", "items", "convert", "starter", "--out", "/dev/stdout"]
    piped = subprocess.run(words, capture_output=True, check=True).stdout
    with (tmp_path / "file").open("wb") as file:
        subprocess.run(words, stdout=file, stderr=subprocess.PIPE, check=True)
    assert piped == (tmp_path / "file").read_bytes()
    assert json.loads(piped.splitlines()[0])["id"]
    assert stat.S_ISLNK(os.lstat("/dev/stdout").st_mode)
