"""The final norm as numbers, read from what the module computes: weights or none, w or 1 + w, centred or not, epsilon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from override_gap.margins.attribution import FinalNorm

EPSILONS = ("eps", "variance_epsilon", "epsilon", "norm_eps", "layer_norm_eps", "layernorm_epsilon")
WEIGHTS, BIASES = ("weight", "scale", "gamma"), ("bias", "beta")
SMALL = 0.01
"""At rows of this size an epsilon of 1e-5 divides by 5% more than one of 1e-6; at size 1 by 0.0005% more."""


@torch.no_grad()
def final_norm(module: nn.Module | None, width: int, device: torch.device, dtype: torch.dtype) -> FinalNorm | None:
    """The norm that a module computes; None where it is neither LayerNorm nor RMSNorm.

    Without a module the final state is the last block's output: then the norm is the identity.

    Decided by what the module computes, not by its name: RMSNorms that multiply by w and by 1 + w have the same parameters,
    and a norm without parameters (OLMo's, nanochat's) multiplies by 1. An epsilon that no attribute states is measured.
    """
    if module is None:
        one = torch.ones(width, device=device)
        return FinalNorm(one, torch.zeros_like(one), 0.0, centred=False, divides=False)
    own = next(module.parameters(), None)
    device, dtype = (device, dtype) if own is None else (own.device, own.dtype)
    x = torch.randn(4, width, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    try:
        large, small = module(x).float(), module(SMALL * x).float()
    except (TypeError, RuntimeError, IndexError):  # not a function of the stream alone
        return None
    if large.shape != x.shape:
        return None
    for norm in _candidates(module, (SMALL * x).float(), small):
        at_one = torch.allclose(norm(x.float()), large, atol=tolerance, rtol=tolerance)
        # half precision cannot tell such epsilons apart, nor does it matter there
        at_small = dtype != torch.float32 or torch.allclose(norm((SMALL * x).float()), small, atol=1e-3, rtol=1e-3)
        if at_one and at_small:
            return norm
    return None


def _candidates(
    module: nn.Module, x: Float[Tensor, "row d_model"], output: Float[Tensor, "row d_model"]
) -> Iterator[FinalNorm]:
    """Norms with the module's own parameters: centred or not, w or 1 + w, the stated epsilon or the one that fits `output`."""
    weight = _vector(module, WEIGHTS, x.shape[1])
    bias = _vector(module, BIASES, x.shape[1])
    weights = [torch.ones_like(x[0])] if weight is None else [weight, weight + 1.0]
    bias = torch.zeros_like(x[0]) if bias is None else bias
    stated = next((float(getattr(module, name)) for name in EPSILONS if hasattr(module, name)), 1e-6)
    for epsilon in (stated, None):
        for centred in (True, False):
            for effective in weights:
                norm = FinalNorm(effective, bias, 0.0, centred)
                yield FinalNorm(effective, bias, _epsilon(norm, x, output) if epsilon is None else epsilon, centred)


def _epsilon(norm: FinalNorm, x: Float[Tensor, "row d_model"], output: Float[Tensor, "row d_model"]) -> float:
    """The epsilon with which a norm gives this output, by least squares: s^2 - mean(x^2), s the scale that was divided by."""
    numerator, quotient = norm.centre(x) * norm.weight, output - norm.bias
    scale = (numerator.square().sum(-1) / (numerator * quotient).sum(-1)).square()
    fitted = float((scale - norm.centre(x).square().mean(-1)).median().clamp_min(0.0))
    return float(f"{fitted:.3g}")


def _vector(module: nn.Module, names: tuple[str, ...], width: int) -> Float[Tensor, " d_model"] | None:
    """The module's parameter of one of these names, in float32; None where it has none of this width."""
    found: list[Any] = [getattr(module, name, None) for name in names]
    return next((v.detach().float() for v in found if isinstance(v, Tensor) and v.shape == (width,)), None)
