"""Prefix files: the keys and values that a method puts before the question, one prefix per document (Cartridges)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from override_gap.margins.adapter import NativeExample
from override_gap.margins.items.item import Document
from override_gap.margins.runtime import Prefix
from override_gap.margins.strict_json import parse
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.adapter_map import AdapterMap
from override_gap.probes.sources.compact_index import is_native_row
from override_gap.probes.sources.files import entry_name, file_notes
from override_gap.probes.sources.hashed_file import HashedFile, open_hashed

KINDS = ("fixed_keys", "trainable_keys", "fixed_values", "trainable_values")
"""Fixed positions stand before trainable ones, as the method puts them; a file may have trainable ones alone."""


@dataclass(frozen=True, eq=False)
class PrefixFile:
    """The prefixes in the file `path`, which cannot be scaled.

    Keys: `documents/NAME/trainable_keys/LAYER` and `.../trainable_values/LAYER`, with `.../fixed_keys/LAYER` and
    `.../fixed_values/LAYER` where some positions are fixed; each [1, kv_head, position, d_head], as the model's own cache holds
    them (rotated, where positions are rotary). Metadata, all optional: `method`, `base_fingerprint`, and `native`, a JSON list
    of `document`, `text`, `ids` and `logits` (the key of a tensor [vocab]): what the method's own model says after these tokens.
    """

    path: Path
    adapter_map: AdapterMap | None = None
    static = False

    @property
    def name(self) -> str:
        """As reports print it."""
        return self.file.metadata.get("method", "prefix")

    @property
    def settings(self) -> Mapping[str, Any]:
        """The hash of the file, and that of the map where there is one."""
        mapped = {} if self.adapter_map is None else {"map": self.adapter_map.sha256}
        return {"path": self.path.name, "sha256": self.file.sha256, **mapped}

    @cached_property
    def file(self) -> HashedFile:
        """The file as it was hashed when this was first asked for."""
        return open_hashed(self.path)

    @property
    def base_fingerprint(self) -> str | None:
        """The model that the prefixes are for, where the file states it."""
        return self.file.metadata.get("base_fingerprint")

    @property
    def native_examples(self) -> Callable[[], Sequence[NativeExample]] | None:
        """The method's own logits, where the file holds any. Raises AdapterError where they are not stated as they should be."""
        try:
            rows = parse(self.file.metadata.get("native", "[]"))
        except ValueError as fault:
            raise AdapterError(f"{self.path}: metadata native: {fault}") from fault
        if not isinstance(rows, list) or not all(map(is_native_row, rows)):
            raise AdapterError(
                f"{self.path}: metadata native needs a list of document, text, ids (token ids) and logits"
            )
        return partial(self._native_examples, rows) if rows else None

    def notes_on(self, documents: Sequence[Document]) -> list[str]:
        """What of the map these documents do not use, and how many are filed under several names."""
        return file_notes(self.path, documents, self._by_name, self.adapter_map)

    def encode(self, documents: Sequence[Document]) -> list[Prefix]:
        """One prefix per document. Raises AdapterError where one is missing or incomplete."""
        entries = {name: partial(self._content, name) for name in self._by_name}
        chosen = [entry_name(document, entries, self.path, self.adapter_map) for document in documents]
        return [self._prefix(name) for name in chosen]

    @cached_property
    def _by_name(self) -> Mapping[str, Mapping[str, Mapping[int, str]]]:
        """Per document and kind the file's key of each layer."""
        found: dict[str, dict[str, dict[int, str]]] = {}
        for key in self.file.names:
            parts = key.split("/")
            if parts[0] == "documents" and len(parts) == 4 and parts[2] in KINDS and parts[3].isdecimal():
                found.setdefault(parts[1], {}).setdefault(parts[2], {})[int(parts[3])] = key
            elif parts[0] != "native" and not key.startswith("padding-"):
                raise AdapterError(
                    f"{self.path}: {key[:80]!r}: need documents/NAME/KIND/LAYER, KIND one of {', '.join(KINDS)}"
                )
        return found

    def _content(self, name: str) -> str:
        """What tells a document's tensors from another's: their hashes by kind and layer."""
        kinds = self._by_name[name]
        return repr([(k, n, self.file.digests[key]) for k in KINDS for n, key in sorted(kinds.get(k, {}).items())])

    def _prefix(self, name: str) -> Prefix:
        kinds = self._by_name[name]
        layers = range(len(kinds.get("trainable_keys", {})))
        if any(set(kinds.get(kind, {})) != set(layers) for kind in KINDS if kind in kinds or "trainable" in kind):
            counts = ", ".join(f"{len(kinds.get(kind, {}))} {kind}" for kind in KINDS)
            raise AdapterError(f"{self.path}: {name} needs keys and values for layers 0, 1, 2, ..., got {counts}")
        if ("fixed_keys" in kinds) != ("fixed_values" in kinds):
            raise AdapterError(f"{self.path}: {name} has fixed keys or fixed values alone; need both or neither")
        read = self.file.read(key for keys in kinds.values() for key in keys.values())
        wrong = next((key for key, tensor in read.items() if tensor.ndim != 4 or len(tensor) != 1), None)
        if wrong:
            raise AdapterError(
                f"{self.path}: {wrong} needs [1, kv_head, position, d_head], got {list(read[wrong].shape)}"
            )

        def joined(side: str) -> list[Tensor]:
            parts = [kinds[f"{part}_{side}"] for part in ("fixed", "trainable") if f"{part}_{side}" in kinds]
            return [torch.cat([read[part[layer]][0] for part in parts], dim=1) for layer in layers]

        try:
            return Prefix(f"{self.name}:{name}", joined("keys"), joined("values"))
        except (ValueError, RuntimeError) as fault:
            raise AdapterError(f"{self.path}: {name}: {str(fault).splitlines()[0]}") from fault

    def _native_examples(self, rows: Sequence[Mapping[str, Any]]) -> list[NativeExample]:
        missing = [
            row for row in rows if row["document"] not in self._by_name or row["logits"] not in self.file.digests
        ]
        if missing:
            raise AdapterError(
                f"{self.path}: native logits of {missing[0]['document']!r}: the prefix or the logits are missing"
            )
        return [
            NativeExample(
                self._prefix(row["document"]),
                tuple(row["ids"]),
                row["text"],
                self.file.read([row["logits"]])[row["logits"]].float().flatten(),
            )
            for row in rows
        ]
