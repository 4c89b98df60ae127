"""Two pretend devices on any machine: fake tensors hold no numbers, but refuse to meet one of another device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from accelerate import dispatch_model
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from override_gap.probes.subject.model import Subject, wrap
from tests.families import build

FIRST, SECOND = torch.device("cpu", 0), torch.device("cpu", 1)


def hooked(family: str) -> Subject:
    """A tiny model with the hooks that accelerate sets for several devices, all still on the CPU."""
    model, tokenizer = build(family)
    blocks = "transformer.h" if family == "gpt2" else "model.layers"
    inner = model.get_submodule(blocks.split(".")[0])
    outside = [f"{blocks.split('.')[0]}.{name}" for name, _ in inner.named_children() if name not in blocks.split(".")]
    names = [*outside, "lm_head", *(f"{blocks}.{n}" for n in range(len(model.get_submodule(blocks))))]
    dispatch_model(model, dict.fromkeys(names, "cpu"), force_hooks=True)
    return wrap(model, tokenizer, f"tiny-{family}")


@contextmanager
def pretended(subject: Subject, upper: Sequence[int]) -> Iterator[FakeTensorMode]:
    """Inside the block the model's blocks `upper` are on SECOND and all else on FIRST; the subject is unusable afterwards."""
    with FakeTensorMode() as mode:
        for module in subject.model.modules():
            _move(module, FIRST)
        for n in upper:
            for module in subject.blocks[n].modules():
                _move(module, SECOND)
        yield mode


def _move(module: Any, device: torch.device) -> None:
    for tensors in (module._parameters, module._buffers):
        for name, tensor in tensors.items():
            if tensor is not None:
                tensors[name] = on(tensor, device)
    hook = getattr(module, "_hf_hook", None)
    if hook is not None and hasattr(hook, "execution_device"):
        hook.execution_device = device


def on(value: Any, device: torch.device) -> Any:
    """A tensor, or every tensor of a dataclass, as a fake one on a device."""
    if isinstance(value, Tensor):
        fake = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
        return torch.nn.Parameter(fake, requires_grad=False) if isinstance(value, torch.nn.Parameter) else fake
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: on(getattr(value, f.name), device) for f in fields(value)})
    if isinstance(value, tuple):
        return tuple(on(element, device) for element in value)
    return value
