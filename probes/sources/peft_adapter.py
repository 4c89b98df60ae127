"""One PEFT adapter: the files of its folder as updates of this subject's weights."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.runtime import NO_AMPLITUDE, Prefix
from override_gap.margins.updates import Update, Vector
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources import mlx
from override_gap.probes.sources.adapter_tree import WEIGHTS, read_files
from override_gap.probes.sources.peft_config import CONFIG, carried, is_mlx, needs_peft, read_config
from override_gap.probes.sources.peft_keys import PREFIX, converted, is_module, plain_keys, require_one_each
from override_gap.probes.sources.peft_lora import group_tensors, inside, read_module
from override_gap.probes.sources.peft_parameters import read_parameters
from override_gap.probes.sources.peft_places import Places, owner, places
from override_gap.probes.sources.peft_prompts import PROMPTS, read_prompt
from override_gap.probes.sources.peft_tuners import read_tuner
from override_gap.probes.sources.peft_whole import added_rows, by_parameter, parameter_path, read_saved
from override_gap.probes.subject.file_checks import MOST_TENSORS, FileSizeError, require_short_names, shapes_in
from override_gap.probes.subject.live_model import LiveModel
from override_gap.probes.subject.model import Subject


def read_any(
    folder: Path, subject: LiveModel, contents: Mapping[str, bytes], *, scaled: bool = True
) -> Adapter | Prefix:
    """The adapter in a folder, whose files have these bytes: weight updates, or trained positions before the question."""
    config = read_config(folder, contents.get(CONFIG))
    if str(config.get("peft_type")).upper() in PROMPTS:
        if not isinstance(subject, Subject):
            raise AdapterError(f"{folder}: trained positions are no change of the weights; {NO_AMPLITUDE}")
        return read_prompt(folder, config, subject, tensors_in(folder, contents))
    return read_adapter(folder, subject, contents, scaled=scaled)


def read_adapter(
    folder: Path, subject: LiveModel, contents: Mapping[str, bytes] | None = None, *, scaled: bool = True
) -> Adapter:
    """Read one LoRA folder, or the bytes of its files by name.

    The scale is lora_alpha / r, or lora_alpha / sqrt(r) for rsLoRA, per module pattern. Where it is not `scaled` the caller
    sets another, and factors of another rank than the configuration declares are read too.

    Keys are read as PEFT and transformers load them, those of older versions and of wrapped models included. DoRA, trained
    biases and modules_to_save become their difference from this subject's weights. What text never reaches (maps of a
    vision tower, say) is left out, and named in `left_out`.

    Raises AdapterError for a file that is missing or damaged, and for changes outside the layers, which no gain scales.
    """
    contents = read_files(folder) if contents is None else contents
    config = read_config(folder, contents.get(CONFIG))
    if needs_peft(config):
        return _read_by_peft(folder, config, subject, tensors_in(folder, contents))
    stored = tensors_in(folder, contents, mlx.WEIGHTS if is_mlx(config) else WEIGHTS)
    if is_mlx(config):
        config, stored = mlx.as_peft(folder, config, stored)
    config, tensors = converted(folder, subject, config, plain_keys(folder, stored))
    factors, magnitudes, whole = group_tensors(folder, config, subject, tensors)
    try:
        parameters = by_parameter(whole)
        there = places(subject, [*factors, *parameters])
    except AdapterError as fault:
        raise AdapterError(f"{folder}: {fault}") from fault
    config = carried(config, {saved: path for saved, path in there.paths.items() if path is not None})
    updates: dict[str, Update] = {}
    nested: dict[str, dict[int, dict[str, Tensor]]] = {}
    for saved_path, pair in factors.items():
        path = there.paths[saved_path]
        if path is None:
            continue
        module = path.replace(".base_layer", "")
        if path in subject.sites or not is_module(subject.model, module):
            updates |= read_module(folder, config, subject, path, pair, magnitudes.get(saved_path), scaled=scaled)
        else:
            nested.setdefault(module, {})[path.count(".base_layer")] = pair
    for path, by_depth in nested.items():
        updates |= read_parameters(folder, config, subject, path, by_depth, scaled=scaled)
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


def _read_by_peft(folder: Path, config: Mapping[str, Any], subject: LiveModel, stored: Mapping[str, Tensor]) -> Adapter:
    """An adapter whose weights PEFT itself computes, and parameters that are stored whole."""
    tensors = dict(stored)
    require_one_each(folder, tensors)
    if str(config["peft_type"]).upper() == "LORA":
        tensors = plain_keys(folder, tensors)
    whole = {
        key.removeprefix(PREFIX): tensor
        for key, tensor in tensors.items()
        if key.startswith(PREFIX) and owner(subject.model, parameter_path(key.removeprefix(PREFIX)))
    }
    own = {key: tensor for key, tensor in tensors.items() if key.removeprefix(PREFIX) not in whole}
    updates = read_tuner(folder, config, subject, own)
    try:
        parameters = by_parameter(whole)
        there = places(subject, parameters)
    except AdapterError as fault:
        raise AdapterError(f"{folder}: {fault}") from fault
    notes, whole_updates = _read_whole(folder, config.get("task_type"), subject, parameters, there)
    both = updates.keys() & whole_updates.keys()
    if both:
        raise AdapterError(f"{folder}: {min(both)} is both saved and tuned; which of them acts is unclear")
    return Adapter(folder.name, {**updates, **whole_updates}, left_out=tuple(notes))


def _read_whole(
    folder: Path, task: Any, subject: LiveModel, parameters: Mapping[str, Tensor], there: Places
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


def tensors_in(folder: Path, contents: Mapping[str, bytes], name: str = WEIGHTS) -> dict[str, Tensor]:
    """The tensors of an adapter's weights. Raises AdapterError where they are missing or damaged."""
    file = folder / name
    if name not in contents:
        pickled = (folder / "adapter_model.bin").is_file()
        hint = "; adapter_model.bin is a pickle, which can run code and is not opened: save it as safetensors"
        raise AdapterError(f"{file}: no such file{hint if pickled else ''}")
    try:
        require_short_names(shapes_in(BytesIO(contents[name]), len(contents[name]), file, MOST_TENSORS), file)
        # the library gives them in any order, and an adapter's hash depends on it
        return dict(sorted(safetensors.torch.load(contents[name]).items()))
    except FileSizeError as fault:
        raise AdapterError(str(fault)) from fault
    except Exception as fault:  # safetensors raises its own Rust error type, which it does not export
        raise AdapterError(f"{file}: not a safetensors file, or damaged: {fault}") from fault
