"""A PEFT LoRA folder at other gains: the same factors under another lora_alpha, or another alpha_pattern per layer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import layer_of
from override_gap.margins.at_gains import gain_of
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.adapter_tree import WEIGHTS
from override_gap.probes.sources.peft_adapter import tensors_in
from override_gap.probes.sources.peft_config import (
    CONFIG,
    is_mlx,
    lora_scale,
    needs_peft,
    plain_number,
    read_config,
)
from override_gap.probes.sources.peft_keys import PREFIX, is_module, plain_keys
from override_gap.probes.sources.peft_lora import group_tensors
from override_gap.probes.sources.peft_parameters import targeted_parameters
from override_gap.probes.sources.peft_patterns import by_pattern
from override_gap.probes.sources.peft_places import places
from override_gap.probes.sources.peft_whole import parameter_path, read_saved
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.sites import base_weight

SMALLEST = 1e-6
"""Below this share of the base's row a DoRA's row of weights has vanished, and no magnitude brings it back."""


class NotInPlace(AdapterError):
    """A folder of which a configuration alone cannot state other gains; the message says why, to end a sentence."""


def with_gains(
    folder: Path, subject: Subject, contents: Mapping[str, bytes], gains: Sequence[float]
) -> dict[str, bytes]:
    """The files of a LoRA folder whose update is gain * update in every layer; `gains`: one per layer.

    PEFT's scale is lora_alpha / r, or lora_alpha / sqrt(r) for rsLoRA: either is linear in lora_alpha, and so is the bias of
    lora_B. So lora_alpha is multiplied where all layers have one gain, else alpha_pattern names every module, and the file of
    weights stays as it is to the byte. Not linear in lora_alpha are DoRA, whose lora_B and magnitudes are then made anew
    (`dora_at_gain`), and parameters that are stored whole, which are moved along the line from the base's own.
    Raises NotInPlace where no configuration can say it.
    """
    config = read_config(folder, contents.get(CONFIG))
    if is_mlx(config):
        raise NotInPlace("mlx_lm's form is not PEFT's")
    if needs_peft(config):
        raise NotInPlace(f"peft_type {config['peft_type']} has no scale that is linear in its effect")
    stored = tensors_in(folder, contents)
    plain = dict(zip(plain_keys(folder, stored), stored, strict=True))
    by_key = {key: stored[name] for key, name in plain.items()}
    factors, magnitudes, whole = group_tensors(folder, config, subject, by_key)
    there = places(subject, factors).paths
    changed: dict[str, Tensor] = {}
    if not config.get("use_dora"):
        config |= _alphas(subject, config, there, gains)
    for saved, magnitude in magnitudes.items():
        path, pair = there[saved], factors[saved]
        if path is not None:
            B, m = dora_at_gain(
                base_weight(subject.sites[path]),
                pair["A"],
                pair["B"],
                lora_scale(config, saved, pair["A"].shape[0]),
                magnitude.flatten(),
                gain_of(path, gains),
            )
            changed[plain[f"{PREFIX}{saved}.lora_B.weight"]] = B
            changed[plain[f"{PREFIX}{saved}.lora_magnitude_vector"]] = m.reshape(magnitude.shape)
    for path, tensor in whole.items():
        if ".original_module." not in path and layer_of(path) is not None:
            changed[plain[f"{PREFIX}{path}"]] = _moved(subject, parameter_path(path), tensor, gains)
    files = {CONFIG: json.dumps(config, indent=2).encode(), WEIGHTS: contents[WEIGHTS]}
    if changed:
        files[WEIGHTS] = safetensors.torch.save({**stored, **changed}, {"format": "pt"})
    return files


def dora_at_gain(
    weight: Float[Tensor, "d_out d_in"],
    A: Float[Tensor, "rank d_in"],
    B: Float[Tensor, "d_out rank"],
    scale: float,
    magnitude: Float[Tensor, " d_out"],
    gain: float,
) -> tuple[Float[Tensor, "d_out rank"], Float[Tensor, " d_out"]]:
    """(lora_B, magnitude) of the DoRA whose weight is W + gain * (W_adapted - W), with the same A, rank and scale.

    W_adapted = diag(r) (W + s B A) with r = m / ||W + s B A|| row by row, so W + gain * (W_adapted - W) =
    diag(d) W + gain * diag(r) s B A with d = 1 + gain * (r - 1): again a DoRA, of B' = diag(gain * r / d) B and
    m' = d * ||W + s B' A||. In float64. Raises NotInPlace where some d is zero: the row of W is gone.
    """
    W, a, b, m = (t.double() for t in (weight, A, B, magnitude))
    r = m / (W + scale * (b @ a)).norm(dim=1)
    d = 1 + gain * (r - 1)
    if not bool((d.abs() > SMALLEST).all()):
        raise NotInPlace(f"at gain {gain:g} a row of the base's weight has vanished, which DoRA cannot state")
    b = (gain * r / d)[:, None] * b
    return b.float().contiguous(), (d * (W + scale * (b @ a)).norm(dim=1)).float()


def _alphas(
    subject: Subject, config: Mapping[str, Any], there: Mapping[str, str | None], gains: Sequence[float]
) -> dict[str, Any]:
    """The settings of a configuration that state other gains; `there`: the path in this model of each module, by its own."""
    of_module = {saved: 1.0 if path is None else gain_of(path, gains) for saved, path in there.items()}
    alpha, patterns = config["lora_alpha"], config.get("alpha_pattern") or {}
    if len(set(of_module.values())) == 1:
        gain = next(iter(of_module.values()))
        return {
            "lora_alpha": plain_number(gain * alpha),
            "alpha_pattern": {key: plain_number(gain * value) for key, value in patterns.items()},
        }
    by_module = {key: gain for saved, gain in of_module.items() for key in _pattern_keys(subject, config, saved)}
    # longest first: a pattern also matches every path that ends with it
    paths = sorted(by_module, key=lambda path: (-len(path), path))
    alphas = {path: plain_number(by_module[path] * by_pattern(patterns, path, alpha)) for path in paths}
    changed: dict[str, Any] = {"alpha_pattern": {path: value for path, value in alphas.items() if value != alpha}}
    if ranks := config.get("rank_pattern"):
        # older versions of PEFT look up both settings under the first key of either that matches
        changed["rank_pattern"] = {path: by_pattern(ranks, path, config.get("r")) for path in paths}
    return changed


def _pattern_keys(subject: Subject, config: Mapping[str, Any], saved: str) -> list[str]:
    """What PEFT looks for in alpha_pattern for a module: its path, or that of its parameter where target_parameters names it."""
    path = saved.replace(".base_layer", "")
    if not is_module(subject.model, path):
        # PEFT matches patterns with the paths of the model that it loads the file on
        raise NotInPlace(f"{path} has another name in this model, and a pattern per layer would not match it")
    names = targeted_parameters(config, subject.model.get_submodule(path), path)
    return [path, *(f"{path}.{name}" for name in names)]


def _moved(subject: Subject, path: str, saved: Tensor, gains: Sequence[float]) -> Tensor:
    """A parameter that is stored whole, at base + gain * (saved - base)."""
    module = subject.sites.get(path.rpartition(".")[0])
    difference = torch.zeros(saved.shape)
    for key, update in read_saved(subject, path, saved).items():
        expert = key.removeprefix(f"{path}.")
        part = difference[int(expert)] if expert.isdecimal() else difference
        value = update.dense().float()
        turned = module is not None and module.transposed and value.ndim == 2
        part += value.T if turned else value
    return saved.float() + (gain_of(path, gains) - 1) * difference
