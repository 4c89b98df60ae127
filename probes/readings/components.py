"""Components: a margin split over attention, its heads and the MLP of every layer, in the base and in the adapted model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from override_gap.margins.adapter import layer_of
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.parameters import ParameterUpdates
from override_gap.probes.attach.stack import Rescales, Stack, module_path
from override_gap.probes.errors import SubjectError
from override_gap.probes.readings.layers import LARGEST_GAP
from override_gap.probes.readings.prior import Prior
from override_gap.probes.subject.forward import forward
from override_gap.probes.subject.model import NO_NORM, Subject
from override_gap.probes.subject.parity import unit_roundoff
from override_gap.probes.subject.stream_writers import Heads, Writer, entering, first_tensor

Writers = Sequence[Sequence[Writer]]


@dataclass(frozen=True)
class Component:
    """What writes into the stream: `embedding` of layer -1, or a layer's `attention`, `mlp`, `head` with a number, or `bias`.

    A `bias` is what the output map of attention adds whatever its heads give.
    """

    layer: int
    name: str
    head: int | None = None


@dataclass(frozen=True)
class Components:
    """The margin M = z[y_pre] - z[y_doc] of a batch by component, nats, before any logit cap; `closed`: rows that add up.

    `base` and `adapted` are attributions, each with its own model's final norm frozen; the others are at the adapted model's
    final scale. `rescaled`: the base's share. `own`: what the layer's updates change of it while the stream that enters the
    layer is the base's. `response`: what the layer without its updates changes of it when the adapted model's stream
    enters. So adapted - base = (rescaled - base) + own + response + rest: what the final norm does to all alike, what the
    updates do themselves, how the base's own layer answers what came from below, and what updates make of that change.
    """

    names: tuple[Component, ...]
    base: Float[Tensor, "batch component"]
    adapted: Float[Tensor, "batch component"]
    rescaled: Float[Tensor, "batch component"]
    own: Float[Tensor, "batch component"]
    response: Float[Tensor, "batch component"]
    closed: Bool[Tensor, " batch"]
    heads_closed: Bool[Tensor, " batch"]

    @property
    def added(self) -> list[int]:
        """The numbers of the components that add up to the margin: all but heads and biases, which are parts of attention."""
        return [n for n, component in enumerate(self.names) if component.name not in ("head", "bias")]


@dataclass(frozen=True)
class _Shares:
    """One pass: each component's product with the margin's direction before the final scale, and that scale.

    `missed` is the gap between the sum and the margin, `missed_heads` the largest between a layer's heads and its attention,
    `rounding` what the rounding of the stream can do to the margin; nats.
    """

    products: Float[Tensor, "batch component"]
    scale: Float[Tensor, "batch 1"]
    constant: Float[Tensor, " batch"]
    missed: Float[Tensor, " batch"]
    missed_heads: Float[Tensor, " batch"]
    rounding: Float[Tensor, " batch"]

    def at(self, scale: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch component"]:
        """The shares of the margin at a final scale; the constants are the embedding's."""
        shares = self.products / scale
        shares[:, 0] += self.constant
        return shares


def read_components(
    subject: Subject, prior: Prior, adapters: Stack, gains: Float[Tensor, "batch layer"], writers: Writers
) -> Components:
    """Split the margin of the base and of the adapted model over components: four passes. `writers`: of `stream_writers`.

    Attention plus MLP of a layer is its attribution in `read_layers`, and heads plus bias are its attention; the rows that
    miss either by more than rounding are marked. The batch's rows are cut after the last position that is read.
    Raises SubjectError where the final norm is neither LayerNorm nor RMSNorm.
    """
    if subject.norm is None:
        raise SubjectError(f"{subject.name}: {NO_NORM}")
    names = component_names(writers)
    short = prior.only(range(len(prior.pre)))
    streams: tuple[list[Tensor], list[Tensor]] = ([], [])
    base = _pass(subject, short, writers, names, None, gains, keep=streams[0])
    adapted = _pass(subject, short, writers, names, adapters, gains, keep=streams[1])
    updates_alone = _pass(subject, short, writers, names, adapters, gains, given=streams[0])
    stream_alone = _pass(subject, short, writers, names, None, gains, given=streams[1])
    return Components(
        names,
        base.at(base.scale),
        adapted.at(adapted.scale),
        base.at(adapted.scale),
        (updates_alone.products - base.products) / adapted.scale,
        (stream_alone.products - base.products) / adapted.scale,
        (base.missed <= base.rounding) & (adapted.missed <= adapted.rounding),
        (base.missed_heads <= base.rounding) & (adapted.missed_heads <= adapted.rounding),
    )


def component_names(writers: Writers) -> tuple[Component, ...]:
    """The components of a model in stored order: the embedding, then by layer attention, MLP, heads, and the heads' bias."""
    names = [Component(-1, "embedding")]
    for layer, modules in enumerate(writers):
        if any(writer.mixes for writer in modules):
            names.append(Component(layer, "attention"))
        if not all(writer.mixes for writer in modules):
            names.append(Component(layer, "mlp"))
        heads = _heads(modules)
        if heads is not None:
            names += [Component(layer, "head", number) for number in range(heads.count)]
            names.append(Component(layer, "bias"))
    return tuple(names)


def _heads(modules: Sequence[Writer]) -> Heads | None:
    """The heads of a layer; None where several modules mix positions, or the one that does has no heads that can be told."""
    mixing = [writer for writer in modules if writer.mixes]
    return mixing[0].heads if len(mixing) == 1 else None


@torch.no_grad()
def _pass(
    subject: Subject,
    prior: Prior,
    writers: Writers,
    names: Sequence[Component],
    adapters: Stack | None,
    gains: Float[Tensor, "batch layer"],
    *,
    keep: list[Tensor] | None = None,
    given: Sequence[Tensor] | None = None,
) -> _Shares:
    """Run the batch and read what each component writes; `keep` gets every block's input, `given` takes its place."""
    at_position: dict[nn.Module, Tensor] = {}
    into_map: dict[nn.Module, Tensor] = {}
    rows = torch.arange(len(prior.pre))

    def read(tensor: Tensor) -> Tensor:
        by_row = tensor.reshape(len(rows), -1, tensor.shape[-1])
        return by_row[rows.to(tensor.device), prior.batch.at.to(tensor.device)]

    def note(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        at_position[module] = read(first_tensor(out)).float().to(subject.device)
        if module in maps:
            into_map[module] = read(args[0])

    def note_input(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        assert keep is not None
        keep.append((args[0] if args else named["hidden_states"]).clone())  # some blocks add to it in place

    maps = {heads.module for modules in writers if (heads := _heads(modules)) is not None}
    watched = dict.fromkeys([*(w.module for modules in writers for w in modules), *maps])
    with ExitStack() as undo:
        if adapters is not None:
            undo.enter_context(attached(subject, adapters, gains))
        for module in watched:
            undo.callback(module.register_forward_hook(note).remove)
        for n, block in enumerate(subject.blocks):
            if given is not None:
                undo.enter_context(entering(block, given[n]))
            if keep is not None:
                undo.callback(block.register_forward_pre_hook(note_input, with_kwargs=True).remove)
        state = forward(subject, prior.batch, prior.batch.at[:, None], layers=True)
    assert state.residual is not None, "the stream was asked for"
    assert subject.norm is not None, "asked before"
    norm = subject.norm
    direction, constant = subject.margin_direction(prior.pre, prior.doc)

    def product(written: Tensor) -> Tensor:
        return torch.einsum("b...d,bd->b...", norm.centre(written) * norm.weight, direction)

    products = torch.zeros(len(rows), len(names), device=subject.device)
    number = {component: n for n, component in enumerate(names)}
    products[:, 0] = product(state.residual[:, 0])
    missed_heads = torch.zeros(len(rows), device=subject.device)
    scale = norm.scale(state.residual[:, -1])
    for layer, modules in enumerate(writers):
        for writer in modules:
            column = number[Component(layer, "attention" if writer.mixes else "mlp")]
            products[:, column] += product(writer.scale * at_position[writer.module])
        heads = _heads(modules)
        if heads is None:
            continue
        mixing = next(writer for writer in modules if writer.mixes)
        written = _by_head(subject, heads, into_map[heads.module], at_position[heads.module], adapters, gains)
        shares = product(mixing.scale * written)
        columns = [number[Component(layer, "head", n)] for n in range(heads.count)]
        products[:, columns], products[:, number[Component(layer, "bias")]] = shares[:, :-1], shares[:, -1]
        attention = products[:, number[Component(layer, "attention")]]
        missed_heads = torch.maximum(missed_heads, ((shares.sum(1) - attention) / scale[:, 0]).abs())
    constants = direction @ norm.bias + constant
    added = [n for n, component in enumerate(names) if component.name not in ("head", "bias")]
    whole = (state.final[:, 0] * direction).sum(-1) + constant
    missed = ((products[:, added] / scale).sum(1) + constants - whole).abs()
    return _Shares(
        products, scale, constants, missed, missed_heads, _rounding(subject, state.residual, direction, scale)
    )


def _by_head(
    subject: Subject,
    heads: Heads,
    z: Float[Tensor, "batch d_in"],
    whole: Float[Tensor, "batch d_model"],
    adapters: Stack | None,
    gains: Float[Tensor, "batch layer"],
) -> Float[Tensor, "batch part d_model"]:
    """What each head writes through the output map and its updates; last, what the map adds when all heads give zero.

    f(z) = W z + b + updates, so head h writes f(z, others 0) - f(0), and f(0) remains. A norm between the map and the
    stream is frozen at its own scale.
    """
    masks = torch.zeros(heads.count + 1, heads.count, heads.width, device=z.device, dtype=z.dtype)
    masks[range(heads.count), range(heads.count)] = 1.0
    inputs = z[:, None] * masks.reshape(heads.count + 1, -1)
    out = heads.module.forward(inputs)
    bias = getattr(heads.module, "bias", None)
    added = torch.zeros_like(out)
    for path, update in adapters.sites.items() if adapters is not None else ():
        if isinstance(update, ParameterUpdates) or module_path(path, update) != heads.path:
            continue
        gain = gains[:, layer_of(path)].to(z.device, torch.float32)
        if isinstance(update, Rescales):
            added = added + update(inputs, gain, out if bias is None else out - bias)
        else:
            added = added + update(inputs, gain)
    written = (out + added).float().to(subject.device)
    written = torch.cat([written[:, :-1] - written[:, -1:], written[:, -1:]], dim=1)
    if heads.norm is None:
        return written
    scaled = heads.norm.centre(written) / heads.norm.scale(whole)[:, None] * heads.norm.weight
    scaled[:, -1] += heads.norm.bias
    return scaled


def _rounding(
    subject: Subject,
    residual: Float[Tensor, "batch depth d_model"],
    direction: Float[Tensor, "batch d_model"],
    scale: Float[Tensor, "batch 1"],
) -> Float[Tensor, " batch"]:
    """The largest gap that is rounding, nats: 1e-3 in float32, else by what rounding the stream at every layer can do.

    As `attribution_tolerance`, whose stream is the rounded one; here the components are added up before any rounding, and
    each block rounds its stream twice.
    """
    assert subject.norm is not None, "asked before"
    weighed = residual * (subject.norm.weight * direction)[:, None] / scale[:, None]
    typical = unit_roundoff(subject.coarsest_dtype) * (2 * weighed.square().sum((1, 2))).sqrt()
    return (8 * typical).clamp(1e-3, LARGEST_GAP[subject.coarsest_dtype])
