"""The run folder: locked by one process, written whole or not at all; damage is seen, repaired and measured again."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.readings import load
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store import files as disk
from override_gap.probes.store import lock
from override_gap.probes.store.checksum import DamagedError, read_checked
from override_gap.probes.store.doctor import diagnose, repair
from override_gap.probes.store.files import DiskError, expected_bytes, require_writable
from override_gap.probes.store.folder import RunError, Store
from override_gap.probes.store.lock import LockError, locked
from override_gap.reports.cli.main import DONE, WRONG, main
from tests.conftest import conflict, ended, tiny

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"]
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue", tier="deep") for n in range(6)]
PLAN = Plan(subject="tiny", adapters="fitted", items="own", policies="as-delivered", probes=("margins", "layers"))


def audit(out: Path) -> pd.DataFrame:
    subject = tiny("llama")
    run(PLAN, subject, FittedAdapters(subject, steps=1, lr=3e-2), ITEMS, out)
    return rows(out)


def rows(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "readings").sort_values(["item", "condition"], ignore_index=True)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 3)
        out = tmp_path_factory.mktemp("audited") / "run"
        audit(out)
    return out


@pytest.fixture
def folder(audited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 3)
    return Path(shutil.copytree(audited, tmp_path / "run"))


def kinds(out: Path) -> set[str]:
    return {finding.kind for finding in diagnose(out).findings}


def test_a_whole_folder_is_sound(folder: Path) -> None:
    diagnosis = diagnose(folder)
    assert diagnosis.sound
    assert diagnosis.complete
    assert (diagnosis.units, diagnosis.rows, diagnosis.findings) == (2, 12, ())


def test_a_flipped_bit_is_seen_or_changes_nothing(folder: Path) -> None:
    file = next((folder / "readings").glob("*.parquet"))
    whole, (table, _) = file.read_bytes(), read_checked(file)
    detected = 0
    for offset in np.random.default_rng(0).integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << int(offset % 8)
        file.write_bytes(damaged)
        try:
            other, note = read_checked(file)
        except DamagedError:
            detected += 1
        else:
            assert note is None or other.equals(table), "a reading changed and nobody noticed"
    assert detected > 20


def test_a_changed_value_is_damage_although_the_file_is_fine(folder: Path) -> None:
    """What no reader of Parquet can notice: another number in an intact file."""
    import pyarrow.parquet as pq

    file = next((folder / "readings").glob("*.parquet"))
    table = pq.read_table(file)
    column = table.column("adapter_margin").to_numpy().copy()
    column[0] += 1e-12
    index = table.schema.get_field_index("adapter_margin")
    import pyarrow as pa

    pq.write_table(table.set_column(index, table.schema.field(index), pa.array(column)), file)
    assert kinds(folder) == {"damaged", "missing"}
    with pytest.raises(ValueError, match=r"doctor .* --repair"):
        load(folder)


@pytest.mark.parametrize("table", ["readings", "layers"])
@pytest.mark.parametrize("damage", ["cut", "gone", "of another unit"])
def test_damage_is_measured_again_with_or_without_repair(folder: Path, table: str, damage: str) -> None:
    wanted = rows(folder)
    first, second = sorted((folder / table).glob("*.parquet"))
    if damage == "cut":
        first.write_bytes(first.read_bytes()[:-100])
    elif damage == "gone":
        first.unlink()
    elif table == "layers":
        shutil.copy(second, first)
    else:
        first.write_bytes(b"")
    assert not diagnose(folder).sound
    if damage != "gone":
        assert any("damaged" in sentence for sentence in repair(folder))
    pd.testing.assert_frame_equal(audit(folder), wanted)
    assert diagnose(folder).sound


def test_a_resumed_run_sets_damage_aside_and_says_so(folder: Path) -> None:
    wanted = rows(folder)
    file = next((folder / "readings").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-100])
    pd.testing.assert_frame_equal(audit(folder), wanted)
    assert "not readable" in Store(folder).manifest()["recovered"][0]
    assert list((folder / "damaged").iterdir())


def test_a_damaged_manifest_is_moved_aside_and_no_reading_is_lost(folder: Path, monkeypatch) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
    assert kinds(folder) == {"damaged"}
    with pytest.raises(RunError, match="doctor"):
        audit(folder)
    repair(folder)
    monkeypatch.setattr(FittedAdapters, "encode", lambda *_: pytest.fail("measured twice"))
    audit(folder)
    assert diagnose(folder).sound


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"units": "abc"}, "units needs a whole number from 0, got 'abc'"),
        ({"units": True}, "units needs a whole number from 0, got True"),
        ({"units": -1}, "units needs a whole number from 0, got -1"),
        ({"units": 1.5}, "units needs a whole number from 0, got 1.5"),
        ({"units": 10**400}, "units needs a whole number from 0 to 1000000000, got 1000"),
        ({"units": 1, "shard": {"number": 1, "of": 0}}, "shard needs the whole numbers number and of"),
        ({"units": 1, "shard": {"number": 3, "of": 2}}, "number from 1 to of, got {'number': 3, 'of': 2}"),
        ({"units": 1, "shard": {"number": "1", "of": 2}}, "shard needs"),
        ({"units": 1, "shard": [1]}, "shard needs the whole numbers number and of, number from 1 to of, got [1]"),
        ({"units": 1, "conditions": 5}, "conditions needs a list of names, got 5"),
        ({"units": 1, "conditions": [[]]}, "conditions needs a list of names, got [[]]"),
        ({"units": 1, "checksum": "\ud800", "seed": "\ud800"}, "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("{", "cannot be read"),
        ([], "needs a JSON object, got a list"),
    ],
    ids=str,
)
def test_a_hostile_manifest_is_one_finding_and_is_moved_aside(tmp_path: Path, content, says: str, capsys) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(content if isinstance(content, str) else json.dumps(content))
    (tmp_path / "readings").mkdir()
    (finding,) = diagnose(tmp_path).findings
    assert (finding.kind, finding.about) == ("damaged", "manifest.json")
    assert says in finding.says
    assert str(tmp_path) not in finding.says
    assert finding.advice.startswith(f"`override-gap doctor {tmp_path} --repair` moves it aside")
    assert main(["doctor", str(tmp_path)]) == WRONG
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert repair(tmp_path) == [f"moved manifest.json to {tmp_path / 'damaged'}"]
    assert kinds(tmp_path) == {"missing"}


def test_a_missing_manifest_is_found_and_written_again(folder: Path, capsys) -> None:
    wanted = rows(folder)
    (folder / "manifest.json").unlink()
    for words in ([], ["--repair"]):
        assert main(["doctor", str(folder), *words]) == WRONG
        assert capsys.readouterr().out.splitlines()[0] == (
            "missing: manifest.json: there is none; give the audit's own command again: it is written again and sound "
            "readings are kept"
        )
    pd.testing.assert_frame_equal(audit(folder), wanted)
    assert diagnose(folder).sound


@pytest.mark.parametrize("name", ["readings", "damaged", "lock", "drawn", ".x.tmp"])
def test_nothing_is_written_or_removed_through_a_link(folder: Path, tmp_path: Path, name: str) -> None:
    other = tmp_path / "other"
    if (folder / name).is_dir():
        shutil.move(folder / name, other)
    other.mkdir(exist_ok=True)
    (other / ".mine.tmp").write_text("keep me")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(other)
    (folder / "layers" / ".half.tmp").write_text("half")
    before = {file: file.stat().st_mtime_ns for file in (*folder.rglob("*"), *other.rglob("*"))}
    (finding,) = diagnose(folder).findings
    assert (finding.kind, finding.about) == ("link", name)
    assert not diagnose(folder).sound
    with pytest.raises(RunError, match="symbolic link"):
        repair(folder)
    with pytest.raises(RunError, match="symbolic link"), Store(folder).locked():
        pytest.fail("held")
    assert {file: file.stat().st_mtime_ns for file in (*folder.rglob("*"), *other.rglob("*"))} == before


def test_leftovers_of_a_killed_process_are_removed(folder: Path) -> None:
    leftover = folder / "readings" / f".x.parquet.{ended()}.tmp"
    leftover.write_bytes(b"half")
    assert kinds(folder) == {"leftover"}
    assert diagnose(folder).sound
    audit(folder)
    assert not leftover.exists()


def test_a_run_killed_before_its_manifest_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "run" / "readings").mkdir(parents=True)
    (tmp_path / "run" / f".manifest.json.{ended()}.tmp").write_text("{")
    audit(tmp_path / "run")
    assert diagnose(tmp_path / "run").sound


def test_readings_of_another_audit_are_not_mixed_in(folder: Path) -> None:
    shutil.copy(next((folder / "readings").glob("*.parquet")), folder / "readings" / "0123456789abcdef.parquet")
    (folder / "manifest.json").unlink()
    with pytest.raises(RunError, match="readings of another audit"):
        audit(folder)


def test_two_processes_do_not_share_a_folder(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, go = context.Event(), context.Event()

    def hold() -> None:
        with locked(folder):
            ready.set()
            go.wait(60)

    other = context.Process(target=hold)
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(LockError, match=f"in use: process {other.pid} on {socket.gethostname()}, since 20"):
            audit(folder)
        with pytest.raises(LockError, match="in use"):
            repair(folder)
        assert kinds(folder) == {"held"}
    finally:
        go.set()
        other.join()
    audit(folder)
    assert kinds(folder) == set()


def test_the_lock_of_a_dead_process_is_taken_over_and_explained(folder: Path) -> None:
    def die() -> None:
        with locked(folder):
            os._exit(9)

    child = os.fork()
    if child == 0:
        die()
    os.waitpid(child, 0)
    assert json.loads((folder / "owner.json").read_text())["pid"] == child
    with locked(folder) as dead_holder:
        assert dead_holder is not None
        assert f"process {child} on" in dead_holder
        assert "taken over" in dead_holder
    assert not (folder / "owner.json").exists()


def test_another_machine_holds_a_folder_for_as_long_as_it_touches_its_owner_file(folder: Path) -> None:
    owner = folder / lock.OWNER
    owner.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00"}))
    with pytest.raises(LockError, match="process 1 on elsewhere"), locked(folder):
        pass
    assert owner.exists(), "a refused process does not change the owner's file"
    silent = time.time() - lock.SILENT_S - 5
    os.utime(owner, (silent, silent))
    with locked(folder) as dead_holder:
        assert dead_holder is not None
        assert "elsewhere" in dead_holder


def test_a_holder_touches_its_owner_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    with locked(folder):
        os.utime(folder / lock.OWNER, (1, 1))
        for _ in range(500):
            if (folder / lock.OWNER).stat().st_mtime > 1:
                break
            time.sleep(0.01)
        assert (folder / lock.OWNER).stat().st_mtime > 1


def test_an_unwritable_folder_is_refused_before_the_first_forward_pass(tmp_path: Path, monkeypatch) -> None:
    subject = tiny("llama")
    monkeypatch.setattr(type(subject), "parity", lambda *_: pytest.fail("the model was run"))
    (tmp_path / "file").write_text("mine")
    for out, message in (
        (tmp_path / "file" / "run", "is a file"),
        (Path("/proc/nowhere/run"), "cannot be written"),
    ):
        with pytest.raises(DiskError, match=message):
            run(PLAN, subject, FittedAdapters(subject), ITEMS, out)


def test_a_folder_in_place_of_a_file_is_not_reported_as_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "run" / "profile.json").mkdir(parents=True)
    with pytest.raises(DiskError, match=r"run/profile\.json: cannot be written: .* make it writable"):
        Store(tmp_path / "run").write_json("profile.json", {})


def test_a_full_disk_is_refused_before_the_first_unit(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "SPARE_BYTES", 2**60)
    with pytest.raises(DiskError, match=r"will take about .* TiB"):
        require_writable(tmp_path, 1)
    monkeypatch.setattr(FittedAdapters, "encode", lambda *_: pytest.fail("measured"))
    with pytest.raises(DiskError, match="make room"):
        audit(tmp_path / "run")


def test_the_room_asked_for_is_at_least_what_is_written(audited: Path) -> None:
    written = sum(file.stat().st_size for part in ("readings", "layers") for file in (audited / part).iterdir())
    # most of so small a file is Parquet's own metadata
    assert expected_bytes(6, 2, 4) + disk.SPARE_BYTES > written
    per_row = len(load(audited).layers) / len(load(audited).readings)
    assert per_row == 4


def test_the_command_says_what_is_wrong_and_repairs_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(folder)]) == DONE
    assert "2 units, 12 rows (0 errors): every checksum agrees" in capsys.readouterr().out
    file = next((folder / "layers").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-100])
    assert main(["doctor", str(folder), "--json"]) == WRONG
    diagnosis = json.loads(capsys.readouterr().out)
    assert diagnosis["sound"] is False
    assert {finding["kind"] for finding in diagnosis["findings"]} == {"damaged", "missing"}
    assert main(["doctor", str(folder), "--repair"]) == WRONG, "a finished run now lacks a unit"
    assert f"moved readings-{file.stem}.parquet to" in capsys.readouterr().out
    audit(folder)
    assert main(["doctor", str(folder)]) == DONE
    assert main(["doctor", str(folder.parent / "nothing")]) == WRONG
    assert "not a run folder" in capsys.readouterr().err


def test_a_table_without_checksum_and_without_readings_is_damage(folder: Path) -> None:
    file = next((folder / "readings").glob("*.parquet"))
    pd.DataFrame({"item": ["c1"]}).to_parquet(file)
    assert "damaged" in kinds(folder)
    repair(folder)
    assert not file.exists()
