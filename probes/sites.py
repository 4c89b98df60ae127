"""Sites: where an adapter's update acts in a wrapped model."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


class AdapterError(ValueError):
    """An adapter that does not fit the model or changes nothing; the message names it and what did not match."""


@dataclass(frozen=True, eq=False)
class Site:
    """A linear map by its path in the unwrapped model.

    `ports` are the modules whose outputs make up the map's output, each with its slice of it: one module normally,
    several where TransformerLens splits a fused map (GPT-2's c_attn into q, k and v).
    """

    path: str
    d_in: int
    d_out: int
    ports: tuple[tuple[nn.Module, slice], ...]


def find_sites(model: nn.Module) -> dict[str, Site]:
    """Every linear map of a model that is not wrapped yet, by path."""
    found = {}
    for path, module in model.named_modules():
        shape = _linear_shape(module)
        if shape is not None:
            found[path] = Site(path, shape[1], shape[0], ((module, slice(0, shape[0])),))
    return found


def fused_sites(bridge: Any, sites: Mapping[str, Site]) -> dict[str, Site]:
    """Sites that the wrapped model no longer calls, because it runs split copies of them: re-pointed at the copies.

    A fused attention input map holds queries, keys and values one after another in its output.
    """
    alive = {id(module) for module in bridge.original_model.modules()}
    moved = {}
    for layer, block in enumerate(bridge.blocks):
        attention = getattr(block, "attn", None)
        parts = [getattr(getattr(attention, n, None), "original_component", None) for n in ("q", "k", "v")]
        shapes = [_linear_shape(part) if part is not None else None for part in parts]
        if any(shape is None for shape in shapes):
            continue
        total = sum(shape[0] for shape in shapes if shape)
        used = {id(part) for part in parts}
        for path, site in sites.items():
            own = site.ports[0][0]
            fused = site.d_out == total and id(own) not in used and f".{layer}." in path and "attn" in path
            if not fused or (id(own) in alive and not path.endswith(("c_attn", "qkv_proj", "query_key_value"))):
                continue
            ends = torch.tensor([shape[0] for shape in shapes if shape]).cumsum(0).tolist()
            starts = [0, *ends[:-1]]
            ports = tuple(
                (part, slice(a, b)) for part, a, b in zip(parts, starts, ends, strict=True) if part is not None
            )
            moved[path] = Site(path, site.d_in, site.d_out, ports)
    return moved


def nearest(path: str, known: Iterable[str]) -> str:
    """The known path most like this one, for error messages."""
    last = path.rsplit(".", 1)[-1]
    known = list(known)
    alike = [k for k in known if k.endswith("." + last)] or known
    return next(iter(difflib.get_close_matches(path, alike, n=1, cutoff=0.0)), "none")


def _linear_shape(module: Any) -> tuple[int, int] | None:
    """(d_out, d_in) of nn.Linear or of GPT-2's Conv1D, which stores its weight transposed."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    if type(module).__name__ == "Conv1D" and getattr(module, "weight", None) is not None:
        return module.weight.shape[1], module.weight.shape[0]
    return None
