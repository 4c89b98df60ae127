"""Folders of PEFT adapters: one per document, at any depth, or one for all documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.runtime import Prefix
from override_gap.margins.shared_part import without_shared
from override_gap.margins.strict_json import read_json
from override_gap.margins.text import plural
from override_gap.probes.errors import AdapterChanged, AdapterError
from override_gap.probes.sources.adapter_map import AdapterMap
from override_gap.probes.sources.adapter_tree import HERE, AdapterTree, scan
from override_gap.probes.sources.adapter_tree import WEIGHTS as WEIGHTS
from override_gap.probes.sources.files import filed_twice, gains_note, no_entry, one_of
from override_gap.probes.sources.peft_adapter import read_adapter as read_adapter
from override_gap.probes.sources.peft_adapter import read_any
from override_gap.probes.sources.peft_config import CONFIG, read_config
from override_gap.probes.sources.peft_keys import not_loaded_by_peft
from override_gap.probes.sources.peft_prompts import PROMPTS
from override_gap.probes.subject.file_checks import MOST_TENSORS, FileSizeError, shapes_of
from override_gap.probes.subject.live_model import LiveModel

INDEX = "override_gap.json"
"""File beside exported folders: which documents and which model they are for."""


@dataclass(frozen=True, eq=False)
class PeftFolder:
    """Adapters from `path`: one PEFT folder used for every document, or PEFT folders at any depth below it.

    A document's adapter is the one that `adapter_map` gives it; else that in the folder named after the document's content
    key; without one, after the id of an item that asks about it; without that, after its knowledge point. Two equally good
    matches are an error, unless they hold equal tensors. What the adapter in the folder `shared_adapter` does is common to
    all of them: it is taken out of each and becomes the shared part.
    """

    subject: LiveModel
    path: Path
    adapter_map: AdapterMap | None = None
    shared_adapter: Path | None = None
    scaled: bool = True
    """False where a method sets the updates' scale itself, so that r need not be their rank."""

    packages = ("peft",)
    """PEFT computes the weights of all its kinds but LoRA, and says how keys of stacked experts are meant."""

    @property
    def name(self) -> str:
        """As reports print it."""
        return self.path.resolve().name

    @cached_property
    def tree(self) -> AdapterTree:
        """The adapters that were found and hashed when this was first asked for."""
        named = () if self.adapter_map is None else self.adapter_map.paths
        return scan(self.path, named)

    @cached_property
    def _shared(self) -> tuple[Adapter, str] | None:
        """The shared adapter and the hash of its files."""
        if self.shared_adapter is None:
            return None
        tree = scan(self.shared_adapter)
        if not tree.is_one:
            raise AdapterError(
                f"--shared-adapter {self.shared_adapter}: need one adapter's folder, with {CONFIG} in it; found "
                f"{plural(len(tree.adapters), 'adapter')} below, {min(tree.adapters)} first"
            )
        adapter = read_any(self.shared_adapter, self.subject, tree.read(HERE))
        if not isinstance(adapter, Adapter):
            raise AdapterError(f"--shared-adapter {self.shared_adapter}: trained positions are no part of an update")
        return adapter, tree.sha256

    @property
    def settings(self) -> Mapping[str, Any]:
        """The folder and the hash of everything in it; with them those of the map and of the shared adapter."""
        return {
            "path": self.name,
            "sha256": self.tree.sha256,
            **({} if self.adapter_map is None else {"map": self.adapter_map.sha256}),
            **({} if self._shared is None else {"shared": self._shared[1]}),
        }

    @property
    def base_fingerprint(self) -> str | None:
        """The model that the adapters are for, where the folder was exported by this toolkit."""
        return None if self._index is None else self._index["base_fingerprint"]

    @cached_property
    def _index(self) -> Mapping[str, Any] | None:
        """What this toolkit wrote beside the folders, if it did."""
        file = self.path / INDEX
        if not file.is_file():
            return None
        try:
            index = read_json(file)
            _ = index["base_fingerprint"]
            return index
        except (ValueError, KeyError, TypeError) as fault:
            raise AdapterError(f"{file}: damaged ({fault!r}); export the adapters again") from fault

    @property
    def scope(self) -> str:
        """`document` where there is one folder per document, else `nothing`: one adapter serves them all."""
        return "nothing" if (self.path / CONFIG).is_file() and self.adapter_map is None else "document"

    @cached_property
    def static(self) -> bool:
        """False where the folder holds trained positions (prompt and prefix tuning): they have no gain to vary."""
        try:
            first = min(self.tree.adapters)
            kind = read_config(self.tree.folder(first), self.tree.read(first).get(CONFIG)).get("peft_type")
        except AdapterChanged:
            raise
        except AdapterError:  # encoding says what is wrong with it
            return True
        return str(kind).upper() not in PROMPTS

    def notes_on(self, documents: Sequence[Document]) -> list[str]:
        """Documents filed under several names, keys that PEFT passes over, a map or a shared part without effect."""
        entries = {document.text: self._entries(document) for document in documents}
        several = [found for found in entries.values() if len(found) > 1]
        notes = [filed_twice(self.path, several)] if several else []
        notes += self._passed_over(sorted({name for found in entries.values() for name in found}))
        notes += gains_note(self.path, (self._index or {}).get("policy"))
        if self.adapter_map is not None:
            notes += self.adapter_map.notes_on(documents)
        if self._shared is not None and not any(update.frobenius() for _, update in self._shared[0].parts()):
            notes.append(f"--shared-adapter {self.shared_adapter} changes nothing: every update in it is zero")
        return notes

    def encode(self, documents: Sequence[Document]) -> list[Adapter | Prefix]:
        """One adapter per document. Raises AdapterError where a document has none, AdapterChanged where one is another now."""
        return [self._adapter(document) for document in documents]

    def _passed_over(self, names: Sequence[str]) -> list[str]:
        """A note of the adapters whose factors PEFT's own loader would not load."""
        keys = {name: _keys(self.tree.folder(name) / WEIGHTS) for name in names}
        found = {name: ignored for name in names if (ignored := not_loaded_by_peft(self.subject, keys[name]))}
        if not found:
            return []
        first = next(iter(found.values()))[0]
        return [
            f"{self.path}: PEFT's own loader loads nothing from keys like {first!r} ({plural(len(found), 'adapter')}); they are "
            "read here as meant, so a model that PEFT adapts with these files is not the one measured"
        ]

    def _entries(self, document: Document) -> list[str]:
        mapped = [] if self.adapter_map is None else self.adapter_map.matches(document)
        if mapped or (self.tree.is_one and self.adapter_map is None):
            return mapped or [HERE]
        return self.tree.matches(document)

    def files(self, document: Document) -> tuple[Path, dict[str, bytes]]:
        """The folder of a document's adapter and the bytes of its files. Raises AdapterError as `encode` does."""
        entry, _ = self._read(document)
        return self.tree.folder(entry), dict(self.tree.read(entry))

    def _read(self, document: Document) -> tuple[str, Adapter | Prefix]:
        """The entry of a document, and the adapter in it."""
        entries = self._entries(document)
        if not entries:
            fault = no_entry(document, self.tree.adapters, self.path, self.adapter_map)
            if len(self.tree.adapters) == 1:
                only = self.tree.folder(next(iter(self.tree.adapters)))
                fault += f"; for one adapter that serves every document give {only}"
            raise AdapterError(fault)
        if len({tuple(sorted(self.tree.adapters[entry].items())) for entry in entries}) == 1:
            entries = entries[:1]  # the same files to the byte
        adapters = {
            entry: read_any(self.tree.folder(entry), self.subject, self.tree.read(entry), scaled=self.scaled)
            for entry in entries
        }
        entry = one_of({name: _content(adapter) for name, adapter in adapters.items()}, document, self.path)
        return entry, adapters[entry]

    def _adapter(self, document: Document) -> Adapter | Prefix:
        entry, adapter = self._read(document)
        if isinstance(adapter, Prefix):
            if self._shared is not None:
                raise AdapterError(f"{self.tree.folder(entry)}: no update can be taken out of trained positions")
            return adapter
        named = Adapter(
            self.path.resolve().name if entry == HERE else entry, adapter.updates, adapter.shared, adapter.left_out
        )
        if self._shared is None:
            return named
        try:
            return without_shared(named, self._shared[0])
        except ValueError as fault:
            raise AdapterError(f"{self.tree.folder(entry)}: --shared-adapter {self.shared_adapter}: {fault}") from fault


def _content(adapter: Adapter | Prefix) -> str:
    """A hash of what an adapter does."""
    return adapter.hash()


def _keys(file: Path) -> list[str]:
    """The names of a safetensors file's tensors; none where it cannot be read or has too many, which encoding says."""
    try:
        return list(shapes_of(file, MOST_TENSORS))
    except (OSError, FileSizeError):
        return []
