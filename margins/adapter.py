"""Adapter: the weight updates a method makes for a document; AdapterSource: the method; join: several adapters as one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.items.item import Document
from override_gap.margins.runtime import Prefix, RuntimeAdapter
from override_gap.margins.updates import Dense, LowRank, Update, Vector, inner

SCOPES = ("document", "batch", "nothing")


@dataclass(frozen=True)
class Adapter:
    """The weight updates that a method made for one document, by module path.

    `updates` is the document part, `shared` what the method adds for every document (a learned head bias, say); both
    act together. Paths name the linear maps of the unwrapped model, as PEFT and `model.named_modules()` do; those of
    vectors name the parameter, as `model.named_parameters()` does.
    """

    name: str
    updates: Mapping[str, Update]
    shared: Mapping[str, Update] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    """What the method changed that is not measured here, since text never reaches it: maps of a vision tower, say."""

    def parts(self) -> Iterator[tuple[str, Update]]:
        """(path, update) of both parts."""
        yield from self.updates.items()
        yield from self.shared.items()

    @property
    def paths(self) -> list[str]:
        """The module paths of both parts, each once, in order of first appearance."""
        return list(dict.fromkeys(path for path, _ in self.parts()))

    def layer_norms(self, n_layers: int) -> Float[Tensor, " layer"]:
        """Frobenius norm per layer, over all updates of the layer (document plus shared part), in weight units.

        Raises ValueError where a path belongs to no layer.
        """
        squared = torch.zeros(n_layers, dtype=torch.float64)
        for path in self.paths:
            squared[_layer_index(path, n_layers, self.name)] += _squared_norm(
                self.updates.get(path), self.shared.get(path)
            )
        return squared.clamp_min(0).sqrt()

    def norm(self, part: str = "both") -> float:
        """Frobenius norm over all paths, of the `document` part, the `shared` part or `both` together, in weight units."""
        parts = {"document": (self.updates, {}), "shared": ({}, self.shared), "both": (self.updates, self.shared)}
        updates, shared = parts[part]
        total = sum(_squared_norm(updates.get(path), shared.get(path)) for path in self.paths)
        return max(total, 0.0) ** 0.5

    def hash(self) -> str:
        """SHA-256 over paths, scales and weights; part of every content key."""
        digest = hashlib.sha256()
        for path, update in self.parts():
            digest.update(path.encode())
            tensors = (update.A, update.B) if isinstance(update, LowRank) else (update.delta,)
            digest.update(repr(update.scale if isinstance(update, LowRank) else 1.0).encode())
            for tensor in tensors:
                digest.update(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
                digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


#: What a source may return for a document.
AnyAdapter = Adapter | Prefix | RuntimeAdapter


@runtime_checkable
class AdapterSource(Protocol):
    """A method that turns documents into adapters: any object with these names can be audited. Optional: `SourceTraits`."""

    @property
    def name(self) -> str:
        """The method's name, as reports print it."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """All settings that its adapters depend on; part of every content key."""
        ...

    def encode(self, documents: Sequence[Document]) -> Sequence[AnyAdapter]:
        """One adapter per document, in the same order; a Prefix or RuntimeAdapter each if the source is not static."""
        ...


@dataclass(frozen=True)
class NativeExample:
    """A question on which the method's own adapted model was run: its logits at the last of `ids`, under `adapter`.

    `ids` are the tokens that the method's model read, `text` what they say; the handshake feeds the subject exactly these.
    """

    adapter: AnyAdapter
    ids: tuple[int, ...]
    text: str
    logits: Float[Tensor, " vocab"]


@dataclass(frozen=True)
class SourceTraits:
    """Optional attributes of a source; the defaults hold where it has none.

    `base_fingerprint`: the fingerprint of the one model its adapters are for (None: unknown).
    `template`: the text that the method puts around a document; reports print it, the source itself applies it.
    `static`: adapters are weight updates; False: what `encode` returns can be run but not scaled (`margins.runtime`), so it
    is measured as delivered, and every measurement that varies the gain is refused.
    `scope`: what an adapter depends on: its own `document`, the whole `batch` encoded with it, or `nothing` (one adapter
    for every document).
    `native_logits(document, text)`: [vocab] or [pos, vocab], the method's own adapted model after reading `text`, tokenised
    as the subject does; a handshake compares them with what is measured here.
    `native_examples()`: the same logits where they were stored with the adapters (`NativeExample`), each with the adapter
    and the tokens that they belong to; for files, whose method is not at hand.
    `reads_questions`: adapters depend on `Document.questions` as well as on the text (editors of facts), so that a hash of the
    questions is part of every reading's identity, and reports say that the method was told what is asked.
    `packages`: installed packages whose versions its adapters depend on (that of its own code is hashed file by file); a run is
    resumed under the same versions only.
    `notes_on(documents)`: what a user should know of how these documents are encoded, a line each; told before they are.
    """

    __no_type_check__ = True  # read from a user's object: `traits_of` checks them, with messages of its own

    base_fingerprint: str | None = None
    template: str = "{document}"
    static: bool = True
    scope: str = "document"
    native_logits: Callable[[Document, str], Tensor] | None = None
    native_examples: Callable[[], Sequence[NativeExample]] | None = None
    reads_questions: bool = False
    packages: tuple[str, ...] = ()
    notes_on: Callable[[Sequence[Document]], Sequence[str]] | None = None


def traits_of(source: Any) -> SourceTraits:
    """The traits of a source, read from its attributes of the same names. Raises ValueError for a value that is not valid."""
    values: dict[str, Any] = {f.name: getattr(source, f.name, f.default) for f in fields(SourceTraits)}
    traits = SourceTraits(**values)
    if traits.scope not in SCOPES:
        raise ValueError(f"source {source.name}: scope is one of {', '.join(SCOPES)}, got {traits.scope!r}")
    if "{document}" not in traits.template:
        raise ValueError(f"source {source.name}: its template must contain {{document}}, got {traits.template!r}")
    if traits.native_logits is not None and not callable(traits.native_logits):
        raise ValueError(f"source {source.name}: native_logits is called with a document and a text, got no function")
    if traits.native_examples is not None and not callable(traits.native_examples):
        raise ValueError(f"source {source.name}: native_examples is called without arguments, got no function")
    if not isinstance(traits.reads_questions, bool):
        raise ValueError(f"source {source.name}: reads_questions is True or False, got {traits.reads_questions!r}")
    if not isinstance(traits.packages, tuple | list) or not all(isinstance(name, str) for name in traits.packages):
        raise ValueError(f"source {source.name}: packages is a list of names, got {traits.packages!r}")
    if traits.notes_on is not None and not callable(traits.notes_on):
        raise ValueError(f"source {source.name}: notes_on is called with documents, got no function")
    return traits


OTHER_INPUTS = re.compile(r"(?:^|[._])(?:vision|visual|image|audio|speech|video|vit)(?:[._]|$)|multi_modal|multimodal")
"""Names of a model's parts for other inputs than text, whose layers are not the language model's."""


def layer_of(path: str) -> int | None:
    """The layer of the language model that a module path belongs to: its first number.

    None where it has none, and in a part for other inputs: `model.vision_tower.layers.0.fc1` is in no layer.
    """
    number = re.search(r"(?:^|\.)([0-9]{1,9})(?:\.|$)", path)
    if number is None or OTHER_INPUTS.search(path[: number.start()]):
        return None
    return int(number[1])


def _layer_index(path: str, n_layers: int, name: str) -> int:
    layer = layer_of(path)
    if layer is None or layer >= n_layers:
        raise ValueError(f"adapter {name}: {path} belongs to none of the model's {n_layers} layers")
    return layer


def _squared_norm(left: Update | None, right: Update | None) -> float:
    """||left + right||^2; None counts as zero."""
    updates = [update for update in (left, right) if update is not None]
    return sum(inner(a, b) for a in updates for b in updates)


def join(adapters: Sequence[Adapter]) -> Adapter:
    """One adapter whose document part is the sum of theirs: W_joined - W_base = sum_i scale_i B_i A_i.

    Factors are concatenated along the rank, each scale folded into B. The shared part, which is the same for every
    document, acts once. Raises ValueError where it is not the same.
    """
    first = adapters[0]
    for other in adapters[1:]:
        if not same_updates(first.shared, other.shared):
            raise ValueError(
                f"adapters {first.name} and {other.name} differ in the part that every document shares, so they cannot be "
                "joined with that part acting once"
            )
    paths = dict.fromkeys(path for adapter in adapters for path in adapter.updates)
    joined = {path: _sum([a.updates[path] for a in adapters if path in a.updates]) for path in paths}
    return Adapter("+".join(adapter.name for adapter in adapters), joined, first.shared)


def _sum(updates: Sequence[Update]) -> Update:
    """The update that is the sum of several on one weight."""
    if all(isinstance(update, Vector) for update in updates):
        return Vector(torch.stack([update.dense() for update in updates]).sum(0))
    factors = [update for update in updates if isinstance(update, LowRank)]
    if len(factors) < len(updates):
        return Dense(torch.stack([update.dense() for update in updates]).sum(0))
    return LowRank(torch.cat([f.A for f in factors]), torch.cat([f.scale * f.B for f in factors], dim=1))


def same_updates(left: Mapping[str, Update], right: Mapping[str, Update]) -> bool:
    """Whether two adapters' updates are the same matrices at the same paths."""
    return left.keys() == right.keys() and all(
        left[path] is right[path] or torch.equal(left[path].dense(), right[path].dense()) for path in left
    )


__all__ = [
    "Adapter",
    "AdapterSource",
    "AnyAdapter",
    "Dense",
    "LowRank",
    "NativeExample",
    "SourceTraits",
    "Update",
    "Vector",
    "layer_of",
    "traits_of",
]
