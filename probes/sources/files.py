"""Read safetensors files, and find the entry for a document among those of a file or folder."""

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
    """All tensors of a safetensors file and its metadata. Raises AdapterError for any other file; a pickle is never opened."""
    require_tensor_file(file)
    try:
        require_memory(file)
        shapes_of(file)
        with safe_open(file, framework="pt") as stream:
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, dict(stream.metadata() or {})
    except FileSizeError as fault:
        raise AdapterError(str(fault)) from fault
    except Exception as fault:  # safetensors raises its own Rust error type, which it does not export
        raise AdapterError(f"{file}: not a safetensors file, or damaged: {fault}") from fault


def require_tensor_file(file: Path) -> None:
    """Raise AdapterError for a pickle, a folder, or no file at all where a safetensors file is needed."""
    if file.suffix in PICKLES:
        raise AdapterError(
            f"{file}: pickle files are not opened because they can run code; save the tensors with safetensors.torch.save_file"
        )
    if file.is_dir():
        raise AdapterError(
            f"{file} is a folder; name one safetensors file in it, or give a PEFT folder without a prefix"
        )
    if not file.is_file():
        raise AdapterError(f"{file}: no such file")


def file_hash(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def names_for(document: Document) -> list[tuple[str, ...]]:
    """The names that a document's adapter may have, best first: its content key, its items' ids, its knowledge points."""
    return [(document.key,), document.ids, document.points]


def entry_name(document: Document, entries: Iterable[str], path: Path) -> str:
    """The name of a document's entry among the `entries` of a file or folder, by the best kind of name that matches.

    Raises AdapterError where none matches, and where two of one kind do.
    """
    entries = set(entries)
    for names in names_for(document):
        matches = sorted(entries & set(names))
        if len(matches) > 1:
            raise AdapterError(
                f"{path}: document {document.text[:40]!r} matches both {matches[0]} and {matches[1]}; keep one of them, or "
                f"name its entry {document.key} (its key)"
            )
        if matches:
            return matches[0]
    examples = f" ({', '.join(sorted(entries)[:3])}{', ...' if len(entries) > 3 else ''})" if entries else ""
    raise AdapterError(
        f"{path}: nothing for document {document.text[:40]!r} among {len(entries)} entries{examples}; name its entry "
        f"{document.key} (its key), or by the id or knowledge point of an item that asks about it"
    )


def fingerprint_of(file: Path) -> str | None:
    """The base_fingerprint in a file's metadata: the model that its adapters are for. None where the file states none."""
    return read_tensors(file)[1].get("base_fingerprint")


def required_number(metadata: Mapping[str, str], key: str, file: Path) -> float:
    """A number in a file's metadata. Raises AdapterError where it is missing: the scale of an update is never guessed."""
    try:
        return float(metadata[key])
    except (KeyError, ValueError) as fault:
        raise AdapterError(
            f"{file}: the metadata needs {key!r} as a number, got {metadata.get(key)!r}; without it the updates' size is unknown"
        ) from fault
