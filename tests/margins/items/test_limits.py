"""Limits of item files: how many records and how much text are read is asked before they are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from override_gap.margins.items import columnar, scan
from override_gap.margins.items.files import read_items, scan_items
from override_gap.margins.items.item import ItemError
from tests.lying_parquet import deny, with_long_list


def repeated(text: str, times: int) -> pa.DictionaryArray:
    """One text many times, which takes the place of one."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([text]))


def items_with(**columns: Any) -> pa.Table:
    n = len(next(iter(columns.values())))
    plain = {"document": [f"d{k}" for k in range(n)], "question": ["q?"] * n, "answer": ["a"] * n}
    return pa.table({**plain, "id": [str(k) for k in range(n)], **columns})


def test_the_footer_is_asked_for_the_number_of_rows_before_one_is_read(tmp_path: Path, monkeypatch) -> None:
    """16,777,216 rows in 50 kB; read one by one they would take half a minute."""
    file = tmp_path / "rows.parquet"
    with pq.ParquetWriter(file, pa.schema([("x", pa.string())])) as writer:
        part = pa.table({"x": pa.array(["a"]).take(pa.nulls(2**20, pa.int32()).fill_null(0))})
        for _ in range(16):
            writer.write_table(part)
    assert file.stat().st_size < 1_000_000
    monkeypatch.setattr(columnar, "_records", lambda *_: pytest.fail("a row was read"))
    with pytest.raises(ItemError, match="has 16,777,216 records; at most 2,000,000 are read"):
        read_items(file)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl", "csv"])
def test_a_file_with_too_many_records_is_refused_in_every_form(kind: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(columnar, "MOST_RECORDS", 3)
    file, table = tmp_path / f"items.{kind}", items_with(point=["p"] * 5)
    if kind == "parquet":
        pq.write_table(table, file)
    elif kind == "arrow":
        with pyarrow.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    elif kind == "csv":
        table.to_pandas().to_csv(file, index=False)
    else:
        table.to_pandas().to_json(file, orient="records", lines=True)
    with pytest.raises(ItemError, match="at most 3 are read"):
        read_items(file)
    monkeypatch.setattr(columnar, "MOST_RECORDS", 5)
    assert len(read_items(file)) == 5


@pytest.mark.parametrize("nested", [False, True])
def test_a_text_that_repeats_is_counted_as_often_as_it_stands_there(nested: bool, tmp_path: Path, monkeypatch) -> None:
    """A few kB of file: 2000 times one MB in a column, or in the lists of one."""
    file, text = tmp_path / "bomb.parquet", "wordy " * 170_000
    if nested:
        table = items_with(aliases=pa.ListArray.from_arrays(pa.array([0, 1000, 2000]), repeated(text, 2000)))
    else:
        table = items_with(document=repeated(text, 2000))
    pq.write_table(table, file, compression="zstd")
    assert file.stat().st_size < 60_000
    start = time.thread_time()
    monkeypatch.setattr(columnar, "MOST_TEXT", 2**24)
    with pytest.raises(ItemError, match="rows hold over 16,777,216 bytes of text"):
        read_items(file)
    assert time.thread_time() - start < 2


@pytest.mark.parametrize("lies", [False, True])
def test_a_long_list_in_one_row_is_refused_before_it_is_in_memory(lies: bool, tmp_path: Path, monkeypatch) -> None:
    """1 GiB of zeros in a few kB: the footer says so, or denies it, and then decoding is stopped (Arrow holds 1 GiB ready)."""
    file, length = tmp_path / "bomb.parquet", 2**27
    pq.write_table(with_long_list(items_with(answer=["a"]), length), file, compression="zstd")
    assert file.stat().st_size < 60_000
    if lies:
        deny(file, length)
        monkeypatch.setattr(columnar, "DECODING", 2**28)
    monkeypatch.setattr(columnar, "MOST_TEXT", 2**24)
    monkeypatch.setattr(columnar, "_text_size", lambda *_: pytest.fail("the row was read"))
    with pytest.raises(ItemError, match="rows hold over 16,777,216 bytes of text"):
        read_items(file)


def test_texts_of_every_kind_of_column_are_measured_as_they_are_written_out() -> None:
    """Against the lengths of what Python gets."""
    texts = ["", "ab", "\u00e9", None, "abc"]
    column = pa.array([texts, [], ["x" * 9]])
    as_dictionary = pa.array(["ab", "", "ab", None, "\u00e9"]).dictionary_encode()
    assert columnar._text_size(as_dictionary) == len("abab\u00e9".encode())
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 5]), as_dictionary)
    assert columnar._text_size(lists) == len("abab\u00e9".encode())
    within = pa.StructArray.from_arrays([as_dictionary, lists.flatten()], ["one", "other"])
    assert columnar._text_size(within) == 2 * len("abab\u00e9".encode())
    assert columnar._text_size(column) >= sum(len((text or "").encode()) for row in column.to_pylist() for text in row)


def test_a_file_of_which_no_record_can_be_read_is_not_read_to_its_end(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(scan, "MOST_ERRORS", 10)
    file = tmp_path / "items.jsonl"
    file.write_text('{"x": 1}\n' * 1000)
    with pytest.raises(ItemError, match="none of 10 records has a field 'document'"):
        read_items(file)
    _, errors = scan_items(file)
    assert errors[-1] == (11, "not read from here on: 10 records before it cannot be read")


def test_what_repeats_within_the_limit_is_read_as_it_is(tmp_path: Path) -> None:
    """Dictionaries and plain columns give the same items."""
    file, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    table = items_with(document=repeated("One text.", 5), aliases=[["x", "y"], [], None, ["z"], ["x"]])
    pq.write_table(table, file)
    pq.write_table(pa.Table.from_pylist(table.to_pylist()), other, use_dictionary=False)
    assert read_items(file) == read_items(other)
    assert {item.document for item in read_items(file)} == {"One text."}
