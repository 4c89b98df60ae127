"""Adapters attached as hooks: one adapter per example of a batch, one gain per layer, no trace left on exit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from override_gap.margins.adapter import layer_of
from override_gap.probes.attach.parameters import ParameterUpdates, edited
from override_gap.probes.attach.stack import Factors, Matrices, Rescales, Stack, Vectors, acts_on
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.model import Subject
from override_gap.probes.timing import timed

Watch = Callable[[str, Float[Tensor, "#batch #pos d_out"]], None]


@contextmanager
def attached(
    subject: Subject, adapters: Stack, gains: Float[Tensor, "batch layer"], *, watch: Watch | None = None
) -> Iterator[Subject]:
    """Add gain * update at every site of every example; on exit, also after an error, the subject is as it was.

    `watch` is called with a site's path and what its update adds to the output there. Raises AdapterError if a site was
    never run inside the block: its update would have been silently ignored.
    """
    reached: set[str] = set()
    ran, positions = False, 0

    def note_forward(*_: Any) -> None:
        nonlocal ran
        ran = True

    def note_positions(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        nonlocal positions
        ids = args[0] if args else named.get("input_ids", named.get("inputs_embeds"))
        positions = 0 if ids is None else ids.shape[1]

    with ExitStack() as undo:
        undo.callback(subject.decoder.register_forward_pre_hook(note_positions, with_kwargs=True).remove)
        undo.callback(subject.decoder.register_forward_hook(note_forward).remove)
        for module, parts in _by_module(adapters).items():
            gain = gains[:, layer_of(parts[0].site.path)].to(torch.float32)
            note_reached = partial(reached.update, [part.site.path for part in parts])
            undo.enter_context(edited(module, parts, gain, lambda: positions, note_reached))
        for path, update in adapters.sites.items():
            if isinstance(update, ParameterUpdates):
                continue
            gain = gains[:, layer_of(path)].to(subject.device, torch.float32)
            hook = _add_update(update, gain, path, reached, watch)
            # before other updates of the same map, since it takes the map's own output
            first = isinstance(update, Rescales)
            undo.callback(acts_on(subject, path, update).register_forward_hook(hook, prepend=first).remove)
        yield subject
    missed = [path for path in adapters.sites if path not in reached]
    if ran and missed:
        raise AdapterError(f"{missed[0]} was never run by the model, so an update of it changes nothing")


def _by_module(adapters: Stack) -> dict[nn.Module, list[ParameterUpdates]]:
    """The updates of stacked experts and routers, by the module that reads them."""
    parts: dict[nn.Module, list[ParameterUpdates]] = {}
    for update in adapters.sites.values():
        if isinstance(update, ParameterUpdates):
            parts.setdefault(update.site.module, []).append(update)
    return parts


def _add_update(
    update: Factors | Matrices | Rescales | Vectors,
    gain: Float[Tensor, " batch"],
    path: str,
    reached: set[str],
    watch: Watch | None,
) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
        x = args[0]
        if x.ndim != 3 or len(x) != len(gain):
            raise AdapterError(
                f"{path} sees a tensor of shape {list(x.shape)}, not [{len(gain)}, positions, width]: its examples cannot "
                "be told apart, so no adapter can be given to each"
            )
        reached.add(path)
        with timed("hooks"):
            if isinstance(update, Rescales):
                bias = getattr(module, "bias", None)
                added = update(x, gain.to(x.device), out if bias is None else out - bias)
            else:
                added = update(x, gain.to(x.device))
            if watch is not None:
                watch(path, added)
            return out + added

    return hook
