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
    with materialized(site.module):
        own = site.module.get_parameter("weight").detach()
        return (own.T if site.transposed else own).to("cpu", torch.float32, copy=True)


def base_bias(site: Site) -> Float[Tensor, " d_out"]:
    """The base's bias of a linear map in float32, on the CPU; zeros where it has none."""
    with materialized(site.module):
        bias = getattr(site.module, "bias", None)
        return torch.zeros(site.d_out) if bias is None else bias.detach().to("cpu", torch.float32, copy=True)


def nearest_path(path: str, known: Iterable[str]) -> str:
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


@dataclass(frozen=True, eq=False)
class Normalised:
    """n(x) of a norm w * n(x) + b or (1 + w) * n(x), from two copies of it: weight 1 less weight 0, both without bias.

    Every LayerNorm and RMSNorm is a straight line in its weight, so that the difference is n(x) whatever its offset.
    """

    one: nn.Module
    none: nn.Module

    def __call__(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return self.one(x) - self.none(x)


@dataclass(frozen=True, eq=False)
class VectorSite:
    """A parameter that is a vector: whose output it changes, what it multiplies (a norm's weight) and the base's value."""

    path: str
    module: nn.Module
    base: Float[Tensor, " d"]
    multiplies: Normalised | None = None


def vector_site(model: nn.Module, sites: Mapping[str, Site], path: str) -> VectorSite | None:
    """The bias of a linear map, or the weight or bias of a norm, by the parameter's path; None for any other path.

    A linear map without a bias takes one that starts at zero.
    """
    owner, _, name = path.rpartition(".")
    if name == "bias" and owner in sites:
        return VectorSite(path, sites[owner].module, base_bias(sites[owner]))
    own: Any = _module(model, owner)
    weight, old = getattr(own, "weight", None), getattr(own, name, None)
    if own is None or name not in ("weight", "bias") or owner in sites or weight is None or weight.ndim != 1:
        return None
    if old is None:
        return None
    with materialized(own):
        # in this order: what is tried out in there is taken away again by accelerate
        base, normalised = own.get_parameter(name).detach().float().cpu(), _normalised(own)
    if normalised is None:
        return None
    return VectorSite(path, own, base, normalised if name == "weight" else None)


@torch.no_grad()
def _normalised(norm: nn.Module) -> Normalised | None:
    """The two copies, or None where the module is no straight line in its weight."""
    copies = [_with_weight(norm, value) for value in (1.0, 0.0)]
    found = Normalised(*copies)
    weight = norm.get_parameter("weight")
    x = torch.randn(4, len(weight), generator=torch.Generator().manual_seed(0)).to(weight)
    bias = getattr(norm, "bias", None)
    try:
        rebuilt = found.none(x) + found(x) * weight + (0 if bias is None else bias)
        # without the hooks of adapters that are attached
        straight = torch.allclose(
            norm.forward(x), rebuilt, atol=1e-4 if weight.dtype == torch.float32 else 3e-2, rtol=3e-2
        )
    except (TypeError, RuntimeError, IndexError):  # not a function of the stream alone
        return None
    return found if straight else None


def _with_weight(norm: nn.Module, value: float) -> nn.Module:
    from accelerate.hooks import ModelHook, remove_hook_from_module

    # nor may it fetch weights of its own, or hold all those that accelerate's hook knows
    theirs = getattr(norm, "_hf_hook", None)
    made = copy.deepcopy(norm, {} if theirs is None else {id(theirs): ModelHook()})
    remove_hook_from_module(made)
    # a copy has the hooks of its original, which must not act inside another hook
    made._forward_hooks, made._forward_pre_hooks = OrderedDict(), OrderedDict()
    made.get_parameter("weight").fill_(value)
    bias: Any = getattr(made, "bias", None)
    if bias is not None:
        bias.zero_()
    return made


def _module(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None
