"""What the residual stream gets of what is added to a module's output: measured, not read from names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

#: Tokens of the rows that paths are measured on; any do, since a straight line is one everywhere.
POSITIONS = 6
#: Rows beside the unchanged one, each with changes of its own.
CHANGES = 2
#: The largest share of a change that may be rounding, per format.
ROUNDING = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
#: A factor this close to 1 is 1.
IDENTITY = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@dataclass(frozen=True, eq=False)
class StreamPath:
    """What the stream after the last block gets of d, added to a module's output, with all other maps' outputs held fixed.

    `scale` * d, per channel where it is a vector: 1 where the output is added to the stream as it is, 0.22 in a Granite with
    that residual multiplier. None where the path is no straight line (a norm or a gate lies on it) or the output does not
    reach the stream; `reason` then says so.
    """

    scale: float | Float[Tensor, " d_model"] | None
    reason: str | None = None

    def written(self, added: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """What the stream gets of what was added to the output."""
        assert self.scale is not None, self.reason
        if isinstance(self.scale, Tensor):
            return added * self.scale.to(added.device)
        return added if self.scale == 1.0 else added * self.scale


@dataclass(eq=False)
class StreamPaths:
    """The paths of a model's modules to its stream, each measured when it is first asked for, then remembered.

    The model runs on a few tokens with the output of every map replayed from a first pass, so that what is added to one
    module's output reaches the stream by its own path alone: through a multiplier, a norm, a gate, the skip connections of
    the layers above. The maps themselves are not run again, so a path costs much less than a pass.
    """

    decoder: nn.Module
    model: Any
    blocks: tuple[nn.Module, ...]
    d_model: int
    measured: dict[str, StreamPath] = field(default_factory=dict)

    def of(self, paths: Sequence[str]) -> dict[str, StreamPath]:
        """The paths of these modules to the stream, by path of the module."""
        missing = [path for path in dict.fromkeys(paths) if path not in self.measured]
        if missing:
            self.measured |= self._measure(missing)
        return {path: self.measured[path] for path in paths}

    def reason(self, paths: Sequence[str]) -> str | None:
        """Why what updates of these modules write into the stream is not given; None where it is."""
        return next((path.reason for path in self.of(paths).values() if path.scale is None), None)

    @torch.no_grad()
    def _measure(self, paths: Sequence[str]) -> dict[str, StreamPath]:
        modules = dict(self.model.named_modules())
        outputs, base = self._recorded([modules[path] for path in paths if path in modules])
        return {path: self._path(path, modules.get(path), outputs, base) for path in paths}

    def _recorded(self, targets: Sequence[nn.Module]) -> tuple[dict[nn.Module, list[Any]], Tensor]:
        """What every map and every target gave in one pass, call by call, and the stream after the last block."""
        outputs: dict[nn.Module, list[Any]] = {}
        with ExitStack() as undo:
            for module in self.decoder.modules():
                if module in targets or holds_matrices(module):
                    calls = outputs.setdefault(module, [])
                    hook = module.register_forward_hook(lambda _m, _a, out, calls=calls: calls.append(copied(out)))
                    undo.callback(hook.remove)
            return outputs, self._stream()

    def _path(
        self, path: str, module: nn.Module | None, outputs: Mapping[nn.Module, Sequence[Any]], base: Tensor
    ) -> StreamPath:
        name = path.removeprefix(f"{self.model.base_model_prefix}.")
        if module is None:
            return StreamPath(None, f"{name} is no module whose output could be followed")
        calls = outputs.get(module, ())
        output = calls[0] if len(calls) == 1 else None
        if not calls:
            return StreamPath(None, f"{name} was not run")
        if not isinstance(output, Tensor) or output.shape[-1] != self.d_model:
            often = (
                f"{name} runs {len(calls)} times" if len(calls) > 1 else f"{name} writes nothing into the stream itself"
            )
            return StreamPath(None, often)
        rows = 1 + CHANGES
        if output.numel() != rows * POSITIONS * self.d_model:
            return StreamPath(None, f"{name} sees some tokens only")
        size = base.square().mean(-1, keepdim=True).sqrt()
        draws = torch.randn(base.shape, generator=torch.Generator().manual_seed(0)).to(base.device)
        draws[0] = 0.0
        change = (draws * size).to(output.dtype)
        replayed = {m: o for m, o in outputs.items() if holds_matrices(m) and not _contains(m, module)}
        replayed[module] = [output + change.reshape(output.shape).to(output.device)]
        with replaying(replayed):
            stream = self._stream()
        return _fitted(name, (stream - stream[:1])[1:], change[1:].float(), output.dtype)

    def _stream(self) -> Float[Tensor, "row pos d_model"]:
        """The stream after the last block on rows of the same few tokens."""
        states: list[Tensor] = []
        last = self.blocks[-1].register_forward_hook(
            lambda _m, _a, out: states.append(out if isinstance(out, Tensor) else out[0])
        )
        embedding = self.model.get_input_embeddings().weight
        ids = _ids(embedding.shape[0], embedding.device)
        try:
            self.decoder(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        finally:
            last.remove()
        return states[-1].float()


def holds_matrices(module: nn.Module) -> bool:
    """Whether a module has a matrix of its own: a linear map, a convolution, experts in one tensor."""
    return any(parameter is not None and parameter.ndim > 1 for parameter in module._parameters.values())


def _fitted(
    name: str, change: Float[Tensor, "row pos d_model"], added: Float[Tensor, "row pos d_model"], dtype: torch.dtype
) -> StreamPath:
    """The straight line from what was added to the change of the stream, if there is one."""
    added = added.to(change.device)
    rounding = ROUNDING.get(dtype, ROUNDING[torch.bfloat16])
    if not change.norm() > rounding * added.norm():
        return StreamPath(None, f"{name} writes nothing into the stream itself")
    factor = float((change.double() * added.double()).sum() / added.double().square().sum())
    if (change - factor * added).norm() <= rounding * change.norm():
        digits = 6 if dtype == torch.float32 else 3  # what is measured, without its rounding
        return StreamPath(1.0 if abs(factor - 1) <= IDENTITY.get(dtype, 1e-2) else float(f"{factor:.{digits}g}"))
    factors = (change * added).sum((0, 1)) / added.square().sum((0, 1))
    if (change - factors * added).norm() <= rounding * change.norm():
        return StreamPath(factors)
    return StreamPath(None, f"what lies between {name} and the stream is no straight line")


@contextmanager
def replaying(outputs: Mapping[nn.Module, Sequence[Any]]) -> Iterator[None]:
    """Inside the block these modules give what is stated, call by call, and run nothing."""
    before = [(vars(module), vars(module).get("forward")) for module in outputs]
    try:
        for module, calls in outputs.items():
            vars(module)["forward"] = _replay(calls)
        yield
    finally:
        for attributes, forward in before:
            attributes.pop("forward", None)
            if forward is not None:
                attributes["forward"] = forward


def _replay(calls: Sequence[Any]) -> Callable[..., Any]:
    """A forward that gives these outputs one after the other; copies, since the model may add in place."""
    remaining = iter(calls)
    return lambda *_args, **_named: copied(next(remaining))


def copied(output: Any) -> Any:
    """A module's output with tensors of its own, whatever holds them."""
    if isinstance(output, Tensor):
        return output.clone()
    return type(output)(map(copied, output)) if type(output) in (tuple, list) else output


def _contains(module: nn.Module, other: nn.Module) -> bool:
    return any(part is other for part in module.modules())


def _ids(vocab: int, device: torch.device) -> Int[Tensor, "row pos"]:
    ids = torch.tensor([(7 * n + 1) % vocab for n in range(POSITIONS)], device=device)
    return ids.expand(1 + CHANGES, -1).contiguous()
