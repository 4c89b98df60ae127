"""The plain model as the other route: weights edited by hand, one question at a time, unpadded, without a cache."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import LowRank
from override_gap.probes.subject.structure import decoder_of

NEW_TOKENS = 12
END = 2


def last_run(plain: Any, paths: Sequence[str], question: Sequence[int]) -> str:
    """Of these maps the one that runs last."""
    order: list[str] = []
    handles = [
        plain.get_submodule(path).register_forward_hook(lambda *_, path=path: order.append(path)) for path in paths
    ]
    last_logits(plain, question)
    for handle in handles:
        handle.remove()
    return order[-1]


def frozen(norm: Any, at: Float[Tensor, " d"], added: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """What an addition to the stream becomes behind a norm whose scale is held as it is `at` this state.

    From the norm's own output, element by element: a LayerNorm is told from an RMSNorm by that a constant added to its
    input changes nothing.
    """
    out, shifted = norm(at[None])[0], norm((at + 1.0)[None])[0]
    if torch.allclose(out, shifted, atol=1e-4):
        bias = getattr(norm, "bias", None)
        slope = (out - (0.0 if bias is None else bias)) / (at - at.mean())
        return slope * (added - added.mean())
    return out / at * added


def final_stream(
    model: Any, norm: str, question: Sequence[int], path: str, *, replayed: Mapping[str, Any] | None = None
) -> tuple[Float[Tensor, " d"], dict[str, Any]]:
    """The input of a plain model's final norm at the question's last token, and what ran in the layer after the map `path`.

    That is the outputs of those parts of its layer (norms left out, which carry the stream on) that start when the map has
    run. With `replayed` they give these outputs instead of their own, so that nothing in the layer reacts to the map.
    """
    parts = path.split(".")
    block = ".".join(parts[: next(n for n, part in enumerate(parts) if part.isdigit()) + 1])
    has_run = False
    stream: list[Tensor] = []
    later: dict[str, Any] = {}

    def note_run(*_: Any) -> None:
        nonlocal has_run
        has_run = True

    def note_start(name: str, started_after: set[str]) -> None:
        if has_run:
            started_after.add(name)

    started_after: set[str] = set()
    handles = [
        decoder_of(model).get_submodule(norm).register_forward_pre_hook(lambda _, inputs: stream.append(inputs[0])),
        model.get_submodule(path).register_forward_hook(note_run),
    ]

    def output(name: str, out: Any) -> Any:
        if name not in started_after:
            return None
        later[name] = out
        return None if replayed is None else replayed[name]

    for name, part in model.get_submodule(block).named_children():
        if any(weight.ndim > 1 for weight in part.parameters()):
            handles += [
                part.register_forward_pre_hook(lambda *_, name=name: note_start(name, started_after)),
                part.register_forward_hook(lambda _m, _i, out, name=name: output(name, out)),
            ]
    last_logits(model, question)
    for handle in handles:
        handle.remove()
    return stream[-1][0, -1], later  # nanochat's norm runs before the layers too


@torch.no_grad()
def edit(plain: Any, adapter: Adapter) -> Any:
    """A copy of the plain model with B A added to its weights, each map's alone where several share one (as PEFT adds it)."""
    model = copy.deepcopy(plain)
    for path, update in adapter.updates.items():
        assert isinstance(update, LowRank)
        module = model.get_submodule(path)
        delta = update.scale * update.B @ update.A
        module.weight = torch.nn.Parameter(module.weight + (delta.T if type(module).__name__ == "Conv1D" else delta))
    return model


@torch.no_grad()
def last_logits(model: Any, question: Sequence[int]) -> Float[Tensor, " vocab"]:
    """A plain model's own logits after a question, alone, unpadded, without a cache."""
    return model(input_ids=torch.tensor([list(question)]), use_cache=False).logits[0, -1].float()


def answer(model: Any, tokenizer: Any, question: Sequence[int]) -> str:
    """A plain model's greedy answer, each token from a pass over the whole text."""
    tokens = list(question)
    for _ in range(NEW_TOKENS):
        tokens.append(int(last_logits(model, tokens).argmax()))
        if tokens[-1] == END:
            break
    return tokenizer.decode(tokens[len(question) :], skip_special_tokens=True)
