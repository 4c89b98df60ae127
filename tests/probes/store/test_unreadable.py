"""What cannot be read may be sound: it stops a command in one line, and nothing is moved or measured again because of it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from override_gap.probes.store import checksum, parquet_table, sealed_json
from override_gap.probes.store.checksum import DamagedError, read_checked
from override_gap.probes.store.doctor import diagnose, repair
from override_gap.probes.store.folder import Store
from override_gap.probes.store.unreadable import ReadError
from override_gap.reports.cli.main import WRONG, main
from tests.probes.store.test_sealed import ITEMS, audit, first


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audit(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def failing(fault: BaseException, only: Path | None = None, real: Callable = pq.ParquetFile) -> Callable:
    def opened(file: Path, *given: object, **named: object) -> object:
        if only is None or Path(file) == only:
            raise fault
        return real(file, *given, **named)

    return opened


FAULTS = {
    "rights": OSError(errno.EACCES, "Failed to open local file"),
    "disk": OSError(errno.EIO, "Error reading bytes"),
    "network drive": OSError(errno.ESTALE, "Error reading bytes"),
    "open files": OSError(errno.EMFILE, "Failed to open local file"),
    "memory": MemoryError(),
    "memory of Arrow": pa.ArrowMemoryError("malloc of size 4096 failed"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_sound_tables_that_cannot_be_read_stay_where_they_are(kind: str, folder: Path, monkeypatch, capsys) -> None:
    before = {str(file): file.read_bytes() for file in folder.rglob("*.parquet")}
    monkeypatch.setattr(parquet_table.pq, "ParquetFile", failing(FAULTS[kind], first(folder)))
    reason = os.strerror(getattr(FAULTS[kind], "errno", None) or errno.ENOMEM)
    with pytest.raises(ReadError) as refusal:
        audit(folder)
    assert str(refusal.value).startswith(f"{first(folder)}: cannot be read: {reason}; ")
    assert str(refusal.value).endswith("then give the same command again; nothing was moved")
    for words in ([], ["--repair"]):
        assert main(["doctor", str(folder), *words]) == WRONG
        line = capsys.readouterr().out.splitlines()[0]
        assert line.startswith(f"unreadable: readings/{first(folder).name}: cannot be read: {reason}; ")
    assert main(["report", str(folder), "--quiet"]) == WRONG
    (told,) = capsys.readouterr().err.splitlines()
    assert line in told
    assert {str(file): file.read_bytes() for file in folder.rglob("*.parquet")} == before
    assert not (folder / "damaged").exists()


def test_too_many_open_files_are_no_damage(folder: Path) -> None:
    """The system's own error, not one that a test made."""
    import resource

    limits, file = resource.getrlimit(resource.RLIMIT_NOFILE), first(folder)
    read_checked(file)
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[0], 4096), limits[1]))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(ReadError, match="ulimit -n"):
            read_checked(file)
    finally:
        for handle in taken:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    read_checked(file)


def test_damage_that_arrow_calls_an_error_of_the_system_or_of_memory_is_damage(folder: Path, monkeypatch) -> None:
    for fault in (OSError("Corrupt page header"), pa.ArrowMemoryError(f"malloc of size {2**60} failed")):
        monkeypatch.setattr(parquet_table.pq, "ParquetFile", failing(fault))
        with pytest.raises(DamagedError, match="not readable as Parquet"):
            read_checked(first(folder))


def test_memory_that_ends_while_values_are_hashed_is_no_damage(folder: Path, monkeypatch) -> None:
    def exhausted(table: pa.Table) -> str:
        raise MemoryError

    monkeypatch.setattr(checksum, "table_hash", exhausted)
    with pytest.raises(ReadError, match="Cannot allocate memory; free memory"):
        read_checked(first(folder))


@pytest.mark.parametrize("name", ["manifest.json", "items.json"])
def test_json_files_that_cannot_be_read_are_not_moved(name: str, folder: Path, monkeypatch) -> None:
    store = Store(folder)
    store.write_json("items.json", {"items": []})
    manifest = store.manifest()  # of a run with such a file
    files = {**manifest["seals"]["files"], "items.json": json.loads((folder / "items.json").read_text())["checksum"]}
    store.write_json("manifest.json", {**manifest, "seals": {**manifest["seals"], "files": files}})
    real = sealed_json.read_json

    def refused(file: Path, largest: int) -> object:
        if file.name != name:
            return real(file, largest)
        fault = PermissionError(errno.EACCES, "Permission denied", str(file))
        raise ValueError(f"{file}: cannot be read as JSON: Permission denied") from fault

    monkeypatch.setattr(sealed_json, "read_json", refused)
    (finding,) = [each for each in diagnose(folder).findings if each.kind in ("unreadable", "damaged")]
    assert (finding.kind, finding.about) == ("unreadable", name)
    assert repair(folder) == []
    assert (folder / name).is_file()
    with pytest.raises(ReadError):
        Store(folder).read_json(name)


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(folder: Path, monkeypatch) -> None:
    real = os.listdir

    def refused(path: object) -> list[str]:
        if Path(str(path)).name == "readings":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "listdir", refused)
    assert [(finding.kind, finding.about) for finding in diagnose(folder).findings] == [("unreadable", "readings")]
    with pytest.raises(OSError, match="Permission denied"):
        audit(folder)
    with pytest.raises(OSError, match="Permission denied"):
        repair(folder)


def test_a_folder_in_place_of_readings_is_damage(folder: Path) -> None:
    (folder / "readings" / "q.parquet").mkdir()
    (finding,) = [each for each in diagnose(folder).findings if each.about == "q"]
    assert (finding.kind, "it is a folder" in finding.says) == ("damaged", True)
    assert len(repair(folder)) == 1
    assert diagnose(folder).sound


def test_a_resumed_run_says_what_it_sets_aside(folder: Path) -> None:
    from override_gap.probes.run.engine import Local
    from override_gap.probes.run.loop import run_plan
    from override_gap.probes.run.resolve import resolve
    from override_gap.probes.sources.fitted import FittedAdapters
    from tests.conftest import tiny
    from tests.probes.store.test_sealed import PLAN

    file = first(folder)
    file.write_bytes(file.read_bytes()[:-100])
    subject, said = tiny("llama"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 3)
        run_plan(
            Local(subject, FittedAdapters(subject, steps=1, lr=3e-2)), resolve(PLAN, ITEMS), folder, say=said.append
        )
    assert said[-1].startswith(f"set aside in {folder}/damaged and measured again: {file}: not readable as Parquet")
    assert json.loads((folder / "manifest.json").read_text())["recovered"][0] in said[-1]
