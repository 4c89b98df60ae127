"""Constants that older libraries stored beside the weights: causal masks, rotary frequencies, position ids; no weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from override_gap.probes.subject.file_checks import model_files

MASKS = ("bias", "mask", "causal_mask", "attn_mask")
SCALARS = ("masked_bias", "version", "_float_tensor")
ATTENTION = ("attn", "attention", "self_attention")
POSITIONS = ("position_ids",)
FREQUENCIES = ("inv_freq", "original_inv_freq")
TABLES = ("cos_cached", "sin_cached")


def weights_left_over(model: nn.Module, where: str, keys: Sequence[str]) -> list[str]:
    """Those keys of a checkpoint for which the model has no place and which are not constants that its class computes.

    A key is a constant where its name is one of a buffer that libraries have stored and its values are what such a buffer
    holds: whoever stored a weight under that name would be told.
    """
    tensors = _tensors(where, keys)
    return [key for key in keys if key not in tensors or not is_constant(model, key, tensors[key])]


def is_constant(model: nn.Module, key: str, tensor: Tensor) -> bool:
    """Whether a tensor is a mask, a table of positions or a scalar that the model's class computes or needs no longer."""
    owner, _, name = key.rpartition(".")
    module = _module(model, owner)
    if module is not None and name in module._parameters:
        return False
    buffer = None if module is None else module._buffers.get(name)
    if buffer is not None and _same_where_both_are(tensor, buffer):
        return True
    if name in MASKS:
        attention = owner.rpartition(".")[2].endswith(ATTENTION) and not (module and module._parameters)
        return attention and is_causal_mask(tensor)
    if name in SCALARS:
        return tensor.numel() == 1
    if name in POSITIONS:
        return torch.equal(tensor.flatten().long(), torch.arange(tensor.numel()))
    if name in FREQUENCIES:
        return _are_frequencies(tensor, [b for n, b in model.named_buffers() if n.endswith(name)])
    if name in TABLES:
        return _are_rotations(name, tensor)
    return False


def is_causal_mask(tensor: Tensor) -> bool:
    """Whether a tensor is a causal mask: one value where a query sees a key, another above the diagonal, where it sees none.

    Local attention sees a window below the diagonal. The mask of one position is the number 1.
    """
    values = tensor.unique()
    if tensor.numel() == 1:
        return bool(values == 1)
    if len(values) > 2 or tensor.ndim < 2 or tensor.shape[-1] != tensor.shape[-2]:
        return False
    visible = (tensor == tensor[..., :1, :1]).reshape(-1, *tensor.shape[-2:])  # a position always sees itself
    square = visible[0]
    if bool(square.all()):  # GPT-2's of 2019: all ones, cut later
        return bool(visible.all()) and bool((values == 1).all())
    return bool((visible == square).all()) and bool(square.diagonal().all()) and not bool(square.triu(1).any())


def _same_where_both_are(tensor: Tensor, buffer: Tensor) -> bool:
    """Whether two tables agree where both have an entry; a table of more positions holds that of fewer."""
    if tensor.ndim != buffer.ndim:
        return False
    both = tuple(slice(min(a, b)) for a, b in zip(tensor.shape, buffer.shape, strict=True))
    first, second = tensor[both].float(), buffer[both].detach().cpu().float()
    return bool(torch.isclose(first, second, rtol=1e-2, atol=1e-3).all())


def _are_frequencies(tensor: Tensor, computed: Sequence[Tensor]) -> bool:
    """Whether a vector holds rotary frequencies: the model's own, or for one without such a buffer a falling series from 1."""
    same = [b for b in computed if b.shape == tensor.shape]
    if same:
        return any(_same_where_both_are(tensor, b) for b in same)
    series = tensor.float()
    return series.ndim == 1 and bool((series > 0).all()) and bool((series.diff() <= 0).all()) and float(series[0]) <= 1


def _are_rotations(name: str, tensor: Tensor) -> bool:
    """Whether a table holds cosines or sines of angles that are 0 at the first position."""
    table = tensor.float()
    if table.ndim < 2 or not bool((table.abs() <= 1.001).all()):
        return False
    first = table.reshape(-1, table.shape[-1])[0]
    return bool((first == (1.0 if name == "cos_cached" else 0.0)).all())


def _module(model: nn.Module, path: str) -> nn.Module | None:
    """The module at a path of the model or of its trunk; None where there is none."""
    prefix = getattr(model, "base_model_prefix", "")
    for candidate in (path, f"{prefix}.{path}", path.removeprefix(f"{prefix}.")):
        try:
            return model.get_submodule(candidate)
        except AttributeError:
            continue
    return None


def _tensors(where: str, keys: Sequence[str]) -> dict[str, Tensor]:
    """The named tensors of a folder's or a cached repository's safetensors files, whether or not they have the trunk's prefix."""
    from safetensors import safe_open

    folder = Path(where)
    if not folder.is_dir():
        from transformers.utils import cached_file

        config = cached_file(where, "config.json")
        folder = Path(str(config)).parent
    found: dict[str, Tensor] = {}
    for path in model_files(folder):
        with safe_open(str(path), framework="pt") as file:
            for stored in list(file.keys()):
                for key in keys:
                    if key == stored or key.endswith(f".{stored}"):
                        found[key] = file.get_tensor(stored)
    return found
