"""Runtime adapters: methods that are not a weight update, so that they run as delivered but have no gain to vary."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

NO_AMPLITUDE = (
    "the method is not a weight update, so W(s) = W_base + s (W_adapted - W_base) is not defined: it runs as "
    "delivered or not at all"
)

NO_UPDATE = "it is made from weight updates or read through them, and the method has none"

ONE_ADAPTER = "one adapter serves every document, so no other document has another"


@dataclass(frozen=True)
class Prefix:
    """Keys and values that every layer attends to before the question, one pair of tensors per layer.

    They are as the model's own cache would hold them, positions included: on a model with rotary positions the keys are
    rotated already, as for positions 0 to n - 1. The question then starts at position n.
    """

    __no_type_check__ = True  # made by a user's method: checked below, with a message that says what is needed

    name: str
    keys: Sequence[Float[Tensor, "kv_head prefix d_head"]]
    values: Sequence[Float[Tensor, "kv_head prefix d_head"]]

    def __post_init__(self) -> None:
        shapes = {tuple(tensor.shape) for tensor in (*self.keys, *self.values)}
        consistent = len({shape[:2] for shape in shapes}) == 1 and all(len(shape) == 3 for shape in shapes)
        if len(self.keys) != len(self.values) or not consistent or self.positions == 0:
            raise ValueError(
                f"prefix {self.name}: need keys and values [kv_head, position, d_head] for every layer, of one length from "
                f"1; got {len(self.keys)} keys and {len(self.values)} values of shapes {sorted(shapes)}"
            )
        if not all(bool(tensor.isfinite().all()) for tensor in (*self.keys, *self.values)):
            raise ValueError(f"prefix {self.name}: a key or a value is not finite")

    @property
    def positions(self) -> int:
        """How many positions the prefix takes up before the question."""
        return int(self.keys[0].shape[1])

    def hash(self) -> str:
        """SHA-256 over the tensors."""
        digest = hashlib.sha256()
        for tensor in (*self.keys, *self.values):
            digest.update(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


@runtime_checkable
class RuntimeAdapter(Protocol):
    """Any other method that can only be run: a router that depends on its input, an edit of activations."""

    @property
    def name(self) -> str:
        """The name of the adapter, which tells its document."""
        ...

    def acting(self, subject: Any, question: Int[Tensor, " pos"]) -> AbstractContextManager[Any]:
        """A `with` block inside which `subject.model` is the method's own adapted model; on exit it is the base again.

        `question` holds the question's tokens. Inside the block one example is run at a time, without padding: either the
        question and the tokens that both answers begin with in one pass, or the question and then one token at a time.
        """
        ...


def refusal_message(rows: Sequence[Mapping[str, str]]) -> str:
    """One line that names the refused conditions and probes with their reasons; empty where there are none."""
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        by_reason.setdefault(row["reason"], []).append(row.get("condition") or f"probe {row['probe']}")
    return "; ".join(f"not measured: {', '.join(names)} ({reason})" for reason, names in by_reason.items())
