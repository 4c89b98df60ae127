"""Tensor files: safetensors opened with errors that say what to do, and one adapter a document picked from what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from override_gap.margins.items.item import Document
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.file_checks import FileSizeError, require_memory, shapes_of

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file and its metadata. Raises AdapterError for any other file, a pickle above all."""
    if file.suffix in PICKLES:
        raise AdapterError(
            f"{file}: a pickle can run code when it is opened, so it is not; save its tensors with safetensors.torch.save_file"
        )
    if file.is_dir():
        raise AdapterError(
            f"{file} is a folder; name one safetensors file in it, or give a PEFT folder without a prefix"
        )
    if not file.is_file():
        raise AdapterError(f"{file}: no such file")
    try:
        require_memory(file)
        shapes_of(file)
        with safe_open(file, framework="pt") as stream:
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, dict(stream.metadata() or {})
    except FileSizeError as fault:
        raise AdapterError(str(fault)) from fault
    except Exception as fault:  # safetensors raises its own Rust error type, which it does not export
        raise AdapterError(f"{file}: no safetensors, or damaged: {fault}") from fault


def file_hash(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def names_of(document: Document) -> list[tuple[str, ...]]:
    """What a document's adapter may be filed under, best first: its content key, its items' ids, its knowledge points."""
    return [(document.key,), document.ids, document.points]


def pick(document: Document, held: Iterable[str], where: Path) -> str:
    """The name that a document's adapter is filed under, by the best kind of name that fits.

    Raises AdapterError where there is none, and where two of one kind fit and nothing says which is meant.
    """
    held = set(held)
    for names in names_of(document):
        found = sorted(held & set(names))
        if len(found) > 1:
            raise AdapterError(
                f"{where}: document {document.text[:40]!r} is filed both under {found[0]} and under {found[1]}; keep one, or "
                f"file it under {document.key} (its key)"
            )
        if found:
            return found[0]
    few = f": {', '.join(sorted(held)[:3])}" if held else ""
    raise AdapterError(
        f"{where}: nothing for document {document.text[:40]!r}; file it under {document.key} (its key) or an item's id or "
        f"point; it holds {len(held)}{few}"
    )


def fingerprint_of(file: Path) -> str | None:
    """The base_fingerprint in a file's metadata: the model that its adapters are for. None where it is not said."""
    return read_tensors(file)[1].get("base_fingerprint")


def number(metadata: Mapping[str, str], key: str, file: Path) -> float:
    """A number from a file's metadata. Raises AdapterError where it is missing: an update's size is never guessed."""
    try:
        return float(metadata[key])
    except (KeyError, ValueError) as fault:
        raise AdapterError(
            f"{file}: metadata has no number {key!r}, so the updates' size is unknown; got {metadata.get(key)!r}"
        ) from fault
