"""What writes into the residual stream: the modules of each block whose outputs add up to its change, found by measuring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from override_gap.margins.attribution import FinalNorm
from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.final_norm import final_norm
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.stream_paths import IDENTITY, copied, replaying

#: At most so many modules write into the stream in one block: Falcon-H1 has three.
WRITERS = 3
#: Rows and positions of the tokens that writers are found on.
ROWS, POSITIONS = 2, 8
#: The share of a block's change that may be left, beside what rounding to the number format does.
LEFT = 1e-3
#: A writer reads other positions if its output changes by this share where they do.
CHANGED = 1e-4
#: Where modules of attention keep how many numbers of their output map's input are one head's.
HEAD_WIDTHS = ("v_head_dim", "head_dim", "head_size")


@dataclass(frozen=True, eq=False)
class Heads:
    """The linear map that joins a block's heads: its input is the heads' outputs side by side, `width` numbers each.

    `norm` is what lies between the map and the stream; None where nothing does.
    """

    path: str
    module: nn.Module
    width: int
    count: int
    norm: FinalNorm | None


@dataclass(frozen=True, eq=False)
class Writer:
    """A module whose output, times `scale`, is added to the stream.

    `mixes`: what it writes at a position depends on other positions (attention, or a state space model's mixer). `heads` is
    None where it has none that can be told.
    """

    module: nn.Module
    scale: float
    mixes: bool = False
    heads: Heads | None = None


@dataclass(frozen=True, eq=False)
class _Recorded:
    """One block on a few tokens: its input and output, and what its modules of the stream's width gave, by path in it.

    `given` is what such a module returned, in its own shape, and `outputs` the tensor in it, in the stream's.
    """

    block: nn.Module
    entered: Tensor
    left: Tensor
    given: Mapping[str, Any]

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        return {name: first_tensor(given).reshape(self.entered.shape) for name, given in self.given.items()}

    @property
    def kind(self) -> tuple[type, frozenset[str]]:
        """Blocks of one kind have the same modules write."""
        return type(self.block), frozenset(self.outputs)

    @property
    def change(self) -> Tensor:
        """What the block adds to the stream, flat."""
        return (self.left.double() - self.entered.double()).flatten()

    @property
    def allowed(self) -> float:
        """The largest norm of what a sum of outputs may miss of the change, by rounding."""
        rounding = 2 * torch.finfo(self.left.dtype).eps * float(self.left.double().norm())
        return LEFT * float(self.change.norm()) + rounding


@torch.no_grad()
def stream_writers(subject: Subject) -> tuple[tuple[Writer, ...], ...]:
    """By layer, the modules whose outputs, each times a constant, add up to what the block adds to the stream.

    Found on a few tokens by least squares over the modules of a block, the fewest that do; of modules that give the same the
    linear map is taken, from whose input heads are read. Raises SubjectError where a block's change is no such sum, as where a
    norm acts on the stream itself.
    """
    blocks = _recorded(subject)
    by_kind: dict[Any, list[_Recorded]] = {}
    for block in blocks:
        by_kind.setdefault(block.kind, []).append(block)
    names = {kind: _writing(subject, group) for kind, group in by_kind.items()}
    found = [_fitted(block, names[block.kind])[0] for block in blocks]
    mixing = _mixing(subject, blocks, [names[block.kind] for block in blocks])
    fed = _fed(subject, [w.module for writers in found for w in writers if w.module in mixing])
    return tuple(
        tuple(
            replace(w, mixes=True, heads=_heads(subject, w.module, fed)) if w.module in mixing else w for w in writers
        )
        for writers in found
    )


@contextmanager
def entering(block: nn.Module, given: Float[Tensor, "batch pos d_model"]) -> Iterator[None]:
    """Inside the `with` block a block of the model gets `given` as its input, whatever the blocks below it give."""

    def instead(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return ((given, *args[1:]), named) if args else (args, {**named, "hidden_states": given})

    handle = block.register_forward_pre_hook(instead, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def first_tensor(output: Any) -> Any:
    """A module's output, or the first of several."""
    return output[0] if isinstance(output, tuple | list) and len(output) else output


def _run(subject: Subject) -> None:
    ids = _ids(subject.model.get_input_embeddings().weight)
    subject.decoder(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)


def _ids(embedding: Tensor) -> Int[Tensor, "row pos"]:
    ids = torch.tensor([(7 * n + 1) % embedding.shape[0] for n in range(ROWS * POSITIONS)], device=embedding.device)
    return ids.reshape(ROWS, POSITIONS)


def _recorded(subject: Subject) -> list[_Recorded]:
    """Every block in one pass over a few tokens."""
    blocks: list[_Recorded] = []
    entered: list[Tensor] = []
    given: dict[str, Any] = {}
    again: set[str] = set()

    def enter(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        entered.append((args[0] if args else named["hidden_states"]).clone())
        given.clear()
        again.clear()

    def note(name: str, out: Any) -> None:
        first = first_tensor(out)
        if isinstance(first, Tensor) and first.numel() == entered[-1].numel() and first.shape[-1] == subject.d_model:
            if name in given:
                again.add(name)
            given[name] = copied(out)

    def leave(block: nn.Module, out: Any) -> None:
        once = {name: output for name, output in given.items() if name not in again}
        blocks.append(_Recorded(block, entered[-1], first_tensor(out).clone(), once))

    with ExitStack() as undo:
        for block in subject.blocks:
            undo.callback(block.register_forward_pre_hook(enter, with_kwargs=True).remove)
            for name, module in block.named_modules():
                if module is not block:
                    hook = module.register_forward_hook(lambda _m, _a, out, name=name: note(name, out))
                    undo.callback(hook.remove)
            undo.callback(block.register_forward_hook(lambda m, _a, out: leave(m, out)).remove)
        _run(subject)
    return blocks


def _writing(subject: Subject, group: Sequence[_Recorded]) -> tuple[str, ...]:
    """The fewest modules, by path in the block, that explain the change of every block of one kind."""
    first = group[0]
    sites = {site.module for site in subject.sites.values()}
    distinct: list[str] = []
    for name, output in first.outputs.items():
        same = next((n for n, other in enumerate(distinct) if torch.equal(output, first.outputs[other])), None)
        if same is None:
            distinct.append(name)
        elif first.block.get_submodule(name) in sites:
            distinct[same] = name
    for count in range(1, WRITERS + 1):
        chosen = [c for c in combinations(distinct, count) if all(_fitted(b, c)[1] <= b.allowed for b in group)]
        if chosen:
            return min(chosen, key=lambda c: _fitted(first, c)[1])
    raise SubjectError(
        f"what a {type(first.block).__name__} adds to the stream is not the sum of what its modules give, so margins are not "
        "split into attention and MLP"
    )


def _fitted(block: _Recorded, names: Sequence[str]) -> tuple[tuple[Writer, ...], float]:
    """The modules with their scales, by least squares, and the norm of what their sum misses of the block's change."""
    basis = torch.stack([block.outputs[name].double().flatten() for name in names], dim=1)
    scales = torch.linalg.lstsq(basis, block.change[:, None]).solution[:, 0]
    missed = float((basis @ scales - block.change).norm())
    rounded = [_rounded(float(scale), block.left.dtype) for scale in scales]
    modules = [block.block.get_submodule(name) for name in names]
    return tuple(Writer(module, scale) for module, scale in zip(modules, rounded, strict=True)), missed


def _rounded(scale: float, dtype: torch.dtype) -> float:
    """A measured scale without its rounding; one close to 1 is 1."""
    if abs(scale - 1) <= IDENTITY.get(dtype, 1e-2):
        return 1.0
    return float(f"{scale:.{6 if dtype == torch.float32 else 3}g}")


def _mixing(subject: Subject, blocks: Sequence[_Recorded], names: Sequence[tuple[str, ...]]) -> set[nn.Module]:
    """The writers whose output at the last position changes with the block's input at others, all other writers held fixed."""
    mixing: set[nn.Module] = set()
    for k in range(max(map(len, names))):
        outputs: dict[nn.Module, Tensor] = {}
        fixed: dict[nn.Module, list[Any]] = {}
        asked: list[tuple[nn.Module, Tensor]] = []
        with ExitStack() as undo:
            for block, writers in zip(blocks, names, strict=True):
                undo.enter_context(entering(block.block, _others_changed(block.entered)))
                for n, name in enumerate(writers):
                    module = block.block.get_submodule(name)
                    if n == k:
                        undo.callback(module.register_forward_hook(_keeping(outputs)).remove)
                        asked.append((module, block.outputs[name]))
                    else:
                        fixed[module] = [block.given[name]]
            with replaying(fixed):
                _run(subject)
        for module, before in asked:
            moved = (outputs[module].reshape(before.shape).double() - before.double())[:, -1].norm()
            if moved > CHANGED * before[:, -1].double().norm():
                mixing.add(module)
    return mixing


def _keeping(outputs: dict[nn.Module, Tensor]) -> Any:
    def keep(module: nn.Module, _args: Any, out: Any) -> None:
        outputs[module] = first_tensor(out).clone()  # Falcon adds to it in place

    return keep


def _others_changed(entered: Tensor) -> Tensor:
    """A block's input changed by about its own size at all positions but the last: a convolution reads a few of them alone."""
    draws = torch.randn(entered[:, :-1].shape, generator=torch.Generator().manual_seed(0)).to(entered)
    size = entered[:, :-1].float().square().mean((0, 2), keepdim=True).sqrt().to(entered.dtype)
    return torch.cat([entered[:, :-1] + size * draws, entered[:, -1:]], dim=1)


def _fed(subject: Subject, writers: Sequence[nn.Module]) -> dict[nn.Module, str]:
    """By writer, the path of the linear map that it is, or whose output is its input."""
    paths = {site.module: path for path, site in subject.sites.items()}
    given: dict[nn.Module, Any] = {}
    found = {writer: paths[writer] for writer in writers if writer in paths}

    def into(writer: nn.Module, args: tuple[Any, ...]) -> None:
        source = next((m for m, out in given.items() if args and args[0] is out), None)
        if source is not None:
            found[writer] = paths[source]

    with ExitStack() as undo:
        for module in paths:
            undo.callback(module.register_forward_hook(lambda m, _a, out: given.update({m: out})).remove)
        for writer in writers:
            if writer not in paths:
                undo.callback(writer.register_forward_pre_hook(into).remove)
        _run(subject)
    return found


def _heads(subject: Subject, writer: nn.Module, fed: Mapping[nn.Module, str]) -> Heads | None:
    """The map that joins a writer's heads; None where it is neither such a map nor a norm behind one."""
    path = fed.get(writer)
    if path is None:
        return None
    site, norm = subject.sites[path], None
    if site.module is not writer:
        norm = final_norm(writer, subject.d_model, subject.device, subject.model.dtype)
        if norm is None:
            return None
    owner = subject.model.get_submodule(path.rpartition(".")[0])
    width = next((w for name in HEAD_WIDTHS if isinstance(w := getattr(owner, name, None), int)), 0)
    if width <= 0 or site.d_in % width:
        return None
    return Heads(path, site.module, width, site.d_in // width, norm)
