"""Files and folders written whole or not at all, against the system's own calls and a disk that takes no more."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from override_gap.margins import whole_files
from override_gap.margins.temporaries import is_abandoned
from override_gap.margins.whole_files import (
    WriteError,
    leftovers,
    leftovers_of,
    make_folder,
    move,
    remove_abandoned,
    temporary_beside,
    whole_folder,
    write_bytes,
    write_text,
    write_whole,
)
from tests.conftest import ended


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    compiled = sys.dont_write_bytecode
    sys.dont_write_bytecode = (
        True  # Python does not notice that it wrote half of a module, which then cannot be imported
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        sys.dont_write_bytecode = compiled
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


LARGE = "x" * 100_000


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write_text(LARGE),
        lambda file: write_text(file, LARGE),
        lambda file: save_file({"x": torch.zeros(10**5)}, file),
    ],
    ids=["plain", "nested", "safetensors"],
)
def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path: Path, write: Callable[[Path], object]) -> None:
    target = tmp_path / "page"
    target.write_text("old")
    with largest_file(5000), pytest.raises(WriteError) as fault:
        write_whole(target, write)
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["page"]
    assert str(fault.value).startswith(f"{target}: cannot be written: File too large; ")
    assert fault.value.errno == errno.EFBIG
    assert "tmp;" not in str(fault.value)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError("no disk"), SystemExit])
def test_whatever_stops_the_writing_nothing_is_left(tmp_path: Path, stop: BaseException) -> None:
    (tmp_path / "file").write_text("old")

    def write(file: Path) -> None:
        file.write_text("half")
        raise stop

    with pytest.raises((KeyboardInterrupt, ValueError, SystemExit)):
        write_whole(tmp_path / "file", write)
    with pytest.raises((KeyboardInterrupt, ValueError, SystemExit)), whole_folder(tmp_path / "folder") as folder:
        write(make_folder(folder / "deep") / "file")
    assert listing(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    seen = []
    write_whole(target, lambda file: (file.write_text("new"), seen.append(target.read_text())))
    assert seen == ["old"]
    assert target.read_text() == "new"


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002])
def test_modes_are_those_that_umask_gives(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        write_whole(
            tmp_path / "weights", lambda file: save_file({"x": torch.zeros(2)}, file)
        )  # it makes files of mode 600
        with whole_folder(tmp_path / "folder") as folder:
            save_file({"x": torch.zeros(2)}, folder / "weights")
            (folder / "deep").mkdir(mode=0o700)
            (folder / "deep" / "text").write_text("text")
            (folder / "deep" / "text").chmod(0o444)
    assert mode(tmp_path / "weights") == 0o666 & ~mask
    assert {mode(tmp_path / "folder" / name) for name in ("weights", "deep/text")} == {0o666 & ~mask}
    assert {mode(tmp_path / name) for name in ("folder", "folder/deep")} == {0o777 & ~mask}


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("old")
    secret.chmod(0o600)
    write_text(secret, "new")
    assert mode(secret) == 0o600


def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is flushed and renamed, in order."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def name_of(handle: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{handle}")).name

    monkeypatch.setattr(os, "fsync", lambda handle: (done.append(name_of(handle)), fsync(handle))[1])
    monkeypatch.setattr(
        Path, "replace", lambda path, to: (done.append(f"{path.name} -> {to.name}"), replace(path, to))[1]
    )
    return done


def test_bytes_are_flushed_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, pid = flushed(monkeypatch), os.getpid()
    write_text(tmp_path / "file", "text")
    assert done == [f".file.{pid}.tmp", f".file.{pid}.tmp -> file", tmp_path.name]


def test_everything_in_a_folder_is_flushed_before_its_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, pid = flushed(monkeypatch), os.getpid()
    with whole_folder(tmp_path / "run") as folder:
        (folder / "tables").mkdir()
        (folder / "tables" / "one").write_text("1")
        (folder / "two").write_text("2")
        assert not done
    own = f".run.{pid}.tmp"
    assert done == ["one", "tables", "two", own, f"{own} -> run", tmp_path.name]
    done.clear()
    make_folder(tmp_path / "a" / "b")
    assert done == [tmp_path.name, "a"]
    done.clear()
    move(tmp_path / "run", tmp_path / "a" / "b" / "run")
    assert done == ["run -> run", "b", tmp_path.name]


def test_a_disk_that_cannot_flush_folders_is_written_and_one_that_fails_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(code: int) -> Callable[[int], None]:
        def fail(handle: int) -> None:
            raise OSError(code, os.strerror(code))

        return fail

    monkeypatch.setattr(os, "fsync", fsync(errno.EINVAL))
    write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"
    monkeypatch.setattr(os, "fsync", fsync(errno.EIO))
    with pytest.raises(
        WriteError, match="file: cannot be written: Input/output error; write to another folder or disk"
    ):
        write_text(tmp_path / "file", "other")
    with pytest.raises(WriteError, match="Input/output error"), whole_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("1")
    assert listing(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "text"


def test_a_full_disk_within_a_folder_names_the_folder_and_leaves_nothing(tmp_path: Path) -> None:
    for write in (lambda file: file.write_text(LARGE), lambda file: write_text(file, LARGE)):
        with largest_file(5000), pytest.raises(WriteError) as fault, whole_folder(tmp_path / "run") as folder:
            write(folder / "table")
        assert str(fault.value).startswith(f"{tmp_path / 'run'}: cannot be written: File too large; ")
    assert not listing(tmp_path)


def test_errors_of_what_is_read_within_the_block_are_not_told_of_the_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), whole_folder(tmp_path / "run"):
        (tmp_path / "absent").read_text()
    assert not listing(tmp_path)


def test_a_folder_replaces_an_empty_one_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "empty") as folder:
        (folder / "one").touch()
    assert listing(tmp_path) == ["empty", "empty/one"]
    with (
        pytest.raises(WriteError, match="empty: cannot be written: Directory not empty"),
        whole_folder(tmp_path / "empty"),
    ):
        pass
    assert listing(tmp_path) == ["empty", "empty/one"]


def test_no_link_that_lies_at_the_temporary_name_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("mine")
    temporary_beside(tmp_path / "file").symlink_to(tmp_path / "elsewhere")
    write_text(tmp_path / "file", "text")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "one").touch()
    temporary_beside(tmp_path / "run").symlink_to(tmp_path / "kept")
    with whole_folder(tmp_path / "run") as folder:
        (folder / "two").touch()
    assert (tmp_path / "elsewhere").read_text() == "mine"
    assert listing(tmp_path) == ["elsewhere", "file", "kept", "kept/one", "run", "run/two"]


def test_a_device_or_pipe_is_written_as_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text(pipe, "through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    write_text(Path("/dev/null"), "nothing")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_any_name_that_a_disk_takes_can_be_written(tmp_path: Path) -> None:
    for name in ("n" * 255, "\u00e9" * 127, "-flag", ".hidden", "a b\nc", os.fsdecode(b"\xff\xfe")):
        write_bytes(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"
    with pytest.raises(WriteError, match="File name too long; give a shorter name"):
        write_bytes(tmp_path / ("n" * 256), b"1")
    assert len(listing(tmp_path)) == 6


def test_leftovers_are_found_by_folder_and_by_target_and_removed_once_their_process_is_gone(tmp_path: Path) -> None:
    dead, alive = ended(), os.getppid()
    for name in (f".run.{dead}.tmp", f".run.{alive}.tmp", f".run.x.{dead}.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "table").touch()
    for name in (f".page.html.{dead}.tmp", ".page.html.tmp", "page.html.1.tmp", f".page.html.{dead}"):
        (tmp_path / name).touch()
    of_run = [tmp_path / f".run.{pid}.tmp" for pid in sorted((dead, alive), key=str)]
    assert leftovers_of(tmp_path / "run") == sorted(of_run)
    assert len(leftovers(tmp_path)) == 4
    assert not leftovers(tmp_path / "absent")
    assert [is_abandoned(path) for path in of_run] == [path.name == f".run.{dead}.tmp" for path in of_run]
    assert remove_abandoned(leftovers_of(tmp_path / "run")) == [tmp_path / f".run.{dead}.tmp"]
    assert len(remove_abandoned(leftovers(tmp_path))) == 2
    assert leftovers(tmp_path) == [tmp_path / f".run.{alive}.tmp"]


def test_a_process_that_only_has_the_number_of_the_one_that_wrote_does_not_keep_a_leftover(tmp_path: Path) -> None:
    file = tmp_path / f".page.{os.getppid()}.tmp"
    file.touch()
    assert not is_abandoned(file), "that process was here first, so it may be writing"
    os.utime(file, (1e9, 1e9))
    assert is_abandoned(file), "no process that runs today has written it in 2001"


def test_leftovers_of_a_name_that_had_to_be_shortened_are_found(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    temporary_beside(target).touch()
    assert leftovers_of(target) == [temporary_beside(target)]
    assert is_abandoned(temporary_beside(target)), "this process has just asked, so it is not writing"


def test_a_folder_that_is_there_is_flushed_into_the_one_that_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a process that was killed may have made it and not come to flush it; whoever goes on there relies on its name
    flushed: list[Path] = []
    monkeypatch.setattr(whole_files, "sync_folder", flushed.append)
    (tmp_path / "run").mkdir()
    make_folder(tmp_path / "run")
    assert flushed == [tmp_path]
    flushed.clear()
    make_folder(tmp_path / "a" / "b")
    assert flushed == [tmp_path, tmp_path / "a"]


def test_a_folder_above_that_cannot_be_flushed_is_no_error_where_nothing_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(whole_files, "sync_folder", refuse)
    assert make_folder(tmp_path / "run") == tmp_path / "run"
    with pytest.raises(WriteError, match="Permission denied"):
        make_folder(tmp_path / "new")


def test_folders_without_a_name_of_their_own_are_taken_by_the_one_that_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, dead = tmp_path / "runs" / "a", ended()
    here.mkdir(parents=True)
    (tmp_path / "runs" / f".a.{dead}.tmp").mkdir()
    (tmp_path / f".runs.{dead}.tmp").mkdir()
    monkeypatch.chdir(here)
    assert temporary_beside(Path()) == temporary_beside(here)
    assert leftovers_of(Path("./")) == leftovers_of(here) == [tmp_path / "runs" / f".a.{dead}.tmp"]
    assert leftovers_of(Path("..")) == [tmp_path / f".runs.{dead}.tmp"]
    assert leftovers_of(Path("/")) == []
    with whole_folder(Path()) as folder:
        (folder / "one").touch()
    assert (here / "one").exists()
    with pytest.raises(WriteError, match="/: cannot be written: Is a directory"), whole_folder(Path("/")):
        pass
    with pytest.raises(WriteError, match="cannot be written: Is a directory"):
        write_text(Path("/"), "text")


def test_a_folder_above_that_may_not_be_listed_holds_nothing_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("override_gap.margins.temporaries.leftovers", refuse)
    assert leftovers_of(tmp_path / "run") == []


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_folder_is_refused_with_what_to_give(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "large-disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "large-disk")
    with (
        pytest.raises(
            WriteError, match="link: cannot be written: it is a symbolic link; give the folder that it leads to"
        ),
        whole_folder(tmp_path / "link"),
    ):
        pass
    assert listing(tmp_path) == ["large-disk", "link"][not there :]
