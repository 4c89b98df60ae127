"""What killed commands left beside their output: `doctor` names it, `--repair` and the next such command remove it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from override_gap.margins.items.files import write_items
from override_gap.margins.items.item import Item
from override_gap.margins.whole_files import whole_folder
from override_gap.probes.store.folder import RunError
from override_gap.probes.store.half_written import diagnose_place, half_written, repair_place
from override_gap.reports.cli.main import main

GONE = 4194305
"""No process has this number: it is above the largest that Linux gives."""
RUNNING = 1


def left(folder: Path, name: str, pid: int) -> Path:
    temporary = folder / f".{name}.{pid}.tmp"
    temporary.mkdir()
    (temporary / "half").write_bytes(b"half")
    return temporary


def test_a_killed_merge_is_named_where_it_was_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "merged"
    gone, other = left(tmp_path, "merged", GONE), left(tmp_path, "other", GONE)
    assert main(["doctor", str(out)]) == 2
    told = capsys.readouterr().out
    assert f"leftover: {gone}: half written by a process that was killed; removed by --repair" in told
    assert "no run is here; give the command that was to write it again" in told
    assert str(other) not in told
    assert main(["doctor", str(out), "--repair", "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["repaired"] == [f"removed {gone}"]
    assert [finding["kind"] for finding in said["findings"]] == ["missing"]
    assert not gone.exists()
    assert other.exists()
    with pytest.raises(RunError, match="not a run folder"):
        diagnose_place(out)


def test_what_a_running_process_writes_is_named_and_kept(tmp_path: Path) -> None:
    written = left(tmp_path, "merged", RUNNING)
    assert [f.advice for f in diagnose_place(tmp_path / "merged").findings if f.kind == "leftover"] == ["wait for it"]
    assert repair_place(tmp_path / "merged") == []
    assert written.exists()


def test_a_folder_without_a_run_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / ".items.jsonl.4194305.tmp").write_text("half")
    (tmp_path / ".not ours.tmp").write_text("of another program")
    assert [path.name for path in half_written(tmp_path)] == [".items.jsonl.4194305.tmp"]
    assert repair_place(tmp_path) == [f"removed {tmp_path / '.items.jsonl.4194305.tmp'}"]
    assert [path.name for path in tmp_path.iterdir()] == [".not ours.tmp"]


def test_the_next_command_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    items, out = tmp_path / "items.jsonl", tmp_path / "converted.jsonl"
    write_items([Item("a", "p", "conflict", "The sky is red.", "The sky is", "red", prior_answer="blue")], items)
    gone, running = (tmp_path / f".{out.name}.{pid}.tmp" for pid in (GONE, RUNNING))
    gone.write_text("half")
    running.write_text("half")
    assert main(["items", "convert", str(items), "--out", str(out)]) == 0
    assert out.read_text() == items.read_text()
    assert not gone.exists()
    assert running.exists()
    folder = left(tmp_path, "adapters", GONE)
    with whole_folder(tmp_path / "adapters") as unfinished:
        (unfinished / "a").write_text("a")
    assert not folder.exists()
    assert [file.name for file in (tmp_path / "adapters").iterdir()] == ["a"]


@pytest.mark.parametrize("place", [".", "./", "..", "/"])
def test_a_folder_named_by_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    gone = left(tmp_path, "a", GONE)
    named = place in (".", "./", "..")  # beside it, or in it
    assert main(["doctor", place]) == 2
    told = capsys.readouterr()
    assert ("half written by a process that was killed" in told.out) == named
    assert ("not a run folder" in told.err) != named
    assert main(["doctor", place, "--repair"]) == 2
    assert gone.exists() != named


def test_a_name_that_is_too_long_is_said_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path / ("n" * 256))]) == 2
    assert capsys.readouterr().err.endswith("File name too long; give a shorter name\n")
