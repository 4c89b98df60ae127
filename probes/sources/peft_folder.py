"""PEFT folders: LoRA as PEFT saves it, for every document one folder or one folder for all; and written the same way."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.strict_json import read_json
from override_gap.margins.updates import LowRank, Update, Vector
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.files import pick, read_tensors
from override_gap.probes.sources.peft_whole import named, read_dora, read_saved
from override_gap.probes.subject.model import Subject

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
# beside exported folders: whose documents they are and which model they are for
INDEX = "override_gap.json"
SECONDS = 2
"""That one pattern of a configuration may take on one path; some patterns would take for ever."""


@dataclass(frozen=True, eq=False)
class PeftFolder:
    """Adapters from `path`: one PEFT folder used for every document, or a folder of them.

    In a folder of folders, a document's adapter is the subfolder named after the document's content key; without one,
    after the id of an item that asks about it; without that, after its knowledge point. Two that fit alike are an error.
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
        """Whether the folder tells documents apart."""
        return "nothing" if (self.path / CONFIG).is_file() else "document"

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter a document. Raises AdapterError where a document has none."""
        return [read_adapter(self._folder(document), self.subject) for document in documents]

    def _folder(self, document: Document) -> Path:
        if (self.path / CONFIG).is_file():
            return self.path
        return self.path / pick(document, [file.parent.name for file in self.path.glob(f"*/{CONFIG}")], self.path)


def read_adapter(folder: Path, subject: Subject) -> Adapter:
    """Read one LoRA folder; the scale is lora_alpha / r, or lora_alpha / sqrt(r) for rsLoRA, per module pattern.

    DoRA becomes the dense update that it amounts to on this subject's weights; so do trained biases and modules_to_save.

    Raises AdapterError for a file that is missing or damaged and for what no gain of a layer reaches.
    """
    config = _read_config(folder)
    tensors = _read_tensors(folder)
    pairs: dict[str, dict[str, Tensor]] = {}
    magnitudes: dict[str, Tensor] = {}
    whole: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        length = re.fullmatch(rf"{re.escape(PREFIX)}(.+)\.lora_magnitude_vector(?:\.weight)?", key)
        if length is not None and config.get("use_dora"):
            magnitudes[length[1]] = tensor
            continue
        found = re.fullmatch(rf"{re.escape(PREFIX)}(.+)\.lora_(A|B)(?:\.default)?\.(weight|bias)", key)
        if found is None and _stores_whole(config, key):
            whole[key.removeprefix(PREFIX)] = tensor
            continue
        if found is None or found[2] + found[3] == "Abias":
            raise AdapterError(
                f"{folder}: tensor {key!r} is not a plain LoRA factor; it cannot be read without losing it"
            )
        pairs.setdefault(found[1], {})[found[2] if found[3] == "weight" else "bias"] = tensor
    updates: dict[str, Update] = {}
    for path, factors in pairs.items():
        bias = factors.pop("bias", None)
        if set(factors) != {"A", "B"}:
            held = f"only lora_{next(iter(factors))}" if factors else "a bias of lora_B alone"
            raise AdapterError(f"{folder}: {path} has {held}; need both factors")
        rank = factors["A"].shape[0] if factors["A"].ndim else 0
        if rank == 0:
            raise AdapterError(f"{folder}: {path} has rank 0")
        alpha = _pattern(config.get("alpha_pattern"), path, config["lora_alpha"])
        divisor = math.sqrt(rank) if config.get("use_rslora") else rank
        try:
            update = LowRank(factors["A"], factors["B"], float(alpha) / divisor)
            if config.get("use_dora") and path not in magnitudes:
                raise ValueError("use_dora is set and no lora_magnitude_vector is stored, so its size is unknown")
            updates[path] = read_dora(subject, path, update, magnitudes[path]) if path in magnitudes else update
            if bias is not None:
                # PEFT scales lora_B's bias with its product
                updates[f"{path}.bias"] = Vector(bias * (float(alpha) / divisor))
        except ValueError as fault:
            raise AdapterError(f"{folder}: {path}: {fault}") from fault
        declared = _pattern(config.get("rank_pattern"), path, config.get("r", rank))
        if declared != rank:
            raise AdapterError(
                f"{folder}: {path} has rank {rank}, but {CONFIG} says {declared}; the scale would be wrong"
            )
    try:
        saved = {path: read_saved(subject, path, tensor) for path, tensor in named(whole).items()}
    except AdapterError as fault:
        raise AdapterError(f"{folder}: {fault}") from fault
    for path, update in filter(None, saved.values()):
        trained = updates.get(path)
        if trained is not None and not (isinstance(trained, Vector) and isinstance(update, Vector)):
            raise AdapterError(f"{folder}: {path} has both a saved weight and LoRA factors; which is run?")
        # lora_B's bias comes on top of a trained bias of the map itself
        updates[path] = update if trained is None else Vector(trained.dense().float() + update.dense())
    missing = [n for n in config.get("modules_to_save") or () if not any(_inside(p, [n]) for p in saved)]
    if missing:
        raise AdapterError(f"{folder}: modules_to_save names {missing[0]!r}, and {WEIGHTS} holds no weight of it")
    return Adapter(folder.name, updates)


def _stores_whole(config: Mapping[str, Any], key: str) -> bool:
    """Whether a tensor is a parameter that the configuration says is stored as such."""
    biased = config.get("bias", "none") != "none" and key.endswith(".bias")
    return key.startswith(PREFIX) and (biased or _inside(key, config.get("modules_to_save") or ()))


def _inside(path: str, modules: Sequence[str]) -> bool:
    """PEFT's rule for modules_to_save: a module is meant whose path ends so, with all that is in it."""
    owners = path.split(".")[:-1]
    return any(".".join(owners[: n + 1]).endswith(module) for n in range(len(owners)) for module in modules)


def folder_hash(path: Path) -> str:
    """SHA-256 over the names and bytes of the adapter files in a folder and its subfolders, links to folders followed."""
    digest = hashlib.sha256()
    for file in sorted(file for name in (CONFIG, WEIGHTS) for file in (*path.glob(name), *path.glob(f"*/{name}"))):
        digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    try:
        config = read_json(file)
    except ValueError as fault:
        raise AdapterError(str(fault)) from fault
    if not isinstance(config, dict) or str(config.get("peft_type", "")).upper() != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise AdapterError(f"{file}: peft_type is {kind!r}; need LORA")
    if config.get("use_dora") and config.get("lora_bias"):
        raise AdapterError(f"{file}: use_dora with lora_bias has no one meaning in PEFT; train one of them")
    for name in ("trainable_token_indices", "layer_replication"):
        if config.get(name):
            raise AdapterError(f"{file}: {name} is set; such an adapter is more than updates of a layer's weights")
    modules = config.get("modules_to_save") or []
    if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
        raise AdapterError(f"{file}: modules_to_save must be a list of module names, got {modules!r}")
    if config.get("bias", "none") not in ("none", "all", "lora_only"):
        raise AdapterError(f"{file}: bias is none, all or lora_only, got {config['bias']!r}")
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(("pissa", "olora", "corda", "loftq", "lora_ga")):
        raise AdapterError(f"{file}: init_lora_weights is {start}: its factors add to a changed base, not to this one")
    if config.get("alora_invocation_tokens"):
        raise AdapterError(f"{file}: alora_invocation_tokens is set; the adapter acts on some positions only")
    for name in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(name) or {}
        if not isinstance(patterns, dict) or not all(map(_size, patterns.values())):
            raise AdapterError(f"{file}: {name} must map module names to numbers, got {str(patterns)[:200]}")
    if not _size(config.get("lora_alpha")):
        raise AdapterError(f"{file}: no lora_alpha, so the update's size is unknown; add it as PEFT saves it")
    return config


def _size(value: Any) -> bool:
    """Whether a value is a number that can be a scale: no truth value, and none that a float cannot hold."""
    return type(value) in (int, float) and abs(value) < 1e30


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    file = folder / WEIGHTS
    if not file.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        hint = "; adapter_model.bin is a pickle and is not opened: save it again as safetensors" if pickled else ""
        raise AdapterError(f"{file}: no such file{hint}")
    return read_tensors(file)[0]


def _pattern(patterns: Mapping[str, Any] | None, path: str, default: Any) -> Any:
    """PEFT's rule for rank_pattern and alpha_pattern: a key matches at the end of a path, as a regular expression."""
    for key, value in (patterns or {}).items():
        try:
            found = regex.match(rf"(.*\.)?({key})$", path, timeout=SECONDS)
        except regex.error as fault:
            raise AdapterError(f"{CONFIG}: pattern {key[:80]!r} is no regular expression: {fault}") from fault
        except TimeoutError as fault:
            raise AdapterError(
                f"{CONFIG}: pattern {key[:80]!r} takes over {SECONDS} s to match {path}; simplify it"
            ) from fault
        if found:
            return value
    return default
