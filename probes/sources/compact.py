"""Compact files: the adapters of many documents in one safetensors file, with ids, hashes and scales."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.strict_json import parse
from override_gap.margins.updates import Dense, LowRank, Update, Vector
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.files import file_hash, names_for, read_tensors

FORMAT = "override-gap compact 1"
KINDS = {"low-rank": 2, "dense": 1, "vector": 1}
"""How many tensors an update of each kind is made of."""
ENTRY = frozenset({"key", "ids", "points", "updates", "shared", "sha256"})


@dataclass(frozen=True, eq=False)
class CompactFile:
    """The adapters in one compact file; `index` says which tensors belong to which document."""

    path: Path
    index: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def name(self) -> str:
        """As reports print it."""
        return str(self.index["method"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """The hash of the file."""
        return {"path": self.path.name, "sha256": file_hash(self.path)}

    @property
    def base_fingerprint(self) -> str | None:
        """The model that the adapters are for."""
        return self.index.get("base_fingerprint")

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter per document. Raises AdapterError where one is missing or has changed since it was written."""
        return [self._adapter(self._entry(document)) for document in documents]

    def _entry(self, document: Document) -> Mapping[str, Any]:
        entries = self.index["documents"]
        for kind, names in zip(("key", "ids", "points"), names_for(document), strict=True):
            matches = [e for e in entries if set(names) & ({e["key"]} if kind == "key" else set(e[kind]))]
            if len(matches) > 1:
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
        try:
            parts = [{path: self._update(row) for path, row in entry[part].items()} for part in ("updates", "shared")]
        except KeyError as fault:
            raise AdapterError(
                f"{self.path}: document {entry['key']} needs tensor {fault}, which the file does not contain"
            ) from fault
        except ValueError as fault:
            raise AdapterError(f"{self.path}: document {entry['key']}: {fault}") from fault
        adapter = Adapter(f"{self.name}:{entry['key']}", parts[0], parts[1])
        if adapter.hash() != entry["sha256"]:
            raise AdapterError(
                f"{self.path}: the adapter of document {entry['key']} has changed since it was written: its hash differs; "
                "export the adapters again"
            )
        return adapter

    def _update(self, row: Mapping[str, Any]) -> Update:
        tensors = [self.tensors[name] for name in row["tensors"]]
        if row["kind"] == "low-rank":
            return LowRank(tensors[0], tensors[1], float(row["scale"]))
        return Dense(tensors[0]) if row["kind"] == "dense" else Vector(tensors[0])


def read_compact(path: Path) -> CompactFile:
    """Open a compact file. Raises AdapterError for any other."""
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise AdapterError(f"{path}: need a file with format {FORMAT!r}, got {metadata.get('format')!r}")
    try:
        index = parse(metadata["index"])
        lacking = next(filter(None, (_what_lacks(entry) for entry in index["documents"])), None)
        if not isinstance(index["method"], str) or not isinstance(index.get("base_fingerprint"), str | None):
            lacking = "the method's name or the base's fingerprint as a string"
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise AdapterError(f"{path}: its index is missing or damaged ({fault!r}); export the adapters again") from fault
    if lacking:
        raise AdapterError(f"{path}: its index lacks {lacking}; export the adapters again")
    return CompactFile(path, index, tensors)


def _what_lacks(entry: Any) -> str | None:
    """What an entry of the index lacks, in words; None where it is complete."""
    if not isinstance(entry, dict) or not entry.keys() >= ENTRY:
        return f"{', '.join(sorted(ENTRY))} for some document"
    if not all(isinstance(entry[name], str) for name in ("key", "sha256")):
        return "a key and a sha256 as strings"
    for name in ("ids", "points"):
        if not isinstance(entry[name], list) or not all(isinstance(word, str) for word in entry[name]):
            return f"{name} as a list of strings"
    for part in ("updates", "shared"):
        if not isinstance(entry[part], dict) or not all(map(_is_update_row, entry[part].values())):
            return f"{part} as rows of kind, tensors and, for low-rank, scale"
    return None


def _is_update_row(row: Any) -> bool:
    """Whether a row of an entry states an update: its kind, its tensors and, for low-rank, its scale."""
    if not isinstance(row, dict) or row.get("kind") not in KINDS or not isinstance(row.get("tensors"), list):
        return False
    scaled = row["kind"] != "low-rank" or type(row.get("scale")) in (int, float)
    names = all(isinstance(name, str) for name in row["tensors"])
    return scaled and names and len(row["tensors"]) == KINDS[row["kind"]]


def write_compact(
    path: Path,
    documents: Sequence[Document],
    adapters: Sequence[Adapter],
    *,
    method: str,
    base_fingerprint: str | None = None,
) -> None:
    """Write the documents' adapters to one file. Tensors are named by their content, so a shared part is stored once."""
    tensors: dict[str, Tensor] = {}

    def row(update: Update) -> dict[str, Any]:
        if isinstance(update, LowRank):
            names = [_add_tensor(tensors, update.A), _add_tensor(tensors, update.B)]
            return {"kind": "low-rank", "scale": update.scale, "tensors": names}
        return {
            "kind": "dense" if isinstance(update, Dense) else "vector",
            "tensors": [_add_tensor(tensors, update.delta)],
        }

    entries = [
        {
            "key": document.key,
            "ids": list(document.ids),
            "points": list(document.points),
            "sha256": adapter.hash(),
            "updates": {path: row(update) for path, update in adapter.updates.items()},
            "shared": {path: row(update) for path, update in adapter.shared.items()},
        }
        for document, adapter in zip(documents, adapters, strict=True)
    ]
    index = {"method": method, "base_fingerprint": base_fingerprint, "documents": entries}
    save_file(tensors, path, metadata={"format": FORMAT, "index": json.dumps(index)})


def _add_tensor(tensors: dict[str, Tensor], tensor: Tensor) -> str:
    tensor = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
    digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    name = digest.hexdigest()[:24]
    # safetensors refuses tensors that share memory
    tensors.setdefault(name, tensor.clone())
    return name
