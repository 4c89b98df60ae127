"""Read safetensors files, and find the entry for a document among those of a file or folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open
from torch import Tensor

from override_gap.margins.items.item import Document
from override_gap.margins.text import plural
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.file_checks import FileSizeError, require_memory, shapes_of

if TYPE_CHECKING:
    from override_gap.probes.sources.adapter_map import AdapterMap

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


def entries_for(document: Document, entries: Iterable[str]) -> list[str]:
    """The entries named after a document, by the best kind of name that matches; empty where none does."""
    entries = set(entries)
    return next((found for names in names_for(document) if (found := sorted(entries & set(names)))), [])


def entry_name(
    document: Document, entries: Mapping[str, Callable[[], str]], path: Path, adapter_map: AdapterMap | None = None
) -> str:
    """The name of a document's entry among those of a file: by the map, else by the best kind of name that matches.

    `entries`: each with a function that hashes its content, called where several match. Raises AdapterError where none
    matches, where the map names one that is not there, and where two of one kind do and differ.
    """
    matches = [] if adapter_map is None else adapter_map.matches(document)
    missing = [name for name in matches if name not in entries]
    if missing:
        raise AdapterError(f"{path}: --adapter-map names entry {missing[0]!r}, which is not among its {len(entries)}")
    matches = matches or entries_for(document, entries)
    if not matches:
        raise AdapterError(no_entry(document, entries, path, adapter_map))
    return matches[0] if len(matches) == 1 else one_of({name: entries[name]() for name in matches}, document, path)


def one_of(contents: Mapping[str, str], document: Document, path: Path) -> str:
    """The first of several equally good matches, by the hash of each one's content. Raises AdapterError where they differ."""
    first, *others = contents
    different = next((name for name in others if contents[name] != contents[first]), None)
    if different is not None:
        raise AdapterError(
            f"{path}: document {document.text[:40]!r} matches both {first} and {different}, which differ; keep one of them, or "
            f"name its entry {document.key} (its key)"
        )
    return first


def no_entry(document: Document, entries: Collection[str], path: Path, adapter_map: AdapterMap | None = None) -> str:
    """The message where no entry is named after a document, and no row of a map that was given is for it."""
    examples = f" ({', '.join(sorted(entries)[:3])}{', ...' if len(entries) > 3 else ''})" if entries else ""
    nothing = f"{path}: nothing for document {document.text[:40]!r} among {len(entries)} entries{examples}"
    if adapter_map is not None:
        return (
            f"{nothing}, and no row for it in {adapter_map.file}; add one for {document.key} (its key), or for the id or "
            "knowledge point of an item that asks about it"
        )
    return (
        f"{nothing}; name its entry {document.key} (its key), or by the id or knowledge point of an item that asks about it, "
        "or give --adapter-map"
    )


def file_notes(
    path: Path, documents: Iterable[Document], entries: Collection[str], adapter_map: AdapterMap | None
) -> list[str]:
    """What a user should know of how a file's or folder's entries fit the documents, a line each."""
    documents = list(documents)
    several = [
        found
        for document in documents
        if len(found := (adapter_map and adapter_map.matches(document)) or entries_for(document, entries)) > 1
    ]
    notes = [filed_twice(path, several)] if several else []
    return notes if adapter_map is None else [*notes, *adapter_map.notes_on(documents)]


def filed_twice(path: Path, several: Sequence[Sequence[str]]) -> str:
    """The note on documents that are filed under several names: `several` has those of each."""
    return (
        f"{path}: {plural(len(several), 'document')} filed under more than one name ({several[0][0]} and {several[0][1]}, for "
        "one); equal tensors count as one adapter, different ones are an error"
    )


def gains_note(path: Path, policy: object) -> list[str]:
    """The note on adapters that were exported at a policy's gains; none where they were exported as delivered."""
    if not isinstance(policy, str):
        return []
    return [f"{path}: exported at the gains of {policy[:80]}, which are in them: a further gain comes on top"]


def required_number(metadata: Mapping[str, str], key: str, file: Path) -> float:
    """A number in a file's metadata. Raises AdapterError where it is missing: the scale of an update is never guessed."""
    try:
        return float(metadata[key])
    except (KeyError, ValueError) as fault:
        raise AdapterError(
            f"{file}: the metadata needs {key!r} as a number, got {metadata.get(key)!r}; without it the updates' size is unknown"
        ) from fault
