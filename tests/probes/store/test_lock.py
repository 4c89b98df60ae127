"""The lock of a run folder between processes, with the kernel's locks and on a disk without any; and a clock set back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock

from override_gap.probes.store import lock
from override_gap.probes.store.folder import Store
from override_gap.probes.store.lock import LOCK, OWNER, LockError, locked
from tests.conftest import ended

# another process: holds the folder, or says why it cannot, until a line comes; "write" writes a file of the run on the way
HOLDER = """
import sys
from pathlib import Path
from override_gap.probes.store import lock
from override_gap.probes.store.folder import Store
lock.FileLock.acquire = lambda *_, **__: (_ for _ in ()).throw(NotImplementedError())
lock.SETTLE_S = 0.01
lock.BEAT_S = float(sys.argv[2])
folder = Path(sys.argv[1])
try:
    with lock.locked(folder):
        print("in", flush=True)
        for line in sys.stdin:
            if line == "write\\n":
                Store(folder).write_json("summary.json", {"by": "other"})
                print("written", flush=True)
            else:
                break
    print("out", flush=True)
except lock.LockError as fault:
    print("refused:", fault, flush=True)
"""


class Other:
    """Another process on a disk without locks."""

    def __init__(self, folder: Path, beat: float = 15.0) -> None:
        words = [sys.executable, "-c", HOLDER, str(folder), str(beat)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = self.hears()

    def hears(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def told(self, word: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.hears()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    return run


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", refuse)
    monkeypatch.setattr(lock, "SETTLE_S", 0.01)


@pytest.fixture
def other(folder: Path) -> Iterator[Callable[..., Other]]:
    with ExitStack() as stack:

        def start(beat: float = 15.0) -> Other:
            one = Other(folder, beat)
            stack.callback(one.process.communicate, timeout=30)
            return one

        yield start


def silent(folder: Path, seconds: float = lock.SILENT_S + 5, host: str | None = "elsewhere") -> None:
    """Let the holder seem to be on another machine and not to have touched its file for so long."""
    owner = folder / OWNER
    owner.write_text(json.dumps(json.loads(owner.read_text()) | ({"host": host} if host else {})))
    os.utime(owner, (time.time() - seconds, time.time() - seconds))


@pytest.mark.usefixtures("without_locks")
def test_a_holder_that_was_taken_over_stops_writes_nothing_and_removes_nothing(
    folder: Path, other: Callable[..., Other]
) -> None:
    first = other()
    assert first.said == "in"
    assert first.told("write") == "written"
    silent(folder)
    with locked(folder) as dead:
        assert dead is not None
        assert "ended without finishing" in dead
        mine = (folder / OWNER).read_text()
        Store(folder).write_json("summary.json", {"by": "mine"})
        said = first.told("write")
        assert said.startswith(f"refused: {folder} was taken over by process {os.getpid()} on")
        assert first.process.wait(30) == 0
        assert (folder / OWNER).read_text() == mine, "the old holder removed the new one's file"
        assert json.loads((folder / "summary.json").read_text()) == {"by": "mine"}
        third = other()
        assert third.said.startswith(f"refused: {folder} is in use: process {os.getpid()} on")
    assert not (folder / OWNER).exists()
    assert other().said == "in"


@pytest.mark.usefixtures("without_locks")
def test_a_holder_that_ends_after_it_was_taken_over_leaves_the_new_owner(
    folder: Path, other: Callable[..., Other]
) -> None:
    first = other()
    silent(folder)
    with locked(folder):
        mine = (folder / OWNER).read_text()
        assert first.told("leave") == "out"
        assert (folder / OWNER).read_text() == mine
        assert other().said.startswith("refused")


@pytest.mark.usefixtures("without_locks")
def test_a_holder_that_was_taken_over_does_not_keep_the_new_ones_file_young(
    folder: Path, other: Callable[..., Other]
) -> None:
    first = other(0.02)
    silent(folder)
    os.replace(folder / OWNER, folder / "kept")
    with locked(folder):
        os.utime(folder / OWNER, (1, 1))
        time.sleep(0.3)
        assert (folder / OWNER).stat().st_mtime == 1
        assert first.told("leave") == "out"


def test_this_process_stops_too_and_on_disks_with_locks(folder: Path) -> None:
    with locked(folder):
        Store(folder).write_json("summary.json", {"n": 1})
        owner = {"pid": 1, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00", "token": "theirs"}
        (folder / OWNER).write_text(json.dumps(owner))
        for write in (
            lambda: Store(folder).write_json("summary.json", {"n": 2}),
            lambda: Store(folder).write_unit("0123456789abcdef", [], []),
        ):
            with pytest.raises(LockError, match=r"taken over by process 1 on elsewhere.*writes nothing more"):
                write()
    assert json.loads((folder / OWNER).read_text()) == owner
    assert json.loads((folder / "summary.json").read_text()) == {"n": 1}
    assert not (folder / "readings").exists()


def test_an_owner_file_that_somebody_removed_is_stated_again(folder: Path) -> None:
    with locked(folder):
        before = (folder / OWNER).read_text()
        (folder / OWNER).unlink()
        Store(folder).write_json("summary.json", {"n": 1})
        assert (folder / OWNER).read_text() == before
    assert not (folder / OWNER).exists()


@pytest.mark.usefixtures("without_locks")
def test_two_threads_of_one_process_do_not_share_a_folder(folder: Path) -> None:
    refused = []

    def try_it() -> None:
        try:
            with locked(folder):
                pass
        except LockError as fault:
            refused.append(str(fault))

    with locked(folder):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        assert len(refused) == 1
        assert (folder / OWNER).exists(), "the refused thread removed the file of the other"
        Store(folder).write_json("summary.json", {})


@pytest.mark.usefixtures("without_locks")
def test_of_two_that_claim_a_folder_at_once_one_is_let_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {"pid": 1, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00", "token": "theirs"}
    monkeypatch.setattr(lock.time, "sleep", lambda _: (folder / OWNER).write_text(json.dumps(theirs)))
    with pytest.raises(LockError, match="in use: process 1 on elsewhere"), locked(folder):
        pytest.fail("held")
    assert json.loads((folder / OWNER).read_text()) == theirs


@pytest.mark.usefixtures("without_locks")
def test_a_program_that_has_only_got_the_number_of_a_dead_holder_does_not_hold_its_folder(folder: Path) -> None:
    owner = {"pid": os.getppid(), "host": lock.socket.gethostname(), "since": "2001-09-09T01:46:40+00:00", "token": "x"}
    (folder / OWNER).write_text(json.dumps(owner))
    with pytest.raises(LockError, match="in use"), locked(folder):
        pass
    os.utime(folder / OWNER, (1e9, 1e9))
    with locked(folder) as dead:
        assert dead is not None
    (folder / OWNER).write_text(json.dumps(owner | {"pid": ended()}))
    with locked(folder) as dead:
        assert dead is not None


def test_the_file_of_a_holder_before_the_clock_was_set_back_is_watched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, hour = folder / OWNER, 3600.0
    owner.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00", "token": "x"}))
    slept: list[float] = []
    monkeypatch.setattr(lock.time, "sleep", slept.append)
    os.utime(owner, (time.time() + hour, time.time() + hour))
    with locked(folder) as dead:
        assert dead is not None
    assert sum(slept) >= 2 * lock.BEAT_S - 1e-9, "a living holder touches its file within that time"
    owner.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00", "token": "x"}))
    os.utime(owner, (time.time() + hour, time.time() + hour))
    monkeypatch.setattr(lock.time, "sleep", lambda _: os.utime(owner))
    with pytest.raises(LockError, match="process 1 on elsewhere"), locked(folder):
        pytest.fail("held")
    assert (folder / LOCK).exists()
