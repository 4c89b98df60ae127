"""Parameters that are no linear map of their own: a mixture's experts, stacked in one tensor, and routers with a weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from override_gap.probes.subject.sites import linear_shape


@dataclass(frozen=True, eq=False)
class ParameterSite:
    """A matrix within a parameter that its module reads by name: all of it, or one expert's part of a stack of experts.

    Its path is the parameter's, `model.layers.0.mlp.gate.weight`, and for an expert the number after it,
    `model.layers.0.mlp.experts.down_proj.3`. An update of it has the orientation in which the model stores the matrix.
    """

    path: str
    module: nn.Module
    name: str
    expert: int | None
    shape: tuple[int, int]

    def base(self) -> Float[Tensor, "rows columns"]:
        """The matrix in float32, on the CPU."""
        value = self.module.get_parameter(self.name).detach()
        return (value if self.expert is None else value[self.expert]).to("cpu", torch.float32, copy=True)


def parameter_site(model: nn.Module, path: str) -> ParameterSite | None:
    """The matrix of this path; None where the path names a linear map, nothing, or what is no matrix of floats."""
    owner, _, name = path.rpartition(".")
    expert = None
    if name.isdecimal():
        expert, (owner, _, name) = int(name), owner.rpartition(".")
    try:
        module = model.get_submodule(owner)
    except AttributeError:
        return None
    value = module._parameters.get(name)
    if value is None or linear_shape(module) is not None or not value.is_floating_point() or value.is_meta:
        return None
    if value.ndim != (2 if expert is None else 3) or isinstance(module, nn.Embedding):
        return None
    if expert is not None and expert >= value.shape[0]:
        return None
    rows, columns = value.shape[-2:]
    return ParameterSite(path, module, name, expert, (rows, columns))
