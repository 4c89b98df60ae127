"""Updates of stacked experts and routers: their module runs once per adapter, on its tokens, with changed weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from override_gap.margins.updates import Update
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.parameters import ParameterSite
from override_gap.probes.timing import timed


@dataclass(frozen=True)
class ParameterUpdates:
    """A parameter's updates for a whole batch: every example's own (document and shared part), which add up."""

    site: ParameterSite
    by_example: tuple[tuple[Update, ...], ...]

    def only(self, examples: Int[Tensor, " chosen"]) -> ParameterUpdates:
        """The updates of these examples of the batch."""
        return ParameterUpdates(self.site, tuple(self.by_example[n] for n in examples.tolist()))

    def add_to(self, value: Tensor, example: int, gain: float) -> None:
        """Add gain * update of one example to the parameter's value, in place."""
        part = value if self.site.expert is None else value[self.site.expert]
        for update in self.by_example[example]:
            part += (gain * update.dense().float()).to(part.device, part.dtype)


@contextmanager
def edited(
    module: nn.Module,
    updates: Sequence[ParameterUpdates],
    gain: Float[Tensor, " batch"],
    tokens_per_example: Callable[[], int],
    ran: Callable[[], None],
) -> Iterator[None]:
    """Inside the block the module runs every example with base + gain * update in place of its parameters.

    Examples of equal updates and gain run together; where all are equal (one adapter for every document), the module sees
    its input whole. Otherwise the tokens are divided among the examples in the batch's order. Raises AdapterError where they
    cannot be: the module then needs batches of one.
    """
    before = vars(module).get("forward")
    forward = module.forward
    gains = gain.tolist()

    def run(*args: Any, **named: Any) -> Any:
        ran()
        groups: dict[tuple[Any, ...], list[int]] = {}
        for n, value in enumerate(gains):
            same = tuple(tuple(map(id, update.by_example[n])) for update in updates) if value else ()
            groups.setdefault((value, same), []).append(n)
        if len(groups) == 1:
            return _with_updates(module, updates, 0, gains[0], lambda: forward(*args, **named))
        first = next(value for value in (*args, *named.values()) if isinstance(value, Tensor))
        rows = _rows(module, first, len(gains), tokens_per_example())
        outputs: list[Any] = []
        for examples in groups.values():
            chosen = rows[examples].flatten()
            taken = [
                [_take(v, chosen, len(first)) for v in args],
                {k: _take(v, chosen, len(first)) for k, v in named.items()},
            ]
            n = examples[0]
            outputs.append(
                _with_updates(module, updates, n, gains[n], lambda taken=taken: forward(*taken[0], **taken[1]))
            )
        order = torch.cat([rows[examples].flatten() for examples in groups.values()]).argsort()
        return _joined(outputs, order)

    vars(module)["forward"] = run
    try:
        yield
    finally:
        vars(module).pop("forward", None)
        if before is not None:
            vars(module)["forward"] = before


def _with_updates(
    module: nn.Module, updates: Sequence[ParameterUpdates], example: int, gain: float, call: Callable[[], Any]
) -> Any:
    """A call with one example's updates in the module's parameters; the parameters themselves are left as they are."""
    if not gain:
        return call()
    own = module._parameters
    kept: Mapping[str, Any] = {name: own[name] for name in dict.fromkeys(update.site.name for update in updates)}
    try:
        with timed("hooks"):
            for name, parameter in kept.items():
                own[name] = nn.Parameter(parameter.detach().clone(), requires_grad=False)
            for update in updates:
                changed = own[update.site.name]
                assert changed is not None
                update.add_to(changed.data, example, gain)
        return call()
    finally:
        own.update(kept)


def _rows(module: nn.Module, x: Tensor, examples: int, tokens: int) -> Int[Tensor, "batch row"]:
    """Which rows of a module's input belong to which example: the first dimension is the batch, or all its tokens in order."""
    if x.ndim > 2 and len(x) == examples:
        return torch.arange(examples)[:, None]
    if len(x) == examples * tokens:
        return torch.arange(len(x)).reshape(examples, tokens)
    raise AdapterError(
        f"{type(module).__name__} sees a tensor of shape {list(x.shape)} for {examples} examples of {tokens} tokens: its "
        "examples cannot be told apart, so no adapter can be given to each; use --batch-size 1"
    )


def _take(value: Any, rows: Int[Tensor, " row"], length: int) -> Any:
    """The rows of a tensor whose first dimension is the input's; anything else as it is."""
    if isinstance(value, Tensor) and value.ndim and len(value) == length:
        return value[rows.to(value.device)]
    return value


def _joined(outputs: Sequence[Any], order: Int[Tensor, " row"]) -> Any:
    """The outputs of several runs as one, rows in the input's order; a router gives a row per token for one per example."""
    first = outputs[0]
    if isinstance(first, Tensor) and first.ndim:
        together = torch.cat(list(outputs))
        times = len(together) // len(order)
        rows = (order[:, None] * times + torch.arange(times)).flatten()
        return together[rows.to(together.device)]
    if isinstance(first, tuple | list):
        return type(first)(_joined(parts, order) for parts in zip(*outputs, strict=True))
    return first
