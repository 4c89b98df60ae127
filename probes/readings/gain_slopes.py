"""Slopes: how fast a model's logits change as its adapter's updates are turned up, by one forward pass and backward passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.probes.attach.hooks import Gains, attached
from override_gap.probes.attach.stack import Stack
from override_gap.probes.errors import SubjectError
from override_gap.probes.readings.batching import out_of_memory
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.partial_forward import ResumePoint

NO_GRADIENT = "{name}: no gradient reaches the adapter's gains, so nothing can be split along the path of gains"
FAILED = "{name}: its forward pass has no gradient, so nothing can be split along the path of gains ({reason})"


OF_GRADIENTS = (
    "require grad",
    "requires_grad",
    "grad_fn",
    "gradient",
    "derivative",
    "differentiat",
    "backward",
    "inference tensor",
    "inference mode",
)
"""What torch's errors speak of where a pass, or a kernel in it, has no gradient."""
OF_A_DEVICE = ("cuda error", "hip error", "cublas", "cudnn", "mps device", "same device", "accelerator")


class NoGradient(SubjectError):
    """The model's pass cannot be differentiated by the gains of its adapter."""


ReadFinal = Callable[[Float[Tensor, "batch d_model"]], Sequence[Float[Tensor, " batch"]]]


def gain_slopes(
    subject: Subject,
    batch: Batch,
    adapters: Sequence[tuple[Stack, Gains]],
    gains: Float[Tensor, "batch gain"],
    read: ReadFinal,
    resume: ResumePoint | None = None,
) -> list[Float[Tensor, "batch gain"]]:
    """Derivatives of what `read` makes of the final state at `batch.at`, by `gains`; one tensor per quantity, on the CPU.

    `adapters`: what is attached, each with its gains, which are made from `gains`, a leaf that requires gradients. `resume`
    as `forward` takes it. Raises NoGradient where no gradient reaches the gains, as through some quantised maps.
    """
    try:
        slopes = _slopes(subject, batch, adapters, gains, read, resume)
    except (RuntimeError, NotImplementedError) as fault:
        if not lacks_gradient(fault):
            raise
        raise NoGradient(FAILED.format(name=subject.name, reason=" ".join(str(fault).split()))) from fault
    if slopes is None:
        raise NoGradient(NO_GRADIENT.format(name=subject.name))
    return slopes


def lacks_gradient(fault: BaseException) -> bool:
    """Whether an error says that something cannot be differentiated; lack of memory and a device's errors say other things."""
    message = str(fault).lower()
    if out_of_memory(fault) or any(words in message for words in OF_A_DEVICE):
        return False
    return isinstance(fault, NotImplementedError) or any(words in message for words in OF_GRADIENTS)


def _slopes(
    subject: Subject,
    batch: Batch,
    adapters: Sequence[tuple[Stack, Gains]],
    gains: Float[Tensor, "batch gain"],
    read: ReadFinal,
    resume: ResumePoint | None,
) -> list[Float[Tensor, "batch gain"]] | None:
    """The derivatives; None where what is read does not depend on the gains."""
    with torch.enable_grad(), ExitStack() as undo:
        for stack, of_stack in adapters:
            undo.enter_context(attached(subject, stack, of_stack))
        final = forward(subject, batch, batch.at[:, None], resume=resume, gradients=True).final[:, 0]
        quantities = read(final)
        if not all(quantity.requires_grad for quantity in quantities):
            return None
        last = len(quantities) - 1
        return [
            torch.autograd.grad(quantity.sum(), gains, retain_graph=n < last)[0].detach().cpu()
            for n, quantity in enumerate(quantities)
        ]
