"""The keys of a saved adapter as PEFT and transformers mean them: wrappers left out, and layouts of older versions renamed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from override_gap.probes.environment import quietly
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.peft_config import carried
from override_gap.probes.subject.live_model import LiveModel

PREFIX = "base_model.model."
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Names that torch.compile, FSDP and activation checkpointing put into paths; no module of a model has them."""
NAMED = re.compile(r"\.(lora_A|lora_B|lora_a|lora_b)\.([^.]+)\.(weight|bias)$")
MAGNITUDE = re.compile(r"\.lora_magnitude_vector(?:\.(?!weight$)([^.]+))?(?:\.weight)?$")
FACTOR = re.compile(r"\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)(\.|$)")
DEFAULT_NAME = re.compile(r"\.default(?=\.|$)")
"""PEFT's own name for an adapter, which it leaves out of the keys that it saves."""


def plain_keys(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by key as PEFT's `save_pretrained` writes them: one prefix, no wrappers, no adapter name.

    Raises AdapterError where two tensors have one key, where the file holds several adapters, and where it was saved from a
    model that PEFT had wrapped twice: PEFT loads nothing from it.
    """
    plain: dict[str, Tensor] = {}
    adapters: set[str] = set()
    for key, tensor in tensors.items():
        path = key.removeprefix("module.")
        for wrapper in WRAPPERS:
            path = path.removeprefix(f"{wrapper}.").replace(f".{wrapper}.", ".")
        path = path.removeprefix(PREFIX)
        if path.startswith(PREFIX):
            raise AdapterError(
                f"{folder}: its keys begin with {PREFIX + PREFIX!r}: PEFT loads none of them, so that the adapted model is the "
                "base; it was saved from a model that PEFT had wrapped twice: make it again on the plain model"
            )
        named, magnitude = NAMED.search(path), MAGNITUDE.search(path)
        if named is not None:
            adapters.add(named[2])
            path = f"{path[: named.start()]}.{named[1]}.{named[3]}"
        elif magnitude is not None:
            adapters |= {magnitude[1]} if magnitude[1] else set()
            path = f"{path[: magnitude.start()]}.lora_magnitude_vector"
        if f"{PREFIX}{path}" in plain:
            what = (
                f"holds several adapters ({', '.join(sorted(adapters))}); save one"
                if len(adapters) > 1
                else "is damaged"
            )
            raise AdapterError(f"{folder}: two tensors are stored under {path!r}; the file {what}")
        plain[f"{PREFIX}{path}"] = tensor
    if len(adapters) > 1:
        raise AdapterError(f"{folder}: holds several adapters ({', '.join(sorted(adapters))}); save one of them alone")
    return plain


def require_one_each(folder: Path, keys: Iterable[str]) -> None:
    """Raise AdapterError where two keys differ by the adapter's name alone: PEFT would load one and drop the other."""
    first: dict[str, str] = {}
    for key in keys:
        if (other := first.setdefault(DEFAULT_NAME.sub("", key), key)) != key:
            raise AdapterError(
                f"{folder}: {other!r} and {key!r} are one tensor of PEFT's; which of them acts is unclear"
            )


def not_loaded_by_peft(subject: LiveModel, keys: Iterable[str]) -> list[str]:
    """Those keys of LoRA factors that PEFT's own loader passes over, with a warning, so that the model stays the base there.

    PEFT 0.21: keys without its prefix, with a wrapper's name or an adapter's name in them (`default` excepted), or that leave
    out the name of the decoder within the model. They are read all the same, since what they mean is plain.
    """
    modules = {name for name, _ in subject.model.named_modules()}

    def passed_over(key: str) -> bool:
        path = key.removeprefix(PREFIX)
        named = NAMED.search(path)
        module = path[: match.start()] if (match := FACTOR.search(path)) else ""
        return (
            path == key
            or any(f".{wrapper}." in f".{path}" for wrapper in WRAPPERS)
            or (named is not None and named[2] != "default")
            or (module not in modules and f"model.{module}" in modules)
        )

    return [key for key in keys if FACTOR.search(key) and passed_over(key)]


def converted(
    folder: Path, subject: LiveModel, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, tensors) of a LoRA with the paths of this model, by the tables with which PEFT and transformers load it.

    Where every path is one of the model's, there is nothing to convert. The targets are those that the file holds factors of,
    not what the configuration's patterns would match. Raises AdapterError where PEFT cannot convert it.
    """
    modules = {
        key[len(PREFIX) : match.start()].replace(".base_layer", "") for key in tensors if (match := FACTOR.search(key))
    }
    if modules <= {name for name, _ in subject.model.named_modules()}:
        return dict(config), dict(tensors)
    from peft.utils import transformers_weight_conversion as conversion

    stated = _peft_config(folder, config, sorted({path.rpartition(".")[2] for path in modules}))
    try:
        with quietly():
            conversion.convert_peft_config_for_transformers(stated, subject.model, None)
            by_key = conversion.convert_peft_adapter_state_dict_for_transformers(subject.model, stated, dict(tensors))
    except Exception as fault:  # whatever the conversion raises on keys that it does not expect
        reason = " ".join(str(fault).split())[:200] or type(fault).__name__
        raise AdapterError(f"{folder}: PEFT cannot convert its keys to this model's: {reason}") from fault
    changed = {name: getattr(stated, name) for name in ("rank_pattern", "alpha_pattern", "target_parameters")}
    if not changed["target_parameters"] and any(".experts.base_layer.lora_" in key for key in by_key):
        # PEFT renames the keys of qwen2_moe but leaves out its configuration: as it has it for the other families
        changed = {
            "rank_pattern": {**(stated.rank_pattern or {}), r".*\.gate_up_proj": 2 * stated.r},
            "alpha_pattern": {**(stated.alpha_pattern or {}), r".*\.gate_up_proj": 2 * stated.lora_alpha},
            "target_parameters": {"gate_up_proj", "down_proj"},
        }
    return carried({**config, **changed}, _renamed(tensors, by_key)), dict(by_key)


def _renamed(tensors: Mapping[str, Tensor], by_key: Mapping[str, Tensor]) -> dict[str, str]:
    """New module path by old one, of factors that the conversion took over as they are, told by where they lie in memory."""
    new = {tensor.data_ptr(): key for key, tensor in by_key.items() if tensor.numel()}
    pairs = [(FACTOR.search(key), key, new.get(tensor.data_ptr())) for key, tensor in tensors.items()]
    paths = [(key[: m.start()], FACTOR.split(there, maxsplit=1)[0]) for m, key, there in pairs if m and there]
    return {old.removeprefix(PREFIX): path.removeprefix(PREFIX) for old, path in paths}


def _peft_config(folder: Path, config: Mapping[str, Any], targets: list[str]) -> Any:
    """PEFT's own configuration object. Raises AdapterError with PEFT's reason where it takes the values for impossible."""
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    layers = dict.fromkeys(("layers_to_transform", "layers_pattern", "exclude_modules"))
    try:
        with quietly():
            kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(str(config["peft_type"]).upper())]
            return kind.from_peft_type(**{**config, **layers, "target_modules": targets})
    except Exception as fault:  # whatever PEFT raises on values that it does not expect
        reason = " ".join(str(fault).split())[:200] or type(fault).__name__
        raise AdapterError(f"{folder}: PEFT cannot read its configuration: {reason}") from fault


def is_module(model: nn.Module, path: str) -> bool:
    """Whether a model has a module of this path."""
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True
