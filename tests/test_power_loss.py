"""The campaigns of power loss and of commands that write, small: a few losses and faults each, and losses that must be found."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.disk_trace import HEAD, Incomplete, read_log
from benchmarks.faults_writing import said_well
from benchmarks.power_loss import given_again, replace_block

ROOT = Path(__file__).parent.parent

needs_compiler = pytest.mark.skipif(
    not (shutil.which("gcc") or shutil.which("cc")) or sys.platform != "linux", reason="no C compiler, or no Linux"
)


def campaign(script: str, *words: str) -> str:
    # in its own process, since it forks, which a process with threads must not
    command = [sys.executable, f"benchmarks/{script}.py", *words]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


@needs_compiler
def test_power_losses_leave_the_undisturbed_readings_and_old_files_or_new_ones(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- power-loss -->\nold\n<!-- /power-loss -->\nafter\n")
    few = ("--losses", "3", "--each", "8", "--only", "merge", "--only", "items convert", "--seed", "3")
    text = campaign("power_loss", *few, "--without", "both", "--out", str(page))
    assert "3 of 3 audits ended in the undisturbed readings" in text
    assert "16 of 16 losses during another command left every file old or new" in text
    assert text.strip() in page.read_text()
    # the campaign can fail: without fsync it finds what would be lost
    lost, stored = map(int, re.findall(r"and (\d+) of (\d+) stored units are lost", text)[0])
    assert 0 < lost <= stored
    for command in ("merge", "items convert"):
        [(held, without)] = re.findall(rf"\| {command} \| 8 \| (\d+) \| (\d+) \|", text)
        assert int(held) == 8
        assert int(without) < 8


def test_commands_that_write_survive_kills_and_full_disks() -> None:
    text = campaign("faults_writing", "--runs", "8", "--only", "merge", "--only", "items convert")
    assert "8 of 8 held" in text
    affected = re.search(r"\| all \| 8 \| (\d+) \|", text)
    assert affected is not None
    assert int(affected[1]) >= 4


@pytest.mark.parametrize(
    ("line", "well"),
    [
        ("override-gap merge: ROOT/out: cannot be written: No space left on device; make room", True),
        ("override-gap merge: [Errno 28] No space left on device: 'ROOT/out'; make room", False),
        ("override-gap merge: ROOT/out: cannot be written: No space left on device", False),
        ("override-gap merge: cannot be written: No space left on device; make room", False),
        ("Traceback (most recent call last):\noverride-gap merge: ROOT/out: full; make room", False),
        ("override-gap merge: ROOT/out: full; make room\nException ignored", False),
        ("", False),
    ],
)
def test_what_is_said_of_a_fault(line: str, well: bool) -> None:
    assert said_well(line.replace("ROOT", "/somewhere"), Path("/somewhere")) is well


def test_a_browsers_own_links_are_not_followed_and_any_other_is_refused(tmp_path: Path) -> None:
    def logged(kind: str, path: str, second: str = "") -> bytes:
        texts = f"{tmp_path}/{path}".encode(), second.encode()
        return HEAD.pack(ord(kind), *map(len, texts), 0, 0, 0) + b"".join(texts)

    own, log = ".a.pdf.7.tmp/profile/lock", tmp_path / "log"
    log.write_bytes(logged("S", own, "host-7") + logged("U", own) + logged("R", ".a.pdf.7.tmp/x", f"{tmp_path}/a.pdf"))
    assert [(request.kind, request.second) for request in read_log(log, tmp_path)] == [("R", "a.pdf")]
    log.write_bytes(logged("S", "profile/lock", "host-7"))
    with pytest.raises(Incomplete, match="symbolic link"):
        read_log(log, tmp_path)


def test_what_is_there_after_a_command_was_given_again() -> None:
    new = {"page": b"new"}
    assert given_again(dict(new), new, 0, 0) is None
    assert given_again(dict(new), new, 2, 0) is None
    assert given_again(dict(new), new, -9, 0) == "given again it ended with -9"
    assert "page: not as undisturbed" in str(given_again({"page": b"ne"}, new, 0, 0))
    assert ".page.1.tmp: not as undisturbed" in str(given_again({**new, ".page.1.tmp": b""}, new, 0, 0))


def test_a_block_of_a_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- mark -->\nold\n<!-- /mark -->\nb\n")
    replace_block(page, "mark", "new\n")
    assert page.read_text() == "a\n<!-- mark -->\nnew\n<!-- /mark -->\nb\n"
