"""Files that once crashed a reader: each must now be read, or refused with the reader's own error."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks.fuzz_targets import SEEDS, TARGETS

CRASHERS = sorted((Path(__file__).parent / "crashers").iterdir())


@pytest.mark.parametrize("file", CRASHERS, ids=lambda file: file.name)
def test_a_former_crasher_no_longer_crashes(file: Path, tmp_path: Path) -> None:
    with TARGETS[file.name.rpartition("-")[0]](tmp_path) as read:
        assert read(file.read_bytes()) in (True, False)


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_read_and_mutations_do_not_crash(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fuzz, "CRASHERS", tmp_path / "crashers")
    with TARGETS[name](tmp_path) as read:
        assert all(map(read, SEEDS[name]())), "a refused seed is no use as a start"
        outcomes = Counter(fuzz.outcome(name, read, raw) for raw in fuzz.mutated(name, 150, 0))
    assert outcomes["crash"] == 0
    assert outcomes["refused"] > 0


def test_a_crash_and_a_hang_are_detected_and_stored(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fuzz, "CRASHERS", tmp_path / "crashers")
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)

    def read(raw: bytes) -> bool:
        while raw == b"hang":
            pass
        raise KeyError(raw)

    assert [fuzz.outcome("items", read, raw) for raw in (b"x", b"hang")] == ["crash", "crash"]
    assert {file.read_bytes() for file in (tmp_path / "crashers").iterdir()} == {b"x", b"hang"}
