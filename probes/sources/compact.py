"""Compact files: the adapters of many documents in one safetensors file or several, of which only what is asked for is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from override_gap.margins.adapter import Adapter, NativeExample
from override_gap.margins.items.item import Document
from override_gap.margins.strict_json import parse
from override_gap.margins.updates import Dense, LowRank, Update, Vector
from override_gap.probes.errors import AdapterChanged, AdapterError
from override_gap.probes.export_kit.kit import FORMAT, tensor_name
from override_gap.probes.sources.compact_folder import TensorFolder, files_in, joined_index
from override_gap.probes.sources.compact_index import index_error
from override_gap.probes.sources.files import gains_note, names_for
from override_gap.probes.sources.tensor_file import TensorFile, open_tensor_file

KEPT = 2**28
"""Bytes of tensors that several documents use which are kept between documents, so that the file is not read again for them."""


@dataclass(frozen=True, eq=False)
class CompactFile:
    """The adapters in one compact file, or in a folder of them.

    `index` says which tensors belong to which document, and what their adapter's hash is.

    A document's tensors are read when it is encoded, and its adapter is compared with the hash in the index. The file's
    identity is the SHA-256 of its header, which holds those hashes.
    """

    file: TensorFile | TensorFolder
    index: Mapping[str, Any]
    _entries: Mapping[str, Mapping[str, list[int]]]
    """Per kind of name (key, ids, points): the numbers of the entries that have a name."""
    _repeated: frozenset[str]
    _kept: dict[str, Tensor] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file, or the folder of files."""
        return self.file.path

    @property
    def name(self) -> str:
        """As reports print it."""
        return str(self.index["method"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """The hash of the file's header, which contains the hash of every adapter."""
        return {"path": self.path.name, "sha256": self.file.sha256}

    @property
    def base_fingerprint(self) -> str | None:
        """The model that the adapters are for."""
        return self.index.get("base_fingerprint")

    @property
    def template(self) -> str:
        """The text that the method put around a document."""
        return self.index.get("template") or "{document}"

    @property
    def reads_questions(self) -> bool:
        """Whether the adapters depend on what was asked of the documents."""
        return self.index.get("reads_questions") is True

    @property
    def native_examples(self) -> Callable[[], Sequence[NativeExample]] | None:
        """The method's own logits, where the file holds any."""
        return self._native_examples if self.index.get("native") else None

    def notes_on(self, documents: Sequence[Document]) -> list[str]:
        """Whether the adapters were exported at gains: what is measured as delivered has them already."""
        return gains_note(self.path, self.index.get("policy"))

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter per document. Raises AdapterError where one is missing or has changed since it was written."""
        return [self._adapter(self._entry(document)) for document in documents]

    def _native_examples(self) -> list[NativeExample]:
        examples = []
        for row in self.index["native"]:
            number = self._entries["key"].get(row["document"], [None])[0]
            if number is None:
                raise AdapterError(f"{self.path}: native logits of {row['document']}, which has no entry")
            logits = self._tensors([row["logits"]])[row["logits"]]
            if logits.ndim != 1 or logits.dtype != torch.float32 or tensor_name(logits) != row["logits"]:
                raise AdapterError(
                    f"{self.path}: the native logits of {row['document']} are not [vocab] in float32, or have changed since "
                    "they were written; export the adapters again"
                )
            adapter = self._adapter(self.index["documents"][number])
            examples.append(NativeExample(adapter, tuple(row["ids"]), row["text"], logits))
        return examples

    def _entry(self, document: Document) -> Mapping[str, Any]:
        entries = self.index["documents"]
        for (kind, numbers), names in zip(self._entries.items(), names_for(document), strict=True):
            matches = [entries[n] for n in sorted({n for name in names for n in numbers.get(name, ())})]
            if len({entry["sha256"] for entry in matches}) > 1:
                raise AdapterError(
                    f"{self.path}: {len(matches)} entries match document {document.text[:40]!r} by their {kind}; set the key "
                    "of each to its document's"
                )
            # an entry with a key is for that text only, whatever items ask about it
            if matches and kind != "key" and matches[0]["key"]:
                raise AdapterError(
                    f"{self.path}: document {document.text[:40]!r} has key {document.key}, and the entry with its {kind} is for "
                    f"another text, key {matches[0]['key']}; export the adapters again"
                )
            if matches:
                return matches[0]
        raise AdapterError(
            f"{self.path}: nothing for document {document.text[:40]!r} (key {document.key}) among {len(entries)} entries"
        )

    def _adapter(self, entry: Mapping[str, Any]) -> Adapter:
        rows = [row for part in ("updates", "shared") for row in entry[part].values()]
        try:
            tensors = self._tensors([name for row in rows for name in row["tensors"]])
            parts = [
                {path: _update(row, tensors) for path, row in entry[part].items()} for part in ("updates", "shared")
            ]
        except KeyError as fault:
            raise AdapterError(
                f"{self.path}: document {entry['key']} needs tensor {fault}, which the file does not contain"
            ) from fault
        except AdapterError:
            raise
        except (ValueError, OverflowError) as fault:
            if not self.file.is_as_opened():
                raise AdapterChanged(f"{self.path} has changed since it was opened") from fault
            raise AdapterError(f"{self.path}: document {entry['key']}: {fault}") from fault
        adapter = Adapter(f"{self.name}:{entry['key']}", parts[0], parts[1])
        if adapter.hash() != entry["sha256"]:
            raise AdapterChanged(
                f"{self.path}: the adapter of document {entry['key']} has changed since it was written: its hash differs; "
                "export the adapters again"
            )
        return adapter

    def _tensors(self, names: Sequence[str]) -> dict[str, Tensor]:
        """These tensors; those that several documents use, such as a shared part, are kept up to KEPT bytes."""
        kept = {name: self._kept[name] for name in names if name in self._kept}
        read = self.file.read(name for name in names if name not in kept)
        self._kept.update({name: tensor for name, tensor in read.items() if name in self._repeated})
        if sum(tensor.nbytes for tensor in self._kept.values()) > KEPT:
            self._kept.clear()
        return kept | read


def _update(row: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Update:
    used = [tensors[name] for name in row["tensors"]]
    if row["kind"] == "low-rank":
        return LowRank(used[0], used[1], float(row["scale"]))
    return Dense(used[0]) if row["kind"] == "dense" else Vector(used[0])


def read_compact(path: Path) -> CompactFile:
    """Open a compact file, or a folder of them as one. Raises AdapterError for any other."""
    if path.is_dir():
        opened = {file: _opened(file) for file in files_in(path)}
        folder = TensorFolder.of(path, [file for file, _ in opened.values()])
        return _with_entries(folder, joined_index(path, {file: index for file, (_, index) in opened.items()}))
    return _with_entries(*_opened(path))


def _opened(path: Path) -> tuple[TensorFile, Mapping[str, Any]]:
    """A compact file and its index, which is complete. Raises AdapterError."""
    file = open_tensor_file(path)
    if file.metadata.get("format") != FORMAT:
        raise AdapterError(f"{path}: need a file with format {FORMAT!r}, got {file.metadata.get('format')!r}")
    try:
        index = parse(file.metadata["index"])
        fault = index_error(index)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AdapterError(f"{path}: its index is missing or damaged ({error!r}); export the adapters again") from error
    if fault:
        raise AdapterError(f"{path}: its index lacks {fault}; export the adapters again")
    return file, index


def _with_entries(file: TensorFile | TensorFolder, index: Mapping[str, Any]) -> CompactFile:
    """A compact file with its entries by name, and which tensors several of them use."""
    entries: dict[str, dict[str, list[int]]] = {"key": {}, "ids": {}, "points": {}}
    uses: dict[str, int] = {}
    for number, entry in enumerate(index["documents"]):
        for kind, numbers in entries.items():
            for name in {entry["key"]} if kind == "key" else set(entry[kind]):
                numbers.setdefault(name, []).append(number)
        used = {name for part in ("updates", "shared") for row in entry[part].values() for name in row["tensors"]}
        for name in used:
            uses[name] = uses.get(name, 0) + 1
    return CompactFile(file, index, entries, frozenset(name for name, count in uses.items() if count > 1))
