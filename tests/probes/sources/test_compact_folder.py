"""A folder of compact files is read as one file that holds them all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from override_gap.margins.items.item import documents_of
from override_gap.probes.errors import AdapterChanged, AdapterError
from override_gap.probes.export_kit import kit
from override_gap.probes.sources.compact import read_compact
from tests.conftest import conflict

DOCUMENTS = documents_of([conflict(n, f"question {n}") for n in range(5)])
SHARED = {"shared.map": (torch.ones(1, 5), torch.ones(7, 1))}


def factors(n: int) -> dict:
    draw = torch.Generator().manual_seed(n)
    return {"own.map": (torch.randn(2, 5, generator=draw), torch.randn(7, 2, generator=draw))}


def write(file: Path, numbers: Sequence[int], *, native: Sequence[int] = (), **more) -> None:
    rows = [{"key": d.key, "ids": list(d.ids), "points": list(d.points)} for d in (DOCUMENTS[n] for n in numbers)]
    logits = [(DOCUMENTS[n].key, "text", [n + 1], torch.full((4,), float(n))) for n in native]
    settings = {"method": "mine", "scale": 0.5, "shared": SHARED, **more}
    kit.write(file, rows, (factors(n) for n in numbers), native=logits or None, **settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents 0 and 3 in one file, the others in another; a hidden file beside them."""
    write(tmp_path / "parts" / "b.safetensors", [0, 3], native=[3])
    write(tmp_path / "parts" / "a.safetensors", [1, 2, 4], native=[1, 4])
    (tmp_path / "parts" / ".c.safetensors.part").write_bytes(b"left by a killed export")
    (tmp_path / "parts" / ".hidden.safetensors").write_bytes(b"no adapter")
    return tmp_path / "parts"


def test_a_folder_gives_the_adapters_of_one_file_with_all_documents(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "all.safetensors", range(5))
    together, one = read_compact(folder), read_compact(tmp_path / "all.safetensors")
    assert [a.hash() for a in together.encode(DOCUMENTS)] == [a.hash() for a in one.encode(DOCUMENTS)]
    assert [a.hash() for a in together.encode(DOCUMENTS[::-1])] == [a.hash() for a in one.encode(DOCUMENTS)][::-1]
    assert torch.equal(together.encode(DOCUMENTS[3:4])[0].updates["own.map"].A, factors(3)["own.map"][0])
    assert together.native_examples is not None
    assert [(e.ids, e.logits[0].item()) for e in together.native_examples()] == [((2,), 1.0), ((5,), 4.0), ((4,), 3.0)]


def test_its_identity_is_that_of_all_files(folder: Path) -> None:
    before = read_compact(folder).settings["sha256"]
    assert read_compact(folder).settings["sha256"] == before
    (folder / "b.safetensors").rename(folder / "c.safetensors")
    assert read_compact(folder).settings["sha256"] != before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"method": "another"}, r"a\.safetensors and z\.safetensors differ in method;"),
        ({"base_fingerprint": "f" * 16, "template": "Read: {document}"}, "differ in base_fingerprint, template;"),
        ({"settings": {"seed": 1}}, "differ in settings;"),
    ],
)
def test_files_of_several_methods_are_refused(more: dict, message: str, folder: Path) -> None:
    (folder / "b.safetensors").unlink()
    write(folder / "z.safetensors", [0], **more)
    with pytest.raises(AdapterError, match=message):
        read_compact(folder)


def test_a_document_in_two_files_is_refused(folder: Path) -> None:
    write(folder / "z.safetensors", [3])
    with pytest.raises(AdapterError, match=rf"{DOCUMENTS[3].key} is in b.safetensors and in z.safetensors"):
        read_compact(folder)


def test_a_folder_without_a_compact_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no compact file"):
        read_compact(tmp_path)
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(AdapterError, match=r"other\.safetensors"):
        read_compact(tmp_path)


def test_a_file_written_anew_or_removed_under_a_run_ends_it(folder: Path) -> None:
    source = read_compact(folder)
    source.encode(DOCUMENTS[1:2])
    (folder / "b.safetensors").unlink()
    source.encode(DOCUMENTS[1:2])
    with pytest.raises(AdapterChanged, match=r"b\.safetensors"):
        source.encode(DOCUMENTS[3:4])
