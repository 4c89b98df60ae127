"""GGUF: what a file states and transformers does not read of it, applied where it is known how, else refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from override_gap.probes.errors import SubjectError

#: Settings of a configuration that a GGUF file may state and transformers leaves at its own default.
SETTINGS = {
    "final_logit_softcapping": "final_logit_softcapping",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "logit_scale": "logit_scale",
}
FACTORS = "rope_freqs.weight"


def apply_gguf_settings(model: Any, path: Path) -> None:
    """Make a model that transformers read from a GGUF file compute what the file states.

    Frequency factors of rotary positions (`rope_freqs`, Llama 3.1 and later), which transformers leaves out, divide the model's
    frequencies. Raises SubjectError where the file scales positions or caps logits in a way that was left out, or holds
    tensors that were: the numbers would be those of another model.
    """
    from gguf import GGUFReader

    reader = GGUFReader(str(path))
    architecture = str(_value(reader, "general.architecture"))
    _require_rope(reader, architecture, path)
    for key, name in SETTINGS.items():
        stated = _value(reader, f"{architecture}.{key}")
        used = getattr(model.config.get_text_config(), name, None)
        if stated is not None and not (isinstance(used, int | float) and abs(float(stated) - used) <= 1e-6 * abs(used)):
            raise SubjectError(
                f"{path}: the file states {key} {stated:g}, and transformers reads it as {used}; give the model as a folder"
            )
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    factors = tensors.pop(FACTORS, None)
    if factors is not None:
        _divide_frequencies(model, torch.tensor(factors.data.astype("float32")).flatten(), path)
    left_out = sorted(name for name in tensors if "rope_fa" in name)
    if left_out:
        raise SubjectError(
            f"{path}: transformers does not read {left_out[0]}, which the model's positions are scaled by; give a folder"
        )


def _require_rope(reader: Any, architecture: str, path: Path) -> None:
    """Raise SubjectError where the file scales positions: transformers reads that of gpt-oss alone."""
    kind = _value(reader, f"{architecture}.rope.scaling.type")
    factor = _value(reader, f"{architecture}.rope.scaling.factor") or _value(
        reader, f"{architecture}.rope.scale_linear"
    )
    scaled = kind not in (None, "none") or (factor is not None and float(factor) != 1.0)
    if scaled and architecture != "gpt-oss":
        raise SubjectError(
            f"{path}: the file scales rotary positions ({kind or 'linear'}, factor {factor}), which transformers does not "
            "read from GGUF; give the model as a folder"
        )


def _divide_frequencies(model: Any, factors: Tensor, path: Path) -> None:
    """Divide the frequencies of the model's rotary positions, each by its factor."""
    rotary = [m for m in model.modules() if isinstance(getattr(m, "inv_freq", None), Tensor)]
    if not rotary or any(m.inv_freq.shape != factors.shape for m in rotary):
        raise SubjectError(
            f"{path}: its {FACTORS} does not fit the model's rotary positions; give the model as a folder"
        )
    for module in rotary:
        for name in ("inv_freq", "original_inv_freq"):
            if isinstance(getattr(module, name, None), Tensor):
                frequencies = getattr(module, name)
                setattr(module, name, frequencies / factors.to(frequencies))


def _value(reader: Any, key: str) -> Any:
    """A metadata value; None where the file does not state it."""
    field = reader.get_field(key)
    return None if field is None else field.contents()
