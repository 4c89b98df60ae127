"""A policy as a user names it: the name of a condition, a gains.json that `tune` wrote, or a policy object."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath

from override_gap.margins.adapter import Adapter
from override_gap.margins.condition_names import expand
from override_gap.margins.condition_parser import parse_condition
from override_gap.margins.gain_policies import (
    Policy,
    PolicyInputs,
    RandomLayers,
    RandomMatched,
    Uniform,
    given_gains,
)
from override_gap.margins.gains_file import GainsFile, read_gains


@dataclass(frozen=True)
class NamedPolicy:
    """A policy with the name under which an audit measures it (None for one without), and the gains.json that chose it."""

    name: str | None
    policy: Policy
    file: Path | None = None
    content: GainsFile | None = None

    @property
    def title(self) -> str:
        """The policy in words, for messages and files."""
        return self.name or repr(self.policy)

    @property
    def needs_document(self) -> bool:
        """Whether the gains are drawn at random by document, so that its text is needed to draw them again."""
        return isinstance(self.policy, RandomLayers | RandomMatched)

    def notes_on(self, fingerprint: str, adapters: str | None = None) -> list[str]:
        """What a user of a gains.json should know, a line each: what it recommends, another model, another method.

        `fingerprint` is the subject's, `adapters` the source's name where one is known.
        """
        if self.content is None:
            return []
        notes = []
        if self.content.recommendation != "scale":
            notes.append(f"{self.file} recommends {self.content.recommendation}: {self.content.says}")
        stated = self.content.subject.get("fingerprint")
        if stated and stated != fingerprint:
            notes.append(
                f"{self.file} was chosen on another model, or in another number format: its figures are of that one"
            )
        chosen_on = self.content.adapters.get("name")
        if adapters is not None and chosen_on and chosen_on != adapters:
            notes.append(
                f"{self.file} was chosen on the adapters of {chosen_on}, these are of {adapters}: tune a run of these"
            )
        return notes

    def require_subject(self, name: str, fingerprint: Callable[[], str | None]) -> None:
        """Raise ValueError where the gains.json was chosen on a model of another name and fingerprint.

        A model of the same name may be in another number format, and so have another fingerprint. `fingerprint` is asked only
        where the names differ, and gives None where it cannot be known.
        """
        stated = {} if self.content is None else self.content.subject
        chosen_on, own = (PurePath(text or "").name for text in (stated.get("name"), name))
        if not chosen_on or not own or chosen_on == own:
            return
        found = fingerprint()
        if found is not None and found == stated.get("fingerprint"):
            return
        asked = (
            "" if found is not None else "; if it is that model under another name, give tokenizer=, to compare the two"
        )
        raise ValueError(
            f"{self.file} was chosen on {chosen_on[:100]}, this model is {own[:100]}: tune a run of this one, or name the "
            f"policy, {self.title}{asked}"
        )

    def require_layers(self, n_layers: int) -> None:
        """Raise ValueError where the policy, or the gains.json that names it, states gains for another number of layers."""
        stated = given_gains(self.policy)
        if self.content is not None and self.content.gains is not None:
            stated = len(self.content.gains)
        if stated is not None and stated != n_layers:
            where = self.title if self.file is None else str(self.file)
            raise ValueError(f"{where} states gains for {stated} layers, and the model has {n_layers}")

    def gains(self, adapter: Adapter, n_layers: int, document: str = "", seed: int = 0) -> tuple[float, ...]:
        """The gain of every layer for an adapter, by a policy that does not look at the question.

        Raises ValueError for gains of another number of layers.
        """
        self.require_layers(n_layers)
        inputs = PolicyInputs(norms=adapter.layer_norms(n_layers), seed=document_seed(seed, document))
        gains = tuple(map(float, self.policy(inputs).tolist()))
        if not all(map(math.isfinite, gains)):
            raise ValueError(f"{self.title} gives adapter {adapter.name} gains that are not finite: are its updates?")
        return gains


def document_seed(seed: int, document: str) -> int:
    """The seed of what a policy draws for a document: the same in an audit and in use."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{document}".encode()).digest()[:7])


def named_policy(policy: str | Path | float | Policy) -> NamedPolicy:
    """The policy of a condition's name (`uniform-1.5`, `slb`), of a gains.json, one gain for all layers, or a policy object.

    Raises ValueError, in one line, for a name that is no policy of gains and for a file that is no gains.json.
    """
    if isinstance(policy, int | float) and not isinstance(policy, bool):
        if not (math.isfinite(policy) and policy >= 0):
            raise ValueError(f"a gain is a number from 0 on, got {policy}")
        return NamedPolicy(None, Uniform(float(policy)))
    if not isinstance(policy, str | Path):
        if not isinstance(policy, Policy):
            raise ValueError(
                f"need a policy: its name (uniform-1.5, slb), a gains.json, a gain or a Policy; got {policy!r:.60}"
            )
        return NamedPolicy(None, policy)
    if isinstance(policy, Path) or policy.endswith(".json"):
        content = read_gains(policy)
        return NamedPolicy(content.policy, _policy_of(content.policy), Path(policy), content)
    return NamedPolicy(policy, _policy_of(policy))


def _policy_of(name: str) -> Policy:
    if len(several := expand(name)) > 1:
        raise ValueError(f"{name} stands for several gains ({', '.join(several[:3])}, ...); name one of them")
    policy = parse_condition(name).gain_policy
    if policy is None:
        raise ValueError(f"{name} is a condition, but no policy of gains; need one such as uniform-1.5, slb or ca")
    return policy
