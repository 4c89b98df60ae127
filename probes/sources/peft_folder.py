"""Read LoRA folders saved by PEFT: one folder per document, or one for all documents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.runtime import Prefix
from override_gap.margins.strict_json import read_json
from override_gap.margins.updates import Update, Vector
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources import mlx
from override_gap.probes.sources.files import entry_name, read_tensors
from override_gap.probes.sources.peft_config import CONFIG, carried, is_mlx, needs_peft, read_config
from override_gap.probes.sources.peft_keys import PREFIX as PREFIX
from override_gap.probes.sources.peft_keys import converted, is_module, plain_keys
from override_gap.probes.sources.peft_lora import group_tensors, inside, read_module
from override_gap.probes.sources.peft_parameters import read_parameters
from override_gap.probes.sources.peft_places import Places, owner, places
from override_gap.probes.sources.peft_prompts import PROMPTS, read_prompt
from override_gap.probes.sources.peft_tuners import read_tuner
from override_gap.probes.sources.peft_whole import added_rows, by_parameter, parameter_path, read_saved
from override_gap.probes.subject.model import Subject

WEIGHTS = "adapter_model.safetensors"
INDEX = "override_gap.json"
"""File beside exported folders: which documents and which model they are for."""


@dataclass(frozen=True, eq=False)
class PeftFolder:
    """Adapters from `path`: one PEFT folder used for every document, or a folder of PEFT folders.

    In a folder of folders, a document's adapter is the subfolder named after the document's content key; without one,
    after the id of an item that asks about it; without that, after its knowledge point. Two equally good matches are an
    error.
    """

    subject: Subject
    path: Path

    @property
    def name(self) -> str:
        """As reports print it."""
        return self.path.name

    @property
    def settings(self) -> Mapping[str, Any]:
        """The folder and the hash of everything in it."""
        return {"path": self.path.name, "sha256": folder_hash(self.path)}

    @property
    def base_fingerprint(self) -> str | None:
        """The model that the adapters are for, where the folder was exported by this toolkit."""
        file = self.path / INDEX
        if not file.is_file():
            return None
        try:
            return read_json(file)["base_fingerprint"]
        except (ValueError, KeyError, TypeError) as fault:
            raise AdapterError(f"{file}: damaged ({fault!r}); export the adapters again") from fault

    @property
    def scope(self) -> str:
        """`document` where there is one folder per document, else `nothing`: one adapter serves them all."""
        return "nothing" if (self.path / CONFIG).is_file() else "document"

    @property
    def static(self) -> bool:
        """False where the folder holds trained positions (prompt and prefix tuning): they have no gain to vary."""
        folders = (
            [self.path] if (self.path / CONFIG).is_file() else sorted(f.parent for f in self.path.glob(f"*/{CONFIG}"))
        )
        return not folders or not is_prompt(folders[0])

    def encode(self, documents: Sequence[Document]) -> list[Adapter | Prefix]:
        """One adapter per document. Raises AdapterError where a document has none."""
        return [self._read(self._folder(document)) for document in documents]

    def _read(self, folder: Path) -> Adapter | Prefix:
        if not is_prompt(folder):
            return read_adapter(folder, self.subject)
        return read_prompt(folder, read_config(folder), self.subject, _read_tensors(folder))

    def _folder(self, document: Document) -> Path:
        if (self.path / CONFIG).is_file():
            return self.path
        folders = [file.parent.name for file in self.path.glob(f"*/{CONFIG}")]
        if not folders:
            whole = " (a whole model's folder: its difference from the base is a dense: file)"
            raise AdapterError(
                f"{self.path}: no {CONFIG} here or in a subfolder{whole if (self.path / 'config.json').is_file() else ''}"
            )
        try:
            return self.path / entry_name(document, folders, self.path)
        except AdapterError as fault:
            if len(folders) > 1:
                raise
            raise AdapterError(
                f"{fault}; for one adapter that serves every document give {self.path / folders[0]}"
            ) from fault


def is_prompt(folder: Path) -> bool:
    """Whether a folder holds trained positions before the question; False where its configuration cannot be read."""
    try:
        return str(read_config(folder).get("peft_type")).upper() in PROMPTS
    except AdapterError:
        return False


def read_adapter(folder: Path, subject: Subject) -> Adapter:
    """Read one LoRA folder; the scale is lora_alpha / r, or lora_alpha / sqrt(r) for rsLoRA, per module pattern.

    Keys are read as PEFT and transformers load them, those of older versions and of wrapped models included. DoRA, trained
    biases and modules_to_save become their difference from this subject's weights. What text never reaches (maps of a
    vision tower, say) is left out, and named in `left_out`.

    Raises AdapterError for a file that is missing or damaged, and for changes outside the layers, which no gain scales.
    """
    config = read_config(folder)
    if needs_peft(config):
        return _read_by_peft(folder, config, subject)
    stored = _read_tensors(folder, mlx.WEIGHTS if is_mlx(config) else WEIGHTS)
    if is_mlx(config):
        config, stored = mlx.as_peft(folder, config, stored)
    config, tensors = converted(folder, subject, config, plain_keys(folder, stored))
    factors, magnitudes, whole = group_tensors(folder, config, subject, tensors)
    try:
        parameters = by_parameter(whole)
    except AdapterError as fault:
        raise AdapterError(f"{folder}: {fault}") from fault
    there = places(subject, [*factors, *parameters])
    config = carried(config, {saved: path for saved, path in there.paths.items() if path is not None})
    updates: dict[str, Update] = {}
    nested: dict[str, dict[int, dict[str, Tensor]]] = {}
    for saved_path, pair in factors.items():
        path = there.paths[saved_path]
        if path is None:
            continue
        module = path.replace(".base_layer", "")
        if path in subject.sites or not is_module(subject.model, module):
            updates |= read_module(folder, config, subject, path, pair, magnitudes.get(saved_path))
        else:
            nested.setdefault(module, {})[path.count(".base_layer")] = pair
    for path, by_depth in nested.items():
        updates |= read_parameters(folder, config, subject, path, by_depth)
    notes, whole_updates = _read_whole(folder, config.get("task_type"), subject, parameters, there)
    for path, update in whole_updates.items():
        trained = updates.get(path)
        if trained is not None and not (isinstance(trained, Vector) and isinstance(update, Vector)):
            raise AdapterError(
                f"{folder}: {path} has both a saved weight and LoRA factors; which of them acts is unclear"
            )
        # lora_B's bias comes on top of a trained bias of the map itself
        updates[path] = update if trained is None else Vector(trained.dense().float() + update.dense())
    missing = [n for n in config.get("modules_to_save") or () if not any(inside(p, [n]) for p in parameters)]
    if missing:
        raise AdapterError(f"{folder}: modules_to_save names {missing[0]!r}, but {WEIGHTS} holds no weight of it")
    if there.left_out and not updates:
        raise AdapterError(
            f"{folder}: changes only what text never reaches: {len(there.left_out)} places, {there.left_out[0]} first"
        )
    return Adapter(
        folder.name, updates, left_out=(*(f"{path}, which text never reaches" for path in there.left_out), *notes)
    )


def _read_by_peft(folder: Path, config: Mapping[str, Any], subject: Subject) -> Adapter:
    """An adapter whose weights PEFT itself computes, and parameters that are stored whole."""
    tensors = dict(_read_tensors(folder))
    if str(config["peft_type"]).upper() == "LORA":
        tensors = plain_keys(folder, tensors)
    whole = {
        key.removeprefix(PREFIX): tensor
        for key, tensor in tensors.items()
        if key.startswith(PREFIX) and owner(subject.model, parameter_path(key.removeprefix(PREFIX)))
    }
    own = {key: tensor for key, tensor in tensors.items() if key.removeprefix(PREFIX) not in whole}
    updates = read_tuner(folder, config, subject, own)
    parameters = by_parameter(whole)
    there = places(subject, parameters)
    notes, whole_updates = _read_whole(folder, config.get("task_type"), subject, parameters, there)
    both = updates.keys() & whole_updates.keys()
    if both:
        raise AdapterError(f"{folder}: {min(both)} is both saved and tuned; which of them acts is unclear")
    return Adapter(folder.name, {**updates, **whole_updates}, left_out=tuple(notes))


def _read_whole(
    folder: Path, task: Any, subject: Subject, parameters: Mapping[str, Tensor], there: Places
) -> tuple[list[str], dict[str, Update]]:
    """(notes, updates) of parameters that are stored whole; notes name rows of added tokens, which are left out."""
    notes: list[str] = []
    updates: dict[str, Update] = {}
    try:
        for saved_path, tensor in parameters.items():
            path = there.paths[saved_path]
            if path is None:
                continue
            note = added_rows(subject, path, tensor)
            if note is not None:
                notes.append(note)
                continue
            updates |= read_saved(subject, path, tensor)
    except AdapterError as fault:
        head = "" if task in (None, "CAUSAL_LM") else f"; its task_type is {task}: it was trained with another head"
        raise AdapterError(f"{folder}: {fault}{head}") from fault
    return notes, updates


def folder_hash(path: Path) -> str:
    """SHA-256 over the names and bytes of the adapter files in a folder and its subfolders; links to folders are followed."""
    digest = hashlib.sha256()
    for file in sorted(
        file for name in (CONFIG, WEIGHTS, mlx.WEIGHTS) for file in (*path.glob(name), *path.glob(f"*/{name}"))
    ):
        digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _read_tensors(folder: Path, name: str = WEIGHTS) -> dict[str, Tensor]:
    file = folder / name
    if not file.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        hint = "; adapter_model.bin is a pickle, which can run code and is not opened: save it as safetensors"
        raise AdapterError(f"{file}: no such file{hint if pickled else ''}")
    return read_tensors(file)[0]
