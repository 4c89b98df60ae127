"""Which errors of a pass say that it has no gradient, and which say something else."""

import pytest
import torch

from override_gap.probes.readings import gain_slopes as module
from override_gap.probes.readings.gain_slopes import NoGradient, gain_slopes
from tests.conftest import tiny

NO_GRADIENT = {
    "of a leaf": RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn"),
    "of a kernel": NotImplementedError("the derivative for 'aten::_int_mm' is not implemented"),
    "of a quantiser's function": NotImplementedError(),
    "in inference mode": RuntimeError("Inference tensors cannot be saved for backward."),
}
OTHERS = {
    "memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "memory of the host": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    "a device": RuntimeError("CUDA error: an illegal memory access was encountered"),
    "a device in the backward pass": RuntimeError("CUDA error: unspecified launch failure in backward"),
    "two devices": RuntimeError("Expected all tensors to be on the same device, but found cpu and cuda:0"),
    "a device's missing operator": NotImplementedError("'aten::x' is not currently implemented for the MPS device"),
    "shapes": RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"),
}


@pytest.mark.parametrize("name", [*NO_GRADIENT, *OTHERS])
def test_only_what_has_no_gradient_is_called_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = (NO_GRADIENT | OTHERS)[name]

    def fails(*_: object) -> None:
        raise fault

    monkeypatch.setattr(module, "_slopes", fails)
    given = (tiny("llama"), None, [], torch.zeros(1, 1), lambda final: [final])
    with pytest.raises(NoGradient if name in NO_GRADIENT else type(fault)) as raised:
        getattr(gain_slopes, "__wrapped__", gain_slopes)(*given)
    assert (raised.value is fault) == (name in OTHERS)
