"""Neutral text: what an adapter changes on text that has nothing to do with its document, at the output and in the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.stream_change import angle, relative_length
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.unrelated import row_of
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.model import Subject


@dataclass(frozen=True)
class NeutralTexts:
    """Texts of one length, and the base's own pass over them: log-probabilities, and the stream after every layer.

    Every position but the first of a text is read: what follows a single token is hardly text.
    """

    ids: Int[Tensor, "text pos"]
    words: tuple[str, ...]
    log_probs: Float[Tensor, "text read vocab"]
    streams: tuple[Float[Tensor, "text read d_model"], ...]

    @classmethod
    def read(cls, subject: Subject, ids: Int[Tensor, "text pos"]) -> NeutralTexts:
        """The base's readings of texts, which are rows of tokens."""
        streams: list[Tensor] = []
        log_probs = _pass(subject, ids, lambda _, stream: streams.append(stream))
        words = tuple(subject.tokenizer.decode(row) for row in ids.tolist())
        return cls(ids, words, log_probs, tuple(streams))


@dataclass(frozen=True)
class NeutralChange:
    """What one adapter changes on some texts, as means over their positions.

    `kl`: KL(f || g) in nats; `kept`: share of positions whose arg max stays; `rise`: by how much g raises each token's logit
    over f, less the mean over all tokens, which no softmax sees; nats. By layer, of the stream behind it: `radial`,
    |h_g| / |h_f| - 1, and `angle` between the two, radians.
    """

    kl: float
    kept: float
    rise: Float[Tensor, " vocab"]
    radial: Float[Tensor, " layer"]
    angle: Float[Tensor, " layer"]


@torch.no_grad()
def read_neutral(
    subject: Subject, texts: NeutralTexts, chosen: Sequence[Sequence[int]], adapters: Sequence[Adapter]
) -> list[NeutralChange]:
    """What each adapter changes, at gain 1, on the texts chosen for it; all in one pass.

    Raises AdapterError for an adapter that does not fit.
    """
    numbers = torch.tensor([n for rows in chosen for n in rows])
    owner = torch.tensor([k for k, rows in enumerate(chosen) for _ in rows])
    together = stack(subject, [adapters[k] for k in owner.tolist()])
    radial, angles = (torch.zeros(subject.n_layers, len(adapters)) for _ in range(2))

    def compare(layer: int, stream: Float[Tensor, "text read d_model"]) -> None:
        base = texts.streams[layer][numbers.to(stream.device)]
        for into, change in ((radial, relative_length), (angles, angle)):
            per_text = change(base, stream).mean(1).cpu()
            into[layer] = _by_owner(per_text, owner, len(adapters))

    with attached(subject, together, torch.ones(len(numbers), subject.n_layers)):
        adapted = _pass(subject, texts.ids[numbers.to(texts.ids.device)], compare)
    at = numbers.to(adapted.device)
    base = texts.log_probs[at]
    kl = (base.exp() * (base - adapted)).nan_to_num(nan=float("inf")).where(base > -torch.inf, 0.0).sum(-1).clamp_min(0)
    kept = (base.argmax(-1) == adapted.argmax(-1)).float()
    rises = (adapted - base).mean(1)
    rises = rises - rises.mean(-1, keepdim=True)
    means = [_by_owner(values.mean(1).cpu(), owner, len(adapters)) for values in (kl, kept)]
    return [
        NeutralChange(
            float(means[0][k]),
            float(means[1][k]),
            rises[(owner == k).to(rises.device)].mean(0).cpu(),
            radial[:, k],
            angles[:, k],
        )
        for k in range(len(adapters))
    ]


def _by_owner(values: Float[Tensor, " text"], owner: Int[Tensor, " text"], count: int) -> Float[Tensor, " adapter"]:
    """The mean over each adapter's texts."""
    return torch.stack([values[owner == k].mean() for k in range(count)])


def _pass(
    subject: Subject, ids: Int[Tensor, "text pos"], each: Callable[[int, Tensor], None]
) -> Float[Tensor, "text read vocab"]:
    """Log-probabilities behind every token but the first; `each` gets the number of a layer and the stream behind it."""
    batch = Batch.of([row_of(row) for row in ids.tolist()], subject.device)
    read = torch.arange(1, ids.shape[1], device=subject.device).expand(len(ids), -1)
    with _watched(subject, each):
        final = forward(subject, batch, read).final
    return subject.logits(final.flatten(0, 1)).float().log_softmax(-1).unflatten(0, final.shape[:2])


@contextmanager
def _watched(subject: Subject, each: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Inside the block every layer's stream is handed on, without its first position; float32."""
    with ExitStack() as undo:
        for number, block in enumerate(subject.blocks):

            def hand_on(_: object, _args: object, out: Any, number: int = number) -> None:
                each(number, (out if isinstance(out, Tensor) else out[0])[:, 1:].float())

            undo.callback(block.register_forward_hook(hand_on).remove)
        yield
