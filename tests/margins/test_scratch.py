"""Folders for what is needed only while a command works, and what processes that were killed left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from override_gap.margins import scratch as scratches
from override_gap.margins.scratch import scratch, scratch_beside, scratch_left
from override_gap.margins.temporaries import leftovers_of
from tests.conftest import ended


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratches._remove_abandoned_in.cache_clear()
    return tmp_path


def test_what_a_killed_process_left_is_removed_by_the_next_that_makes_one(temporary: Path) -> None:
    program = (
        "import os, signal; from override_gap.margins.scratch import scratch; folder = scratch(); "
        "open(folder.name + '/weights', 'w').close(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "TMPDIR": str(temporary)}
    killed = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = temporary.iterdir()
    assert scratch_left(temporary) == [left]
    with scratch() as name:
        assert [str(path) for path in temporary.iterdir()] == [name]
        assert Path(name).name.startswith(f"override-gap-{os.getpid()}-")
    assert not list(temporary.iterdir())


def test_what_may_be_in_use_or_is_not_ours_stays(temporary: Path) -> None:
    kept, gone = (
        ["override-gap-x-a", f"override-gap-{os.getppid()}-a", f"other-{ended()}-a", "override-gap-abc"],
        ended(),
    )
    for name in [*kept, f"override-gap-{gone}-logs", f"override-gap-{gone}-held", f"override-gap-{gone}-left"]:
        (temporary / name).mkdir()
    (temporary / f"override-gap-{gone}-logs" / "method.log").touch()
    (temporary / f"override-gap-{gone}-link").symlink_to(temporary / "override-gap-abc")
    # as a process of another container holds it, whose number means nothing here
    holder = (
        "import fcntl, os, sys; h = os.open(sys.argv[1], 0); fcntl.flock(h, fcntl.LOCK_EX); print(flush=True); input()"
    )
    command = [sys.executable, "-c", holder, str(temporary / f"override-gap-{gone}-held")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [path.name for path in scratch_left(temporary)] == [f"override-gap-{gone}-left"]
        process.communicate(b"\n")
    assert len(scratch_left(temporary)) == 2


def test_a_folder_beside_an_output_has_its_temporary_name_and_is_gone_whatever_happens(tmp_path: Path) -> None:
    out = tmp_path / "page.pdf"
    (tmp_path / f".page.pdf.{ended()}.tmp").mkdir()

    def work() -> None:
        with scratch_beside(out) as folder:
            assert leftovers_of(out) == [folder]
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "profile").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not list(tmp_path.iterdir())
