"""A PEFT folder's adapter_config.json: which LoRA it describes, checked, and its values per module."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from override_gap.margins.strict_json import JSONError, parse, read_json
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.peft_patterns import CONFIG as CONFIG
from override_gap.probes.sources.peft_patterns import by_pattern

LISTS = {"modules_to_save": 10_000, "target_parameters": 10_000}
"""Most names in a list of a configuration; each is compared with every tensor."""
MOST_NAMES = 1_000_000
"""Most names in any other list or table of one."""


def read_config(folder: Path, raw: bytes | None = None) -> dict[str, Any]:
    """The configuration of a PEFT folder, or of the bytes `raw` of its file; that of a LoRA is checked.

    Raises AdapterError where it is missing, damaged, or of a LoRA that cannot be read here.
    """
    file = folder / CONFIG
    try:
        config = read_json(file) if raw is None else parse(raw.decode())
    except (JSONError, UnicodeDecodeError) as fault:
        raise AdapterError(f"{file}: cannot be read as JSON: {fault}") from fault
    except ValueError as fault:
        raise AdapterError(str(fault)) from fault
    if isinstance(config, dict) and is_mlx(config):
        return config
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise AdapterError(f"{file}: peft_type is {kind!r}; need a kind of PEFT, such as LORA")
    for name, value in config.items():
        if isinstance(value, list | dict) and len(value) > (most := LISTS.get(name, MOST_NAMES)):
            raise AdapterError(f"{file}: {name} has {len(value):,} entries; need at most {most:,}")
    if config["peft_type"].upper() != "LORA":
        return config
    if config.get("use_dora") and config.get("lora_bias"):
        raise AdapterError(f"{file}: use_dora with lora_bias is ambiguous in PEFT; train with one of them")
    for name in ("trainable_token_indices", "layer_replication"):
        if config.get(name):
            raise AdapterError(f"{file}: {name} is set; such an adapter changes more than the weights of layers")
    modules = config.get("modules_to_save") or []
    if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
        raise AdapterError(f"{file}: modules_to_save must be a list of module names, got {modules!r}")
    if config.get("bias", "none") not in ("none", "all", "lora_only"):
        raise AdapterError(f"{file}: bias must be none, all or lora_only, got {config['bias']!r}")
    initialisation = str(config.get("init_lora_weights", True)).lower()
    if initialisation.startswith(("pissa_niter", "corda", "loftq", "lora_ga")):
        raise AdapterError(
            f"{file}: init_lora_weights is {initialisation}: its factors add to a changed base, not to this one, and it "
            "cannot be made again from this one; save the adapter with path_initial_model_for_weight_conversion"
        )
    if config.get("alora_invocation_tokens"):
        raise AdapterError(f"{file}: alora_invocation_tokens is set; the adapter acts at some positions only")
    if config.get("arrow_config"):
        raise AdapterError(f"{file}: arrow_config is set; a router that reads the input mixes several LoRAs")
    if config.get("megatron_config"):
        raise AdapterError(f"{file}: megatron_config is set; need a LoRA of a transformers model")
    for name in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(name) or {}
        if not isinstance(patterns, dict) or not all(map(_is_scale, patterns.values())):
            raise AdapterError(f"{file}: {name} must map module names to numbers, got {str(patterns)[:200]}")
    if not _is_scale(config.get("lora_alpha")):
        raise AdapterError(
            f"{file}: no lora_alpha, so the update's size is unknown; add the value that it was trained with"
        )
    return config


def is_mlx(config: Mapping[str, Any]) -> bool:
    """Whether an adapter_config.json is one of mlx_lm.lora, which has no peft_type; older ones name no fine_tune_type."""
    return "peft_type" not in config and ("fine_tune_type" in config or "lora_parameters" in config)


def needs_peft(config: Mapping[str, Any]) -> bool:
    """Whether PEFT itself must compute the weights: other kinds than LoRA, and LoRAs with more than a pair of factors.

    PiSSA and OLoRA take factors out of the base; PEFT does it again, exactly, when it loads them.
    """
    if is_mlx(config):
        return False
    if str(config["peft_type"]).upper() != "LORA":
        return True
    variants = ("kasa_config", "velora_config", "monteclora_config", "use_bdlora")
    return str(config.get("init_lora_weights", True)).lower() in ("pissa", "olora") or any(map(config.get, variants))


def _is_scale(value: Any) -> bool:
    """Whether a value is a number that can be a scale: not a bool, and not too large for a float."""
    return type(value) in (int, float) and abs(value) < 1e30


def lora_scale(config: Mapping[str, Any], path: str, rank: int) -> float:
    """What PEFT multiplies B A by for a module: lora_alpha / r, or lora_alpha / sqrt(r) for rsLoRA."""
    alpha = by_pattern(config.get("alpha_pattern"), path, config["lora_alpha"])
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def plain_number(value: float) -> int | float:
    """A number as a configuration shows it best: without a fraction where it has none."""
    return int(value) if float(value).is_integer() else float(value)


def carried(config: Mapping[str, Any], moved: Mapping[str, str]) -> dict[str, Any]:
    """A configuration whose rank_pattern and alpha_pattern hold for modules under new paths what they held under the old.

    Patterns are of the paths that the adapter was trained under. `moved`: new path by old one.
    """
    changed = dict(config)
    for name in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(name) or {}
        kept = {re.escape(new): by_pattern(patterns, old, None) for old, new in moved.items() if old != new}
        changed[name] = {path: value for path, value in kept.items() if value is not None} | patterns
    return changed
