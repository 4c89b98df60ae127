"""A policy as a user names it: the name of a condition, a gains.json that `tune` wrote, or a policy object."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from override_gap.margins.adapter import Adapter
from override_gap.margins.condition_parser import parse_condition
from override_gap.margins.conditions import AsDelivered, Base, Scaled
from override_gap.margins.gain_policies import (
    ConflictAware,
    Policy,
    PolicyInputs,
    RandomLayers,
    RandomMatched,
    RelevanceGate,
    Uniform,
)
from override_gap.margins.strict_json import read_json

FORMAT = "override-gap gains 1"


@dataclass(frozen=True)
class NamedPolicy:
    """A policy with the name under which an audit measures it (None for one without), and what gains.json says of it."""

    name: str | None
    policy: Policy
    file: Path | None = None
    content: dict[str, Any] | None = None

    @property
    def title(self) -> str:
        """The policy in words, for messages and files."""
        return self.name or repr(self.policy)

    @property
    def reads_relevance(self) -> bool:
        """Whether the policy asks if the document is about the question."""
        return any(isinstance(part, RelevanceGate) for part in _parts(self.policy))

    @property
    def reads_answer(self) -> bool:
        """Whether the policy asks if the base already says what the document states."""
        return any(isinstance(part, ConflictAware) for part in _parts(self.policy))

    @property
    def needs_document(self) -> bool:
        """Whether the gains are drawn at random by document, so that its text is needed to draw them again."""
        return isinstance(self.policy, RandomLayers | RandomMatched)

    def notes_on(self, fingerprint: str) -> list[str]:
        """What a user of a gains.json should know on a subject, a line each: what it recommends, and a model that is another."""
        if self.content is None:
            return []
        notes = []
        says, recommended = self.content.get("says"), self.content.get("recommendation")
        if recommended != "scale" and isinstance(says, str):
            notes.append(f"{self.file} recommends no other gain: {says[:300]}")
        chosen_on = self.content.get("subject")
        stated = chosen_on.get("fingerprint") if isinstance(chosen_on, dict) else None
        if stated is not None and stated != fingerprint:
            notes.append(
                f"{self.file} was chosen on another model, or in another number format: its figures are of that one"
            )
        return notes

    def gains(self, adapter: Adapter, n_layers: int, document: str = "", seed: int = 0) -> tuple[float, ...]:
        """The gain of every layer for an adapter, by a policy that does not look at the question.

        Raises ValueError where gains.json states other gains than its policy has.
        """
        inputs = PolicyInputs(norms=adapter.layer_norms(n_layers), seed=document_seed(seed, document))
        gains = tuple(self.policy(inputs).tolist())
        stated = None if self.content is None else self.content["gains"]
        same = stated is None or len(stated) == n_layers
        if stated is not None and same:
            same = all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(gains, stated, strict=True))
        if stated is not None and not same:
            raise ValueError(
                f"{self.file}: its gains, for {len(stated)} layers, are not those of {self.name} on this model of {n_layers} "
                "layers; it was written for another model, or changed; run `override-gap tune` again"
            )
        return gains


def _parts(policy: Any) -> Iterator[Any]:
    """A policy, and those that it is made of."""
    yield policy
    for value in vars(policy).values() if hasattr(policy, "__dict__") else ():
        if callable(value):
            yield from _parts(value)


def document_seed(seed: int, document: str) -> int:
    """The seed of what a policy draws for a document: the same in an audit and in use."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{document}".encode()).digest()[:7])


def named_policy(policy: str | Path | Policy) -> NamedPolicy:
    """The policy of a condition's name (`uniform-1.5`, `slb`), of a gains.json, or of a policy object.

    Raises ValueError, in one line, for a name that is no policy of gains and for a file that is no gains.json.
    """
    if not isinstance(policy, str | Path):
        return NamedPolicy(None, policy)
    if isinstance(policy, Path) or policy.endswith(".json"):
        return _from_file(Path(policy))
    return NamedPolicy(policy, _policy_of(policy))


def _policy_of(name: str) -> Policy:
    condition = parse_condition(name)
    if isinstance(condition, Base | AsDelivered):
        return Uniform(1.0 if isinstance(condition, AsDelivered) else 0.0)
    if not isinstance(condition, Scaled):
        raise ValueError(f"{name} is a condition, but no policy of gains; need one such as uniform-1.5, slb or ca")
    return condition.policy


def _from_file(file: Path) -> NamedPolicy:
    content = read_json(file)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        kind = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"{file}: need a gains.json of format {FORMAT!r}, as `override-gap tune` writes it, got {kind!r}"
        )
    name, gains = content.get("policy"), content.get("gains")
    if not isinstance(name, str):
        raise ValueError(f"{file}: need the name of its policy, got {name!r}")
    if gains is not None and not _are_gains(gains):
        raise ValueError(f"{file}: need gains as one number per layer, or null")
    try:
        return NamedPolicy(name, _policy_of(name), file, {**content, "gains": gains})
    except ValueError as fault:
        raise ValueError(f"{file}: {fault}") from fault


def _are_gains(gains: Any) -> bool:
    return isinstance(gains, Sequence) and bool(gains) and all(type(g) in (int, float) and abs(g) < 1e6 for g in gains)
