"""Sites: the linear maps of a model, where an adapter's updates act once it is wrapped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from probes.devices import whole

Rows = slice | Int[Tensor, " rows"]
Ports = tuple[tuple[nn.Module, Rows], ...]


class AdapterError(ValueError):
    """An adapter that does not fit the model or changes nothing; the message names it and what did not match."""


@dataclass(frozen=True, eq=False)
class Site:
    """A linear map by its path in the unwrapped model.

    `ports` are the modules whose outputs make up the map's output, each with its rows of it: one module normally,
    several where TransformerLens splits a fused map (GPT-2's c_attn into q, k and v), none where it splits it in a way
    that no hook can follow. `transposed`: the model stores the weight as [d_in, d_out].
    """

    path: str
    d_in: int
    d_out: int
    ports: Ports
    transposed: bool = False


def find_sites(model: nn.Module) -> dict[str, Site]:
    """Every linear map of a model that is not wrapped yet, by path."""
    found = {}
    for path, module in model.named_modules():
        shape = linear_shape(module)
        if shape is not None:
            found[path] = Site(
                path, shape[1], shape[0], ((module, slice(0, shape[0])),), not isinstance(module, nn.Linear)
            )
    return found


def base_weight(site: Site) -> Float[Tensor, "d_out d_in"]:
    """The base's weight of a linear map in float32, on the CPU, put together from its ports."""
    weight = torch.zeros(site.d_out, site.d_in)
    for module, rows in site.ports:
        with whole(module):
            own = module.get_parameter("weight").detach()
            weight[rows] = (own if isinstance(module, nn.Linear) else own.T).float().cpu()
    return weight


def base_bias(site: Site) -> Float[Tensor, " d_out"]:
    """The base's bias of a linear map in float32, on the CPU; zeros where it has none."""
    found = torch.zeros(site.d_out)
    for module, rows in site.ports:
        with whole(module):
            bias = getattr(module, "bias", None)
            if bias is not None:
                found[rows] = bias.detach().float().cpu()
    return found


def nearest(path: str, known: Iterable[str]) -> str:
    """The known path most like this one, for error messages."""
    last = path.rsplit(".", 1)[-1]
    known = list(known)
    alike = [k for k in known if k.endswith("." + last)] or known
    return next(iter(difflib.get_close_matches(path, alike, n=1, cutoff=0.0)), "none")


def linear_shape(module: Any) -> tuple[int, int] | None:
    """(d_out, d_in) of nn.Linear or of GPT-2's Conv1D, which stores its weight transposed."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    if type(module).__name__ == "Conv1D" and getattr(module, "weight", None) is not None:
        return module.weight.shape[1], module.weight.shape[0]
    return None
