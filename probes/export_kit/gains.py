"""Gains in the export kit: a method's factors at another gain per layer, where the method lives; gains.json is from override-gap.

Copy this file beside kit.py. It needs what kit.py needs. `kit.write(..., gains="gains.json")` uses it; by hand:

    name, gain = gains.read_gains("gains.json")  # or a number, or one number per layer
    scaled = gains.at_gains(factors, 2.0, gain)  # what kit.write takes as a document's factors
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

FORMAT = "override-gap gains 1"
LARGEST_FILE = 2**20  # bytes
OTHER_INPUTS = re.compile(r"(?:^|[._])(?:vision|visual|image|audio|speech|video|vit)(?:[._]|$)|multi_modal|multimodal")

Gain = Callable[[str], float]


def read_gains(gains: Any) -> tuple[str, Gain]:
    """(name, gain of a module's path) of a gains.json, a number for all layers, or a sequence of one number per layer.

    Raises ValueError for anything else, and for a gains.json whose policy looks at the question or at each document's norms:
    it states no gain per layer.
    """
    name = ""
    if isinstance(gains, (str, Path)):
        name, gains = _from_file(Path(gains))
    if isinstance(gains, (int, float)) and not isinstance(gains, bool):
        one = _number(gains)
        return name or f"uniform-{one!r}".removesuffix(".0"), lambda _: one
    if not isinstance(gains, (list, tuple)) or not gains:
        raise ValueError(
            f"need gains as a number, one number per layer, or the path of a gains.json, got {gains!r:.60}"
        )
    by_layer = [_number(gain) for gain in gains]

    def gain(path: str) -> float:
        layer = layer_of(path)
        if layer is None or layer >= len(by_layer):
            raise ValueError(f"{path} is in none of the {len(by_layer)} layers that gains are stated for")
        return by_layer[layer]

    return name or "stated gains", gain


def at_gains(factors: Mapping[str, Any], scale: Any, gain: Gain) -> dict[str, Any]:
    """A document's factors with the gain in each scale: (A, B) become (A, B, scale * gain); matrices and vectors are multiplied.

    A and B stay as they are. `scale` is what `kit.write` takes: a number, or one per module path.
    """
    scaled: dict[str, Any] = {}
    for path, value in factors.items():
        if isinstance(value, torch.Tensor):
            scaled[path] = (value.float() * gain(path)).to(
                value.dtype if value.dtype == torch.float64 else torch.float32
            )
            continue
        own = value[2] if len(value) == 3 else scale.get(path) if isinstance(scale, Mapping) else scale
        # a scale that is missing is kit.write's to refuse
        scaled[path] = value if own is None else (value[0], value[1], float(own) * gain(path))
    return scaled


def layer_of(path: str) -> int | None:
    """The layer of the language model that a module path belongs to: its first number; None outside its layers."""
    number = re.search(r"(?:^|\.)([0-9]{1,9})(?:\.|$)", path)
    return None if number is None or OTHER_INPUTS.search(path[: number.start()]) else int(number[1])


def _from_file(file: Path) -> tuple[str, Any]:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise ValueError(f"{file}: cannot be read as JSON: {fault}") from fault
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("policy"), str):
        raise ValueError(f"{file}: need a gains.json of format {FORMAT!r} with the name of its policy")
    if content.get("gains") is None:
        raise ValueError(
            f"{file}: {content['policy']} has no gain per layer of its own: it looks at the question, or at each document's "
            "norms; write the adapters as delivered, and use og.applied or `override-gap adapters export --gains`"
        )
    return content["policy"], content["gains"]


def _number(gain: Any) -> float:
    if isinstance(gain, bool) or not isinstance(gain, (int, float)) or not math.isfinite(gain):
        raise ValueError(f"need every gain as a finite number, got {gain!r:.40}")
    return float(gain)
