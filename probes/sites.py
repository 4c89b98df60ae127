"""Sites: the linear maps of a model, where an adapter's updates act."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.devices import whole


class AdapterError(ValueError):
    """An adapter that does not fit the model or changes nothing; the message names it and what did not match."""


@dataclass(frozen=True, eq=False)
class Site:
    """A linear map by its path in the model. `transposed`: the model stores the weight as [d_in, d_out]."""

    path: str
    d_in: int
    d_out: int
    module: nn.Module

    @property
    def transposed(self) -> bool:
        """Whether it is GPT-2's Conv1D."""
        return not isinstance(self.module, nn.Linear)


def find_sites(model: nn.Module) -> dict[str, Site]:
    """Every linear map of a model, by path."""
    found = {}
    for path, module in model.named_modules():
        shape = linear_shape(module)
        if shape is not None:
            found[path] = Site(path, shape[1], shape[0], module)
    return found


def base_weight(site: Site) -> Float[Tensor, "d_out d_in"]:
    """The base's weight of a linear map in float32, on the CPU."""
    with whole(site.module):
        own = site.module.get_parameter("weight").detach()
        return (own.T if site.transposed else own).to("cpu", torch.float32, copy=True)


def base_bias(site: Site) -> Float[Tensor, " d_out"]:
    """The base's bias of a linear map in float32, on the CPU; zeros where it has none."""
    with whole(site.module):
        bias = getattr(site.module, "bias", None)
        return torch.zeros(site.d_out) if bias is None else bias.detach().to("cpu", torch.float32, copy=True)


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
