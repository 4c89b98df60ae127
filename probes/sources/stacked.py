"""Stacked files: one tensor per module, stacked over layers, in the conventions of three hypernetworks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.items.item import Document
from override_gap.margins.strict_json import parse
from override_gap.margins.updates import LowRank, Update, Vector
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.adapter_map import AdapterMap
from override_gap.probes.sources.files import entry_name, file_notes, required_number
from override_gap.probes.sources.hashed_file import HashedFile, open_hashed
from override_gap.probes.subject.model import Subject

ModuleTensors = Mapping[str, Tensor]
"""The tensors of one module by name: A, B and perhaps C."""
Convention = Callable[[Tensor, Tensor, float], LowRank]


def doc_to_lora(A: Tensor, B: Tensor, alpha: float) -> LowRank:
    """A [rank, d_in], B [rank, d_out]: B is rank-first, and the scale is raw lora_alpha, not alpha / r."""
    return LowRank(A, B.T, alpha)


def generative_adapter(A: Tensor, B: Tensor, alpha: float) -> LowRank:
    """A [rank, d_in], B [d_out, rank], scale alpha / r."""
    return LowRank(A, B, alpha / A.shape[0])


def shine(A: Tensor, B: Tensor, alpha: float) -> LowRank:
    """A [d_in, rank], B [rank, d_out], the scale folded into them; a bias C [d_out] may stand beside them."""
    return LowRank(A.T, B.T, alpha)


CONVENTIONS: dict[str, Convention] = {
    "doc-to-lora": doc_to_lora,
    "generative-adapter": generative_adapter,
    "shine": shine,
}


@dataclass(frozen=True, eq=False)
class StackedFile:
    """The adapters in the file `path`, in one of CONVENTIONS.

    Keys: `documents/NAME/MODULE/A`, `.../B`, for SHINE also `.../C`, each with the layer as its first axis; `shared/MODULE/A` and
    so on for the part that every document shares (Doc-to-LoRA's head bias). Metadata: `lora_alpha` (all but SHINE), and
    `layers` as a JSON list where they are not 0, 1, 2, ... Doc-to-LoRA's factors may have chunks as the first axis,
    [chunk, layer, rank, d]; chunks are then joined along the rank, as the method joins them.
    """

    subject: Subject
    path: Path
    convention: str
    adapter_map: AdapterMap | None = None

    @property
    def name(self) -> str:
        """As reports print it."""
        return self.convention

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

    def notes_on(self, documents: Sequence[Document]) -> list[str]:
        """What of the map these documents do not use, and how many are filed under several names."""
        return file_notes(self.path, documents, self._by_owner(self.file.names), self.adapter_map)

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter per document. Raises AdapterError where one is missing or does not fit the model."""
        return self._adapters(self.file.names, self.file.read, self.file.digests, self.file.metadata, documents)

    def adapters(
        self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], documents: Sequence[Document]
    ) -> list[Adapter]:
        """The documents' adapters from a file's content. Raises AdapterError as `encode` does."""
        digests = {name: name for name in tensors}
        return self._adapters(tensors, lambda names: {n: tensors[n] for n in names}, digests, metadata, documents)

    def _adapters(
        self,
        names: Iterable[str],
        read: Callable[[Iterable[str]], Mapping[str, Tensor]],
        digests: Mapping[str, str],
        metadata: Mapping[str, str],
        documents: Sequence[Document],
    ) -> list[Adapter]:
        alpha = 1.0 if self.convention == "shine" else required_number(metadata, "lora_alpha", self.path)
        layers = self._layers(metadata)
        groups = self._by_owner(names)

        def updates(modules: Mapping[str, Mapping[str, str]]) -> dict[str, Update]:
            tensors = read([key for parts in modules.values() for key in parts.values()])
            grouped = {m: {part: tensors[key] for part, key in parts.items()} for m, parts in modules.items()}
            return self._updates(grouped, alpha, layers)

        shared = updates(groups.pop(""))
        entries = {owner: partial(_content, modules, digests) for owner, modules in groups.items()}
        chosen = [entry_name(document, entries, self.path, self.adapter_map) for document in documents]
        return [
            Adapter(f"{self.name}:{document.key}", updates(groups[owner]), shared)
            for document, owner in zip(documents, chosen, strict=True)
        ]

    def _by_owner(self, names: Iterable[str]) -> dict[str, dict[str, dict[str, str]]]:
        """Keys of the file by document (empty for the shared part), module and part of the module."""
        groups: dict[str, dict[str, dict[str, str]]] = {"": {}}
        for key in names:
            parts = key.split("/")
            if (parts[0], len(parts)) not in (("documents", 4), ("shared", 3)):
                raise AdapterError(f"{self.path}: {key!r}: need documents/NAME/MODULE/A or shared/MODULE/A")
            owner = parts[1] if parts[0] == "documents" else ""
            groups.setdefault(owner, {}).setdefault(parts[-2], {})[parts[-1]] = key
        return groups

    def _layers(self, metadata: Mapping[str, str]) -> list[int] | None:
        try:
            layers = parse(metadata["layers"]) if "layers" in metadata else None
        except ValueError as fault:
            raise AdapterError(f"{self.path}: metadata layers: {fault}") from fault
        if layers is not None and not (isinstance(layers, list) and all(type(n) is int for n in layers)):
            raise AdapterError(f"{self.path}: metadata layers needs a JSON list of numbers, got {str(layers)[:80]}")
        return layers

    def _updates(
        self, modules: Mapping[str, ModuleTensors], alpha: float, layers: Sequence[int] | None
    ) -> dict[str, Update]:
        updates: dict[str, Update] = {}
        for module, group in modules.items():
            if not {"A", "B"} <= set(group):
                raise AdapterError(f"{self.path}: {module} has {', '.join(sorted(group))}; need both A and B")
            A, B = _join_chunks(group["A"]), _join_chunks(group["B"])
            wrong = next((name for name, factor in (("A", A), ("B", B)) if factor.ndim != 3 or 0 in factor.shape), None)
            if wrong:
                raise AdapterError(
                    f"{self.path}: {module}/{wrong} needs [layer, rank, d] or [chunk, layer, rank, d], "
                    f"got {list(group[wrong].shape)}"
                )
            self._check_layers(module, {"A": A, "B": B, **({"C": group["C"]} if "C" in group else {})}, layers)
            for n, layer in enumerate(range(len(A)) if layers is None else layers):
                path = self._path(module, layer)
                try:
                    updates[path] = CONVENTIONS[self.convention](A[n], B[n], alpha)
                    if "C" in group:
                        updates[f"{path}.bias"] = Vector(group["C"][n])
                except (ValueError, IndexError) as fault:
                    raise AdapterError(f"{self.path}: {path}: {fault}") from fault
        return updates

    def _check_layers(self, module: str, factors: ModuleTensors, layers: Sequence[int] | None) -> None:
        """Raise AdapterError unless a module's factors have one number of layers, and the metadata names each once."""
        counts = {name: factor.shape[0] if factor.ndim else 0 for name, factor in factors.items()}
        if len(set(counts.values())) > 1:
            came = ", ".join(f"{count} in {name}" for name, count in counts.items())
            raise AdapterError(f"{self.path}: {module} needs one number of layers in all its tensors, got {came}")
        if layers is not None and (len(layers) != counts["A"] or len(set(layers)) < len(layers)):
            raise AdapterError(
                f"{self.path}: metadata layers needs {counts['A']} different numbers, one for each layer of {module}, got "
                f"{str(list(layers))[:80]}"
            )

    def _path(self, module: str, layer: int) -> str:
        paths = [p for p in self.subject.sites if layer_of(p) == layer and p.endswith("." + module)]
        if len(paths) != 1:
            raise AdapterError(f"{self.path}: need one {module!r} in layer {layer} of the model, found {len(paths)}")
        return paths[0]


def _content(modules: Mapping[str, Mapping[str, str]], digests: Mapping[str, str]) -> str:
    """What tells a document's tensors from another's: their hashes by module and part."""
    return repr(sorted((m, part, digests[key]) for m, parts in modules.items() for part, key in parts.items()))


def _join_chunks(factor: Tensor) -> Tensor:
    """[layer, rank, d]: a factor as it is, or one of [chunk, layer, rank, d] with its chunks joined along the rank."""
    return factor if factor.ndim != 4 else factor.transpose(0, 1).flatten(1, 2)
