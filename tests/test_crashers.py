"""What fuzzing once found: each file is read as the fuzzer reads it, and ends in a value or in the reader's own error."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks.fuzz_targets import SEEDS, TARGETS

FOUND = sorted((Path(__file__).parent / "crashers").iterdir())


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.name)
def test_what_once_crashed_a_reader_no_longer_does(file: Path, tmp_path: Path) -> None:
    with TARGETS[file.name.rpartition("-")[0]](tmp_path) as read:
        assert read(file.read_bytes()) in (True, False)


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_read_and_a_few_changes_of_them_end_well(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fuzz, "CRASHERS", tmp_path / "crashers")
    with TARGETS[name](tmp_path) as read:
        assert all(map(read, SEEDS[name]())), "a seed that is refused leads nowhere"
        ended = Counter(fuzz.outcome(name, read, raw) for raw in fuzz.mutated(name, 150, 0))
    assert ended["crash"] == 0
    assert ended["refused"] > 0


def test_a_crash_and_a_hang_are_seen_and_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fuzz, "CRASHERS", tmp_path / "crashers")
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)

    def read(raw: bytes) -> bool:
        while raw == b"hang":
            pass
        raise KeyError(raw)

    assert [fuzz.outcome("items", read, raw) for raw in (b"x", b"hang")] == ["crash", "crash"]
    assert {file.read_bytes() for file in (tmp_path / "crashers").iterdir()} == {b"x", b"hang"}
