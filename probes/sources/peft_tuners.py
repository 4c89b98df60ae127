"""PEFT's other tuners (OFT, IA3, VeRA, LoHa, ...): what PEFT itself makes of the base's weights, as a difference."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from override_gap.margins.updates import Dense, Update, Vector
from override_gap.probes.environment import quietly
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.peft_keys import PREFIX, is_module
from override_gap.probes.sources.peft_patterns import by_pattern
from override_gap.probes.subject.live_model import LiveModel
from override_gap.probes.subject.sites import base_bias, base_weight

NO_UPDATE = {
    "XLORA": "a classifier that reads the input mixes several LoRAs, so it is no fixed change of the weights",
    "POLY": "it needs a task id with every input",
    "LILY": "a router that reads the input mixes its factors, so it is no fixed change of the weights",
    "SHADOW": "a second network runs beside the model, so it is no change of the weights",
    "ADAPTION_PROMPT": "its layers attend to learned prompts through a gate, so it is no change of the weights",
    "MULTITASK_PROMPT_TUNING": "it needs a task id with every input",
    "TRAINABLE_TOKENS": "it changes rows of the embedding, which is in no layer, so no gain scales it",
}
"""Kinds that cannot be measured, and why."""
MOST = 10**6
"""Largest number in a configuration, seeds left out: a tensor of that size is made for it before any file is read."""
TOLERANCE = 1e-3
"""Largest relative difference between a tuner's own output and its merged weights'; above, it is no fixed change."""


def read_tuner(
    folder: Path, config: Mapping[str, Any], subject: LiveModel, tensors: Mapping[str, Tensor]
) -> dict[str, Update]:
    """W_adapted - W_base of each map (and bias, and norm) that a tuner changes; W_adapted is what PEFT merges into the base.

    PEFT loads the adapter on a copy of the model that has weights only where it acts, in float32 on the CPU, dequantised.
    Raises AdapterError for the kinds of NO_UPDATE, where PEFT cannot load or merge it, where a tensor is not used, and
    where the merged map is not the tuner's own.
    """
    kind = str(config["peft_type"]).upper()
    if kind in NO_UPDATE:
        raise AdapterError(f"{folder}: peft_type is {kind}: {NO_UPDATE[kind]}")
    stated = _configuration(folder, config, subject, kind, tensors)
    try:
        with _silent(), torch.random.fork_rng(devices=[]):
            tuned = _loaded(folder, stated, subject, kind, tensors)
            return _differences(folder, tuned, subject, kind)
    except AdapterError:
        raise
    except Exception as fault:  # whatever PEFT raises on values that it does not expect
        reason = " ".join(str(fault).split())[:200] or type(fault).__name__
        raise AdapterError(f"{folder}: PEFT cannot load this {kind} adapter on {subject.name}: {reason}") from fault


def _configuration(
    folder: Path, config: Mapping[str, Any], subject: LiveModel, kind: str, tensors: Mapping[str, Tensor]
) -> Any:
    """PEFT's configuration object with the targets as exact paths, so that no pattern of the file is matched by PEFT."""
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING

    try:
        known = PeftType(kind)
        kind_of_config = PEFT_TYPE_TO_CONFIG_MAPPING[known]
    except (ValueError, KeyError) as fault:
        raise AdapterError(f"{folder}: peft_type is {kind!r}, which this PEFT does not know") from fault
    for name, value in config.items():
        if type(value) in (int, float) and abs(value) > MOST and not any(w in name for w in ("seed", "key", "step")):
            raise AdapterError(f"{folder}: {name} is {value}; need at most {MOST}")
    mark = f".{PEFT_TYPE_TO_PREFIX_MAPPING[known]}"
    targets = {key.removeprefix(PREFIX).partition(mark)[0] for key in tensors if mark in key and key.startswith(PREFIX)}
    if not targets:
        targets = _targets(config.get("target_modules"), subject.sites)
    changed: dict[str, Any] = {"target_modules": sorted(targets)}
    changed |= {
        n: None for n in ("layers_to_transform", "layers_pattern", "exclude_modules", "modules_to_save") if n in config
    }
    if kind == "IA3":
        changed["feedforward_modules"] = sorted(_targets(config.get("feedforward_modules"), targets))
    for name in ("rank_pattern", "alpha_pattern") if kind != "ADALORA" else ():
        if config.get(name) and not isinstance(config[name], dict):
            raise AdapterError(f"{folder}: {name} must map module names to numbers, got {str(config[name])[:80]!r}")
        if config.get(name):
            found = {path: by_pattern(config[name], path, None) for path in targets}
            changed[name] = {path.replace(".", r"\."): value for path, value in found.items() if value is not None}
    try:
        with _silent():
            return kind_of_config.from_peft_type(**{**config, "peft_type": known, **changed, "inference_mode": True})
    except Exception as fault:  # whatever PEFT raises on values that it does not expect
        reason = " ".join(str(fault).split())[:200] or type(fault).__name__
        raise AdapterError(f"{folder}: PEFT cannot read its configuration: {reason}") from fault


def _targets(stated: Any, paths: Iterable[str]) -> set[str]:
    """The paths that are targets by PEFT's rule: for lists of names, and for a regular expression of the whole path."""
    if isinstance(stated, str):
        return {path for path in paths if stated == "all-linear" or by_pattern({stated: True}, path, False)}
    names = {name for name in stated if isinstance(name, str)} if isinstance(stated, list) else set()
    ends = ((path, path.split(".")) for path in paths)
    return {path for path, parts in ends if any(".".join(parts[n:]) in names for n in range(len(parts)))}


def _loaded(folder: Path, stated: Any, subject: LiveModel, kind: str, tensors: Mapping[str, Tensor]) -> Any:
    """PEFT's model with the adapter loaded. Raises AdapterError for a tensor that is left over or missing."""
    from peft import PeftModel
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
    from peft.utils import set_peft_model_state_dict

    skeleton = _skeleton(subject, stated.target_modules, kind)
    tuned = PeftModel(skeleton, stated)
    result = set_peft_model_state_dict(tuned, dict(tensors))
    if result.unexpected_keys:
        raise AdapterError(
            f"{folder}: {len(result.unexpected_keys)} tensors of this {kind} adapter have no place in {subject.name} "
            f"({result.unexpected_keys[0]} first)"
        )
    mark = PEFT_TYPE_TO_PREFIX_MAPPING[stated.peft_type]
    # shared by all layers: stored once, on the tuner
    shared = (".tinylora_v.", ".unilora_theta_d.", "vblora_vector_bank")
    missing = [k for k in result.missing_keys if mark in k and "default" in k and not any(name in k for name in shared)]
    if missing:
        raise AdapterError(f"{folder}: {len(missing)} tensors of this {kind} adapter are missing ({missing[0]} first)")
    return tuned.eval()


def _skeleton(subject: LiveModel, targets: set[str] | list[str], kind: str) -> nn.Module:
    """The model on the meta device, with its own weights (float32, dequantised) in the modules that the targets name."""
    config = copy.deepcopy(subject.model.config)
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
    with torch.device("meta"):
        skeleton = type(subject.model)(config)
    skeleton = skeleton.float().eval().requires_grad_(False)
    for path in targets:
        if not is_module(subject.model, path):
            continue
        module = skeleton.get_submodule(path)
        for name, value in _own_parameters(subject, path).items():
            # a map without a bias is given one of zeros where the tuner trains biases
            if module._parameters.get(name) is not None or kind == "BEFT":
                module._parameters[name] = nn.Parameter(value, requires_grad=False)
    return skeleton


@torch.no_grad()
def _differences(folder: Path, tuned: Any, subject: LiveModel, kind: str) -> dict[str, Update]:
    """What merging changes, by path. Raises AdapterError where a merged map gives other outputs than the tuner's own."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    updates: dict[str, Update] = {}
    generator = torch.Generator().manual_seed(0)
    layers: list[tuple[str, Any]] = list(tuned.base_model.model.named_modules())
    tuners: list[tuple[str, Any]] = [(name, layer) for name, layer in layers if isinstance(layer, BaseTunerLayer)]
    for name, layer in tuners:
        site = subject.sites.get(name)
        # the subject's own: PiSSA, OLoRA and KaSA change the base when PEFT puts them in
        before = _own_parameters(subject, name)
        x = torch.randn(1, 8, len(before["weight"]) if site is None else site.d_in, generator=generator)
        own: Any = layer.forward(x)
        layer.merge(safe_merge=True)
        merged = layer.get_base_layer()
        after: Any = merged(x)
        if not (own - after).norm() <= TOLERANCE * own.norm():
            raise AdapterError(
                f"{folder}: {name}: this {kind} adapter is no fixed change of the weight: its output is another"
            )
        for parameter, value in merged.named_parameters(recurse=False):
            delta = value.detach() - before.get(parameter, 0.0)
            if not delta.any():
                continue
            if parameter == "weight" and site is not None:
                updates[name] = Dense(delta.T.contiguous() if site.transposed else delta)
            elif delta.ndim == 1:
                updates[f"{name}.{parameter}"] = Vector(delta)
            else:
                raise AdapterError(f"{folder}: {name}: this {kind} adapter changes {parameter}, which no gain scales")
    return updates


def _own_parameters(subject: LiveModel, path: str) -> dict[str, Tensor]:
    """A module's parameters in the subject, in float32, on the CPU, dequantised, in the orientation in which it stores them."""
    site = subject.sites.get(path)
    if site is None:
        named = subject.model.get_submodule(path).named_parameters(recurse=False)
        return {name: parameter.detach().to("cpu", torch.float32, copy=True) for name, parameter in named}
    weight = base_weight(site)
    return {"weight": weight.T.contiguous() if site.transposed else weight, "bias": base_bias(site)}


@contextmanager
def _silent() -> Iterator[None]:
    with quietly(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
