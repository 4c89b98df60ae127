"""The weight of a linear map whose parameter is not the weight itself: quantised to 8 or 4 bits, packed, or scaled in blocks."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from override_gap.probes.environment import quietly
from override_gap.probes.errors import AdapterError

LINEARITY = 0.05
"""Largest relative difference between a map's output and that of the weight read from it; 8-bit maps round their inputs too."""
LIBRARY = 0.01
"""Largest relative difference at which a library's own dequantisation, which has more digits, is taken."""
CHUNK = 1024


def holds_its_weight(module: nn.Module) -> bool:
    """Whether a map's parameter is the weight it multiplies by: floats of at least 16 bits, in the class's own forward."""
    weight = module._parameters.get("weight")
    own = isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward
    plain = own or type(module).__name__ == "Conv1D"
    return plain and type(weight) is nn.Parameter and weight.is_floating_point() and weight.element_size() >= 2


@torch.no_grad()
def weight_of(module: nn.Module, d_out: int, d_in: int, path: str) -> Float[Tensor, "d_out d_in"]:
    """The weight [d_out, d_in] that a map multiplies by, in float32, on the CPU: what it makes of the unit vectors.

    The library's own rule has more digits and is taken where it agrees with that. Raises AdapterError where it does not,
    where the map does not run on unit vectors, and where it is not linear.
    """
    kind = type(module).__name__
    need = f"{path} is a {kind}, whose weight is stored in other numbers; this adapter needs the weight itself"
    try:
        zero = _output(module, torch.zeros(1, d_in))
        rows = [_output(module, part) - zero for part in torch.eye(d_in).split(CHUNK)]
        x = torch.randn(8, d_in, generator=torch.Generator().manual_seed(0))
        wanted = _output(module, x) - zero
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError, ImportError) as fault:
        reason = " ".join(str(fault).split())[:160]
        raise AdapterError(
            f"{need}, and it does not run on unit vectors ({reason}); give the unquantised model"
        ) from fault
    weight = torch.cat(rows).T.contiguous()
    if weight.shape != (d_out, d_in) or not (wanted - x @ weight.T).norm() <= LINEARITY * wanted.norm():
        raise AdapterError(f"{need}, and its output is no linear function of its input; give the unquantised model")
    library = _dequantised(module)
    if library is None:
        return weight
    if library.shape != weight.shape or not (library - weight).norm() <= LIBRARY * weight.norm():
        # bitsandbytes packs 4-bit weights anew when they first run on a CPU; PEFT then takes a norm of other numbers
        raise AdapterError(
            f"{need}, and what its library makes of the stored numbers is not what the map computes (bitsandbytes repacks 4-bit "
            "weights on the CPU, after which PEFT's own DoRA is wrong too); use a GPU or the unquantised model"
        )
    return library


def _output(module: nn.Module, x: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_out"]:
    """The map's own output, without hooks."""
    place = next((p for p in (*module.parameters(), *module.buffers()) if not p.is_meta), torch.zeros(()))
    out: Any = None
    with quietly():
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            try:
                out = type(module).forward(module, x.to(place.device, dtype))
                break
            except RuntimeError:
                if dtype == torch.float16:
                    raise
    return out.float().cpu()


def _dequantised(module: nn.Module) -> Tensor | None:
    """The weight by the library's own rule, where that changes nothing in the module; None where it is not known.

    PEFT's `dequantize_module_weight` is not called: for 8 bits it replaces the module's weight.
    """
    weight: Any = module._parameters.get("weight")
    kind = type(weight).__name__
    if kind == "Int8Params":
        scale = weight.SCB if weight.SCB is not None else getattr(getattr(module, "state", None), "SCB", None)
        # LLM.int8: each row is stored as 127 * row / max|row|
        return None if scale is None else (weight.detach().float() * scale.float()[:, None] / 127).cpu()
    if kind == "Params4bit" and weight.quant_state is not None:
        from bitsandbytes.functional import dequantize_4bit  # pyright: ignore[reportMissingImports]

        return dequantize_4bit(weight.detach(), weight.quant_state).float().cpu()
    return None
