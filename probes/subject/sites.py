"""Sites: the linear maps of a model, where an adapter's updates act."""

from __future__ import annotations

import copy
import difflib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from override_gap.probes.subject.devices import materialized
from override_gap.probes.subject.quantised import holds_its_weight, weight_of


@dataclass(frozen=True, eq=False)
class Site:
    """A linear map of the model, by its path."""

    path: str
    d_in: int
    d_out: int
    module: nn.Module

    @property
    def transposed(self) -> bool:
        """Whether the model stores the weight as [d_in, d_out]: GPT-2's Conv1D does."""
        return not isinstance(self.module, nn.Linear)


def find_sites(model: nn.Module) -> dict[str, Site]:
    """Every linear map of a model, by path."""
    shapes = ((path, module, linear_shape(module)) for path, module in model.named_modules())
    return {path: Site(path, shape[1], shape[0], module) for path, module, shape in shapes if shape is not None}


def base_weight(site: Site) -> Float[Tensor, "d_out d_in"]:
    """The base's weight of a linear map in float32, on the CPU; dequantised where it is stored in other numbers.

    Raises AdapterError where it cannot be.
    """
    with materialized(site.module):
        if not holds_its_weight(site.module):
            return weight_of(site.module, site.d_out, site.d_in, site.path)
        weight = site.module.get_parameter("weight").detach()
        return (weight.T if site.transposed else weight).to("cpu", torch.float32, copy=True)


def base_bias(site: Site) -> Float[Tensor, " d_out"]:
    """The base's bias of a linear map in float32, on the CPU; zeros where it has none."""
    with materialized(site.module):
        bias = getattr(site.module, "bias", None)
        return torch.zeros(site.d_out) if bias is None else bias.detach().to("cpu", torch.float32, copy=True)


def nearest_path(path: str, known: Iterable[str]) -> str:
    """The known path most similar to this one, for error messages; "none" where nothing is known."""
    last = path.rsplit(".", 1)[-1]
    known = list(known)
    candidates = [k for k in known if k.endswith("." + last)] or known
    return next(iter(difflib.get_close_matches(path, candidates, n=1, cutoff=0.0)), "none")


def linear_shape(module: Any) -> tuple[int, int] | None:
    """(d_out, d_in) of nn.Linear or of GPT-2's Conv1D, which stores its weight transposed."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    if type(module).__name__ == "Conv1D" and getattr(module, "weight", None) is not None:
        return module.weight.shape[1], module.weight.shape[0]
    return None


@dataclass(frozen=True, eq=False)
class NormalisedInput:
    """n(x) of a norm w * n(x) + b or (1 + w) * n(x): its output at weight 1 minus that at weight 0, bias left out.

    Every LayerNorm and RMSNorm is affine in its weight, so the difference is n(x) for either formula.
    """

    weight_one: nn.Module
    weight_zero: nn.Module

    def __call__(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return self.weight_one(x) - self.weight_zero(x)


@dataclass(frozen=True, eq=False)
class VectorSite:
    """A vector parameter: the module it belongs to, its value in the base and, for a norm's weight, what it multiplies."""

    path: str
    module: nn.Module
    base: Float[Tensor, " d"]
    multiplies: NormalisedInput | None = None


def vector_site(model: nn.Module, sites: Mapping[str, Site], path: str) -> VectorSite | None:
    """The bias of a linear map, or the weight or bias of a norm, by the parameter's path; None for any other path.

    A linear map without a bias can be given one: its base value is zero.
    """
    owner, _, name = path.rpartition(".")
    if name == "bias" and owner in sites:
        return VectorSite(path, sites[owner].module, base_bias(sites[owner]))
    norm: Any = _module(model, owner)
    weight, parameter = getattr(norm, "weight", None), getattr(norm, name, None)
    if norm is None or name not in ("weight", "bias") or owner in sites or weight is None or weight.ndim != 1:
        return None
    if parameter is None:
        return None
    with materialized(norm):
        # the value first: running the norm makes accelerate offload it again
        base, normalised = norm.get_parameter(name).detach().float().cpu(), _normalised_input(norm)
    if normalised is None:
        return None
    return VectorSite(path, norm, base, normalised if name == "weight" else None)


@torch.no_grad()
def _normalised_input(norm: nn.Module) -> NormalisedInput | None:
    """n(x) of a norm; None where the module is not affine in its weight."""
    normalised = NormalisedInput(_with_weight(norm, 1.0), _with_weight(norm, 0.0))
    weight = norm.get_parameter("weight")
    x = torch.randn(4, len(weight), generator=torch.Generator().manual_seed(0)).to(weight)
    bias = getattr(norm, "bias", None)
    try:
        rebuilt = normalised.weight_zero(x) + normalised(x) * weight + (0 if bias is None else bias)
        # `forward`, not a call: an adapter's hooks may be attached
        affine = torch.allclose(
            norm.forward(x), rebuilt, atol=1e-4 if weight.dtype == torch.float32 else 3e-2, rtol=3e-2
        )
    except (TypeError, RuntimeError, IndexError):  # not a function of the stream alone
        return None
    return normalised if affine else None


def _with_weight(norm: nn.Module, value: float) -> nn.Module:
    """A copy of a norm, its weight at one value, without bias or hooks."""
    from accelerate.hooks import ModelHook, remove_hook_from_module

    # accelerate's hook is not copied: it would fetch weights, and refers to all that it knows of
    offload_hook = getattr(norm, "_hf_hook", None)
    duplicate = copy.deepcopy(norm, {} if offload_hook is None else {id(offload_hook): ModelHook()})
    remove_hook_from_module(duplicate)
    # the original's hooks were copied too, and must not act inside another hook
    duplicate._forward_hooks, duplicate._forward_pre_hooks = OrderedDict(), OrderedDict()
    duplicate.get_parameter("weight").fill_(value)
    bias: Any = getattr(duplicate, "bias", None)
    if bias is not None:
        bias.zero_()
    return duplicate


def _module(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None
