"""Dense files: W_adapted - W_base of each edited parameter, or its factors, in one safetensors file (ROME, MEMIT, merges)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import Dense, LowRank, Update, Vector
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.adapter_map import AdapterMap
from override_gap.probes.sources.files import entry_name, file_notes
from override_gap.probes.sources.hashed_file import HashedFile, open_hashed
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.sites import nearest_path


@dataclass(frozen=True, eq=False)
class DenseFile:
    """The edits in the file `path`; scale 1: the file holds exactly what is added to the weights.

    Keys are `PARAMETER` (one edit for every document) or `DOCUMENT/PARAMETER`. A parameter is `PATH.weight`, in the
    orientation in which the model stores it, `PATH.bias` or a norm's weight; or it is a pair `PATH.A` [rank, d_in] and
    `PATH.B` [d_out, rank], whose product B A is added to [d_out, d_in].
    """

    subject: Subject
    path: Path
    adapter_map: AdapterMap | None = None

    @property
    def name(self) -> str:
        """As reports print it."""
        return self.path.stem

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
        """The model that the adapters are for, where the file's metadata states it under this name."""
        return self.file.metadata.get("base_fingerprint")

    @property
    def scope(self) -> str:
        """`document` where the file names documents, else `nothing`: one edit serves them all."""
        return "document" if any("/" in key for key in self.file.names) else "nothing"

    def notes_on(self, documents: Sequence[Document]) -> list[str]:
        """What of the map these documents do not use, and how many are filed under several names."""
        return file_notes(self.path, documents, self._by_owner(), self.adapter_map)

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter per document. Raises AdapterError for a parameter that cannot be edited."""
        edits = self._by_owner()
        if set(edits) == {""}:
            read = self._read(edits[""])
            return [self._adapter(document.key, read) for document in documents]
        if "" in edits:
            raise AdapterError(
                f"{self.path}: some keys name a document and some, such as {next(iter(edits['']))!r}, do not; name one in every "
                "key or in none"
            )
        entries = {owner: partial(self._content, edit) for owner, edit in edits.items()}
        chosen = [entry_name(document, entries, self.path, self.adapter_map) for document in documents]
        return [
            self._adapter(document.key, self._read(edits[owner]))
            for document, owner in zip(documents, chosen, strict=True)
        ]

    def _by_owner(self) -> dict[str, dict[str, str]]:
        """Keys of the file by document (empty where it names none) and parameter."""
        edits: dict[str, dict[str, str]] = {}
        for key in self.file.names:
            owner, _, parameter = key.rpartition("/")
            edits.setdefault(owner, {})[parameter] = key
        return edits

    def _content(self, edit: Mapping[str, str]) -> str:
        """What tells an edit's tensors from another's: their hashes by parameter."""
        return repr(sorted((parameter, self.file.digests[key]) for parameter, key in edit.items()))

    def _read(self, edit: Mapping[str, str]) -> dict[str, Tensor]:
        tensors = self.file.read(edit.values())
        return {parameter: tensors[key] for parameter, key in edit.items()}

    def _adapter(self, key: str, edits: Mapping[str, Tensor]) -> Adapter:
        updates: dict[str, Update] = {}
        for parameter, tensor in edits.items():
            path, _, kind = parameter.rpartition(".")
            if tensor.ndim not in (1, 2) or not tensor.is_floating_point():
                raise AdapterError(
                    f"{self.path}: {parameter!r}: need a matrix or a vector of floating-point numbers, "
                    f"got {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
                )
            if kind == "weight" and {f"{path}.A", f"{path}.B"} & edits.keys():
                raise AdapterError(
                    f"{self.path}: {path!r} has both a .weight and .A or .B; keep the weight or the factors"
                )
            if tensor.ndim == 1:
                updates[parameter] = Vector(tensor)
            elif path not in self.subject.sites:
                near = nearest_path(path, self.subject.sites)
                raise AdapterError(
                    f"{self.path}: {parameter!r}: the model has no linear map {path!r}; nearest is {near!r}"
                )
            elif kind == "weight":
                updates[path] = Dense(tensor.T if self.subject.sites[path].transposed else tensor)
            elif kind in ("A", "B") and f"{path}.A" in edits and f"{path}.B" in edits:
                try:
                    updates[path] = LowRank(edits[f"{path}.A"], edits[f"{path}.B"])
                except ValueError as fault:
                    raise AdapterError(f"{self.path}: {path!r}: {fault}") from fault
            else:
                raise AdapterError(
                    f"{self.path}: {parameter!r}: need PATH.weight, PATH.bias, or both of PATH.A and PATH.B"
                )
        return Adapter(f"{self.name}:{key}", updates)
