"""Adapters attached as hooks: one adapter per example of a batch, one gain per layer, no trace left on exit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from override_gap.margins.adapter import layer_of
from override_gap.probes.attach.parameters import ParameterUpdates, edited
from override_gap.probes.attach.stack import Factors, Matrices, Rescales, Shared, Stack, Vectors, acts_on, module_path
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.live_model import LiveModel
from override_gap.probes.subject.row_layouts import Layout, rows_of
from override_gap.probes.timing import timed

#: One gain per layer, or per path of an update.
Gains = Float[Tensor, "batch layer"] | Mapping[str, Float[Tensor, " batch"]]
Watch = Callable[[str, Float[Tensor, "#batch #pos d_out"]], None]


@contextmanager
def attached(subject: LiveModel, adapters: Stack, gains: Gains, *, watch: Watch | None = None) -> Iterator[LiveModel]:
    """Add gain * update at every site of every example; on exit, also after an error, the subject is as it was.

    `gains`: one per layer, or one per path, which updates of one module's stacked parameters must then have in common.
    `watch` is called with a site's path and what its update adds to the output there, rows in front. Raises AdapterError if
    a site was never run inside the block, since its update would have been silently ignored; a routed expert may not be.
    """
    owners = {p: module_path(p, u) for p, u in adapters.sites.items() if not isinstance(u, ParameterUpdates)}
    layouts = subject.rows.of(list(owners.values()))
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
            gain = _gain_of(gains, parts[0].site.path).to(torch.float32)
            note_reached = partial(reached.update, [part.site.path for part in parts])
            undo.enter_context(edited(module, parts, gain, lambda: positions, note_reached))
        for path, update in adapters.sites.items():
            if isinstance(update, ParameterUpdates):
                continue
            gain = _gain_of(gains, path).to(subject.device, torch.float32)
            split = partial(_split, path, layouts[owners[path]], lambda: positions)
            hook = _add_update(update, gain, path, split, reached, watch)
            # before other updates of the same map, since it takes the map's own output
            first = isinstance(update, Rescales)
            undo.callback(acts_on(subject, path, update).register_forward_hook(hook, prepend=first).remove)
        yield subject
    routed = {path for path, owner in owners.items() if layouts[owner] == "selection"}
    missed = [path for path in adapters.sites if path not in reached | routed]
    if ran and missed:
        raise AdapterError(f"{missed[0]} was never run by the model, so an update of it changes nothing")


def _gain_of(gains: Gains, path: str) -> Float[Tensor, " batch"]:
    """The gain of an update: its layer's, or its own."""
    return gains[path] if isinstance(gains, Mapping) else gains[:, layer_of(path)]


def _by_module(adapters: Stack) -> dict[nn.Module, list[ParameterUpdates]]:
    """The updates of stacked experts and routers, by the module that reads them."""
    parts: dict[nn.Module, list[ParameterUpdates]] = {}
    for update in adapters.sites.values():
        if isinstance(update, ParameterUpdates):
            parts.setdefault(update.site.module, []).append(update)
    return parts


def _add_update(
    update: Factors | Matrices | Rescales | Shared | Vectors,
    gain: Float[Tensor, " batch"],
    path: str,
    split: Callable[[Tensor, int], Float[Tensor, "batch vectors d_in"]],
    reached: set[str],
    watch: Watch | None,
) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], out: Any) -> Tensor:
        x = args[0]
        if not isinstance(out, Tensor):
            raise AdapterError(f"{path} gives more than the product with its weight, so no update can be added to it")
        rows = split(x, len(gain))
        reached.add(path)
        with timed("hooks"):
            split_out = out if rows is x else out.reshape(len(rows), -1, out.shape[-1])
            if rows is x and watch is None and isinstance(update, Factors) and _is_ours(module, x, out):
                update.add_to(out, rows, gain.to(x.device))
                return out
            if isinstance(update, Rescales):
                bias = getattr(module, "bias", None)
                added = update(rows, gain.to(x.device), split_out if bias is None else split_out - bias)
            else:
                added = update(rows, gain.to(x.device))
            if watch is not None:
                watch(path, added)
            return (split_out + added).reshape(out.shape)

    return hook


def _is_ours(module: nn.Module, x: Tensor, out: Tensor) -> bool:
    """Whether a map's output may be changed in its place: it was just made, nobody else was given it, no gradient is kept.

    And it has its input's format, which under autocast it need not.
    """
    alone = type(module) is nn.Linear and len(module._forward_hooks) == 1 and not torch.is_grad_enabled()
    return alone and x.dtype == out.dtype and not torch.is_autocast_enabled(out.device.type)


def _split(
    path: str, layout: Layout, positions: Callable[[], int], x: Tensor, batch: int
) -> Float[Tensor, "batch vectors d_in"]:
    """A module's input with the batch's rows in front. Raises AdapterError where they cannot be told apart."""
    rows = rows_of(x, layout, batch, positions())
    if rows is not None:
        return rows
    sees = "some of the tokens" if layout == "selection" else f"a tensor of shape {list(x.shape)}"
    raise AdapterError(
        f"{path} sees {sees}, not [{batch}, {positions()} positions, width]: its examples cannot be told apart, so no adapter "
        "can be given to each; use --batch-size 1"
    )
