"""The folder of SmolLM2: the sha256 of every file, stored when it is converted and compared when it is opened."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from override_gap.margins.strict_json import read_json
from override_gap.margins.whole_files import write_text

RECORD = "sha256.json"
WEIGHTS = "model.safetensors"
TENSORS_SHA256 = "45f2397a3604f84605c2118d7bdfc8f0f3f8410dcdbe2d8570e55e9a77c5c2f0"
"""Of the model's tensors as `tensors_hash` reads them: dequantising the GGUF file gives these bits."""
AGAIN = "run `make smollm2` to convert it anew"


class ConvertedError(ValueError):
    """A converted folder that does not hold what was written; the message says which file and what to do."""


def tensors_hash(file: Path) -> str:
    """SHA-256 over a safetensors file's tensors in the order of their names: name, dtype, shape, bytes.

    Whatever the order and the padding in which a version of safetensors lays them out.
    """
    import torch
    from safetensors import safe_open

    digest = hashlib.sha256()
    with safe_open(file, framework="pt") as tensors:
        for name in sorted(tensors.keys()):
            tensor = tensors.get_tensor(name)
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_record(folder: Path) -> None:
    """Store the sha256 of every file of a folder in it."""
    (folder / RECORD).unlink(missing_ok=True)
    hashes = {file.name: _hash(file) for file in sorted(folder.iterdir())}
    text = json.dumps(hashes, indent=1) + "\n"
    write_text(folder / RECORD, text)


def check_converted(folder: Path) -> None:
    """Raise ConvertedError unless a folder holds the files that were written into it and no others (half a second)."""
    if not (folder / RECORD).is_file():
        raise ConvertedError(f"{folder}: no {RECORD}, so an earlier version wrote it and it cannot be checked; {AGAIN}")
    stored = _record(folder)
    there = {file.name for file in folder.iterdir()} - {RECORD}
    for name in sorted(there ^ stored.keys()):
        what = "was not written by the conversion" if name in there else "is missing"
        raise ConvertedError(f"{folder / name}: {what}; remove the folder and {AGAIN}")
    for name, digest in stored.items():
        if _hash(folder / name) != digest:
            raise ConvertedError(f"{folder / name}: its sha256 is not that of the file that was written; {AGAIN}")


def _record(folder: Path) -> Mapping[str, str]:
    try:
        stored = read_json(folder / RECORD)
    except ValueError as fault:
        raise ConvertedError(f"{fault}; {AGAIN}") from fault
    if not isinstance(stored, dict) or not all(isinstance(digest, str) for digest in stored.values()):
        raise ConvertedError(f"{folder / RECORD}: needs a sha256 per file name; {AGAIN}")
    return stored


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
