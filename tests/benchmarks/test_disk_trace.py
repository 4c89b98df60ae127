"""What a disk may hold after a power loss, worked by hand; and the library's record against what a process left."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from benchmarks.disk_trace import Disk, Incomplete, Request, compiled, read_log, require_complete
from benchmarks.power_loss import stored_units
from benchmarks.writing_commands import Command, harm


def held(disk: Disk, out: Path, seed: int | None = None) -> dict[str, bytes]:
    disk.after_power_loss(out, None if seed is None else random.Random(seed))
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}


def followed(root: Path, *requests: Request) -> Disk:
    disk = Disk(root)
    for request in requests:
        disk.follow(request)
    return disk


def opened(path: str, inode: int, *, cut: bool = False) -> Request:
    return Request("O", path, "", inode, int(cut), b"")


def wrote(path: str, inode: int, data: bytes, at: int = 0) -> Request:
    return Request("W", path, "", inode, at, data)


def flushed(path: str, inode: int) -> Request:
    return Request("F", path, "", inode, 0, b"")


def renamed(old: str, new: str, inode: int) -> Request:
    return Request("R", old, new, inode, 0, b"")


FOLDER_FLUSHED = Request("G", ".", "", 0, 0, b"")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "page").write_bytes(b"old")
    return folder


def test_a_file_written_in_place_is_lost(root: Path, tmp_path: Path) -> None:
    inode = (root / "page").stat().st_ino
    disk = followed(root, opened("page", inode, cut=True), wrote("page", inode, b"newer"))
    assert held(disk, tmp_path / "nothing kept") == {"page": b"old"}
    # a disk may keep the cut and not the bytes, or the new length alone: "", zeros and a mixture are possible beside old and new
    found = {held(disk, tmp_path / f"part-{seed}", seed)["page"] for seed in range(300)}
    assert found == {b"old", b"", b"newer", bytes(5), b"old\0\0"}


@pytest.mark.parametrize(
    ("steps", "possible"),
    [
        ("write rename", {b"old", b"", b"newer", bytes(5)}),
        ("write flush rename", {b"old", b"newer"}),
        ("write flush rename folder", {b"newer"}),
        ("write rename folder", {b"", b"newer", bytes(5)}),
    ],
)
def test_each_step_of_the_writer_is_needed(root: Path, tmp_path: Path, steps: str, possible: set[bytes]) -> None:
    requests = {
        "write": [opened(".page.1.tmp", 7), wrote(".page.1.tmp", 7, b"newer")],
        "flush": [flushed(".page.1.tmp", 7)],
        "rename": [renamed(".page.1.tmp", "page", 7)],
        "folder": [FOLDER_FLUSHED],
    }
    disk = followed(root, *(request for step in steps.split() for request in requests[step]))
    found = {held(disk, tmp_path / f"part-{seed}", seed)["page"] for seed in range(150)}
    assert found == possible
    nothing = held(disk, tmp_path / "nothing kept")["page"]
    assert nothing == (b"old" if "folder" not in steps else b"newer" if "flush" in steps else b"")


def test_a_new_folder_needs_the_folder_above_it_flushed(root: Path, tmp_path: Path) -> None:
    made = [
        Request("M", "run", "", 0, 0, b""),
        opened("run/table", 9),
        wrote("run/table", 9, b"rows"),
        flushed("run/table", 9),
        Request("G", "run", "", 0, 0, b""),
    ]
    assert held(followed(root, *made), tmp_path / "lost") == {"page": b"old"}
    assert held(followed(root, *made, FOLDER_FLUSHED), tmp_path / "kept") == {"page": b"old", "run/table": b"rows"}


def test_pages_are_kept_or_lost_one_by_one(root: Path, tmp_path: Path) -> None:
    disk = followed(root, opened("table", 9), wrote("table", 9, b"a" * 4096 + b"b" * 4096), FOLDER_FLUSHED)
    found = {held(disk, tmp_path / f"part-{seed}", seed)["table"] for seed in range(120)}
    zeros = bytes(4096)
    assert found == {
        b"",
        b"a" * 4096,
        zeros + zeros,
        b"a" * 4096 + zeros,
        zeros + b"b" * 4096,
        b"a" * 4096 + b"b" * 4096,
    }


def test_a_rename_between_folders_is_kept_or_lost_as_one(root: Path, tmp_path: Path) -> None:
    move = [Request("M", "aside", "", 0, 0, b""), FOLDER_FLUSHED, renamed("page", "aside/page", 0)]
    disk = followed(root, *move)
    assert held(disk, tmp_path / "before") == {"page": b"old"}
    states = [held(disk, tmp_path / f"part-{seed}", seed) for seed in range(20)]
    assert {tuple(state) for state in states} == {("page",), ("aside/page",)}


def test_fsync_can_be_read_as_if_it_had_not_been_called(root: Path, tmp_path: Path) -> None:
    steps = [opened("new", 9), wrote("new", 9, b"rows"), flushed("new", 9), FOLDER_FLUSHED]
    for files, folders, expected in ((True, True, b"rows"), (False, True, b""), (True, False, None)):
        disk = Disk(root, flushed_files=files, flushed_folders=folders)
        for request in steps:
            disk.follow(request)
        assert held(disk, tmp_path / f"{files}-{folders}").get("new") == expected


def test_units_are_stored_once_their_folder_was_flushed_after_the_rename() -> None:
    rename = renamed("run/readings/.k.parquet.1.tmp", "run/readings/k.parquet", 4)
    flush = Request("G", "run/readings", "", 0, 0, b"")
    assert stored_units([flush, rename]) == set()
    assert stored_units([rename, flush]) == {"run/readings/k.parquet"}


def test_what_is_neither_old_nor_new_is_harm() -> None:
    command = Command("merge", lambda _: None, lambda _: 0, whole=("out",))
    old, new = {"page": b"old"}, {"page": b"new", "out/a": b"1", "out/b": b"2"}
    assert harm(command, old, old, new) is None
    assert harm(command, new, old, new) is None
    assert harm(command, {"page": b"ne"}, old, new) == "page: 2 bytes of neither version"
    assert harm(command, {}, old, new) == "page: gone"
    assert harm(command, {"page": b"old", "out/a": b"1"}, old, new) == "out: 1 of its 2 files"
    keeping = Command("repair", lambda _: None, lambda _: 0, keeps=True)
    moved = {"aside/page": b"old"}
    assert harm(keeping, moved, {"page": b"old"}, moved) is None
    assert harm(keeping, {}, {"page": b"old"}, moved) == "page: nowhere any more"


WORK = """
    import os, shutil, sys
    os.environ["DISK_TRACE_ROOT"], os.environ["DISK_TRACE_LOG"] = sys.argv[1], sys.argv[2]
    os.chdir(sys.argv[1])
    with open("page", "r+b") as file:
        file.seek(2)
        file.write(b"written over")
        file.truncate(9)
        os.pwrite(file.fileno(), b"!", 20)
        os.fsync(file.fileno())
    os.makedirs("deep/er")
    shutil.copy2("page", "deep/copy")
    os.rename("deep/copy", "deep/er/moved")
    os.link("page", "second")
    folder = os.open("deep", os.O_RDONLY)
    os.replace("second", "third", src_dir_fd=None)
    os.fsync(folder)
    descriptor = os.open("er/relative", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600, dir_fd=folder)
    os.write(descriptor, b"one ")
    os.writev(descriptor, [b"two ", b"three"])
    with open("gone", "w") as file:
        file.write("gone")
    os.unlink("gone")
    os.mkdir("empty")
    shutil.rmtree("empty")
    import numpy as np
    from safetensors.numpy import save_file
    save_file({"x": np.arange(9)}, "tensors.safetensors")
    save_file({"x": np.arange(5)}, "again")
    with open("again", "rb+") as file:
        os.fsync(file.fileno())
    os.replace("again", "page")
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = compiled(tmp_path_factory.mktemp("library"))
    if found is None:
        pytest.skip("no C compiler here, or no Linux")
    return found


def run_with(library: Path, root: Path, log: Path, code: str, **settings: str) -> int:
    command = [sys.executable, "-c", textwrap.dedent(code), str(root), str(log)]
    return subprocess.run(
        command, env={**os.environ, "LD_PRELOAD": str(library), **settings}, capture_output=True, check=False
    ).returncode


def test_the_record_gives_what_the_process_left(library: Path, root: Path, tmp_path: Path) -> None:
    disk = Disk(root)
    assert run_with(library, root, tmp_path / "log", WORK) == 0
    requests = read_log(tmp_path / "log", root)
    for request in requests:
        disk.follow(request)
    require_complete(disk, root)
    assert {r.kind for r in requests} >= set("OWTRLUDMFG")
    assert (root / "deep" / "er" / "relative").read_bytes() == b"one two three"
    # a record that lacks a request says so
    (tmp_path / "nothing").mkdir()
    short = Disk(tmp_path / "nothing")
    with pytest.raises(Incomplete, match="other files"):
        require_complete(short, root)


def test_a_map_that_cannot_be_followed_is_refused(library: Path, root: Path, tmp_path: Path) -> None:
    code = """
        import mmap, os, sys
        os.environ["DISK_TRACE_ROOT"], os.environ["DISK_TRACE_LOG"] = sys.argv[1], sys.argv[2]
        with open(sys.argv[1] + "/page", "r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
            shared[0:1] = b"O"
    """
    assert run_with(library, root, tmp_path / "log", code) == 0
    with pytest.raises(Incomplete, match="page"):
        read_log(tmp_path / "log", root)


def test_a_process_dies_or_fails_at_the_chosen_request(library: Path, root: Path, tmp_path: Path) -> None:
    code = """
        import errno, os, sys
        os.environ["DISK_TRACE_ROOT"] = sys.argv[1]
        with open(sys.argv[1] + "/page", "wb", buffering=0) as file:
            file.write(b"12345678")
            try:
                os.fsync(file.fileno())
            except OSError as fault:
                sys.exit(fault.errno)
    """
    log = tmp_path / "log"
    assert run_with(library, root, log, code, DISK_TRACE_KILL="1") == -9
    assert (root / "page").read_bytes() == b"old"
    assert run_with(library, root, log, code, DISK_TRACE_KILL="2") == -9
    assert (root / "page").read_bytes() == b"1234"
    assert run_with(library, root, log, code, DISK_TRACE_KILL="3") == -9
    assert (root / "page").read_bytes() == b"12345678"
    assert run_with(library, root, log, code, DISK_TRACE_FAIL="FG:1:5") == 5
    assert run_with(library, root, log, code, DISK_TRACE_FAIL="FG:2:5") == 0
    assert not log.exists()
