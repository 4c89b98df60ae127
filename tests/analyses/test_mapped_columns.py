"""Columns on disk hold what they held in memory, take memory only while they are read, and leave no trace."""

import copy
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from override_gap.analyses import mapped_columns, readings
from override_gap.analyses.mapped_columns import MappedColumns, room_of
from override_gap.analyses.readings import load
from override_gap.analyses.summary import summarise
from override_gap.margins.items.item import Document
from override_gap.reports.figures import FIGURES, style
from override_gap.reports.page import drawings
from tests.simulate import simulate_readings

COLUMNS = [
    pd.Series([1.5, np.nan, -0.0]),
    pd.Series([np.inf]),
    pd.Series([1, -(2**62)]),
    pd.Series([True, False, True]),
    pd.Series([1.5], dtype=np.float32),
    pd.Series(["a", None, "ü\0ü", ""], index=[3, 1, 2, 0]),
    pd.Series(["first", "second", "third"]).iloc[1:],
    pd.Series([None, None], dtype="str"),
    pd.Series([], dtype="str"),
    pd.Series([], dtype=float),
]
ELSEWHERE = [pd.Series([None, 1], dtype=object), pd.Series([["a"], None]), pd.Series(pd.to_datetime(["2026-01-01"]))]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def room_for(columns):
    return room_of(pa.table({"column": pa.array(column)}) for column in columns)


def geometry_of(run):
    """Made-up inner products of the run's adapters, two layers each; some were never compared."""
    keys = sorted({Document(text).key for text in run.readings["document"].dropna()})
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"document": np.repeat(keys, 2), "relation": "r", "layer": [0, 1] * len(keys)})
    rows["norm_squared"] = rng.uniform(1, 2, len(rows))
    for kind in ("same", "other"):
        rows[f"inner_{kind}"], rows[f"cosine_{kind}"] = rng.uniform(0, 0.5, (2, len(rows)))
        rows[f"n_{kind}"] = 3
    rows.loc[:3, ["inner_same", "cosine_same"]] = np.nan
    return rows.assign(effective_rank=rng.uniform(1, 4, len(rows)), n_unit=8)


@pytest.fixture
def folder(tmp_path):
    """A stored run with every kind of column, and rows of errors."""
    run = simulate_readings(0, 24, 60, others=12, errors=3, conditions=("base", "as-delivered", "uniform-2"))
    (tmp_path / "manifest.json").write_text(json.dumps(run.manifest))
    for name, rows in (("readings", run.readings), ("layers", run.layers), ("geometry", geometry_of(run))):
        (tmp_path / name).mkdir()
        rows.convert_dtypes().to_parquet(tmp_path / name / "0.parquet")
    return tmp_path


def test_moved_columns_are_the_same(tmp_path):
    with MappedColumns.inside(tmp_path, room_for(COLUMNS)) as on_disk:
        moved = [on_disk.move(column) for column in COLUMNS]
    for _ in range(2):
        for before, after in zip(COLUMNS, moved, strict=True):
            pd.testing.assert_series_equal(before, after, check_exact=True)
        on_disk.release()
    assert np.signbit(moved[0].iloc[2])
    with pytest.raises(ValueError, match="read-only"):
        moved[0].iloc[0] = 2.0


def test_numbers_and_texts_are_read_from_the_file(tmp_path):
    """And begin where Arrow asks: what no column says, its address does."""
    with MappedColumns.inside(tmp_path, room_for(COLUMNS)) as on_disk:
        moved = [on_disk.move(column) for column in COLUMNS if len(column)]
    start = np.frombuffer(on_disk.mapped, np.uint8).ctypes.data
    for column in moved:
        if column.dtype == "str":
            places = [part.address for part in pa.array(column).buffers() if part is not None and part.size]
        else:
            places = [column.to_numpy().ctypes.data]
        assert places
        assert all(start <= place < start + on_disk.end for place in places)
        assert all((place - start) % 64 == 0 for place in places)


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_all(tmp_path):
    class Slow:
        def __init__(self, file):
            self.file, self.seek = file, file.seek

        def write(self, content):
            return self.file.write(content[:1000])

    column = pd.Series(np.arange(1000.0))
    with MappedColumns.inside(tmp_path, room_for([column])) as on_disk:
        on_disk.file = Slow(on_disk.file)
        moved = on_disk.move(column)
        assert on_disk.end == 8000
    pd.testing.assert_series_equal(moved, column)


@pytest.mark.parametrize("n", [1, 64, 1000])
def test_there_is_room_for_every_column(tmp_path, n):
    kinds = [
        np.arange(n, dtype=float),
        np.arange(n) % 2 == 0,
        [f"text {k}" for k in range(n)],
        [None, *["a"] * (n - 1)],
    ]
    columns = [pd.Series(kind, dtype="str" if isinstance(kind, list) else None) for kind in kinds]
    with MappedColumns.inside(tmp_path, room_for(columns)) as on_disk:
        assert not any(on_disk.move(column) is column for column in columns)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))])
def test_a_copy_of_a_large_run_has_its_columns_in_memory(folder, monkeypatch, copied):
    monkeypatch.setattr(readings, "LARGE", 0)
    run = load(folder)
    made = copied(run)
    assert made.on_disk is None
    made.release()
    pd.testing.assert_frame_equal(run.readings, made.readings, check_exact=True)
    made.readings.loc[:, "push"] = 0.0


def test_a_nearly_full_disk_keeps_its_room_for_the_page(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with MappedColumns.inside(tmp_path, 2_501) as on_disk:
        assert on_disk is None
    with MappedColumns.inside(tmp_path, 2_500) as on_disk:
        assert on_disk is not None


def test_what_was_freed_is_given_back_where_mapped_memory_is_locked(tmp_path, monkeypatch):
    given: list[bool] = []
    monkeypatch.setattr(mapped_columns, "give_back_freed", lambda: given.append(True))

    class Locked:
        def madvise(self, _):
            raise OSError(22, "Invalid argument")

    with MappedColumns.inside(tmp_path, 100) as on_disk:
        on_disk.mapped = Locked()
        on_disk.release()
    assert given == [True]


def test_other_kinds_of_columns_stay_in_memory(tmp_path):
    with MappedColumns.inside(tmp_path, room_for(COLUMNS)) as on_disk:
        assert all(on_disk.move(column) is column for column in ELSEWHERE)


def test_a_column_that_finds_no_room_stays_in_memory(tmp_path):
    column = pd.Series(np.arange(10_000.0))
    with MappedColumns.inside(tmp_path, room_for([pd.Series([1.0])])) as on_disk:
        assert on_disk.move(column) is column


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_leaves_columns_in_memory(tmp_path):
    column = pd.Series(np.arange(10_000.0))
    with MappedColumns.inside(tmp_path, room_for([column])) as on_disk, open("/dev/full", "wb", buffering=0) as full:
        on_disk.file = full
        assert on_disk.move(column) is column


def test_a_folder_that_takes_no_files_leaves_columns_in_memory(tmp_path):
    with MappedColumns.inside(tmp_path / "absent", room_for(COLUMNS)) as on_disk:
        assert on_disk is None


def test_a_large_run_gives_the_summary_of_the_same_run_in_memory(folder, monkeypatch):
    plain = load(folder)
    assert plain.on_disk is None
    files = sorted(folder.rglob("*"))
    monkeypatch.setattr(readings, "LARGE", 0)
    large = load(folder)
    assert large.on_disk is not None
    numbers_and_texts = [name for name in large.readings if large.readings[name].dtype in (float, int, bool, "str")]
    least = large.readings[numbers_and_texts].memory_usage(index=False).sum()
    assert large.on_disk.end > least
    assert sorted(folder.rglob("*")) == files
    for name in ("readings", "layers", "drawn", "search"):
        pd.testing.assert_frame_equal(getattr(plain, name), getattr(large, name), check_exact=True)
    pd.testing.assert_frame_equal(plain.extra["geometry"], large.extra["geometry"], check_exact=True)
    summary = summarise(plain)
    assert summary["geometry"] is not None
    assert summary == summarise(large)


def test_statistics_and_page_give_memory_back_as_they_go(folder, monkeypatch):
    monkeypatch.setattr(readings, "LARGE", 0)
    run, given = load(folder), []
    monkeypatch.setattr(type(run.on_disk), "release", lambda self: given.append(self))
    summary = summarise(run)
    by_statistics = len(given)
    assert by_statistics > 20
    monkeypatch.setattr(style, "FORMS", ("svg",))
    monkeypatch.setattr(drawings, "BOTH", False)
    drawings.page_figures(run, summary, folder / "figures")
    assert len(given) - by_statistics == len(FIGURES)


def test_a_folder_that_cannot_be_written_is_read(folder, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "no")

    monkeypatch.setattr(readings, "LARGE", 0)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    run = load(folder)
    assert run.on_disk is None
    assert len(run.readings)


def resident(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


@LINUX
def test_memory_and_files_are_given_back(tmp_path):
    """50 MiB are read and given back; one open file for any number of columns, and none once they are gone."""
    numbers = pd.Series(np.arange(50 * 2**17, dtype=float))
    parts = [numbers.iloc[start::50].reset_index(drop=True) for start in range(50)]
    opened = len(os.listdir("/proc/self/fd"))
    with MappedColumns.inside(tmp_path, room_for(parts)) as on_disk:
        moved = [on_disk.move(part) for part in parts]
    assert len(os.listdir("/proc/self/fd")) == opened + 1
    on_disk.release()
    before = resident("RssShmem") + resident("RssFile")
    assert sum(part.sum() for part in moved) == numbers.sum()
    read = resident("RssShmem") + resident("RssFile")
    on_disk.release()
    after = resident("RssShmem") + resident("RssFile")
    assert read - before > 45
    assert after - before < 5
    del moved, on_disk
    assert len(os.listdir("/proc/self/fd")) == opened
