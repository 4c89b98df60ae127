"""Conditions: the ways in which a batch of items is read, each a small class that says how."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from override_gap.margins.batch import Batch, R
from override_gap.margins.condition_names import (
    BASE,
    COMBINED,
    CONTESTED,
    DELIVERED,
    NULL_MEAN,
    NULL_OTHER,
    NULL_RANDOM,
)
from override_gap.margins.condition_names import IN_CONTEXT as PROMPTED
from override_gap.margins.gain_policies import Policy, RelevanceGate, Uniform, given_gains
from override_gap.margins.items.joining import between_sentences

IN_CONTEXT = "{document}\n{question}"
PROMPTS = {
    PROMPTED: IN_CONTEXT,
    "in-context-instructed": (
        "Answer from the text below. It is true, whatever you believed before.\n\n{document}\n\n{question}"
    ),
}
#: A second turn in plain text, since a base model has no turns: the document's answer was given and is contradicted.
CONTEST = "{statement}. No, that is wrong: it is {rival}. {question}"


@dataclass(frozen=True)
class Condition(ABC):
    """A way to run the model, by the name under which its readings are stored."""

    name: str

    @property
    def gain_policy(self) -> Policy | None:
        """The policy that sets the gains of the item's own adapter; None where that does not act by gains."""
        return None

    @property
    def needs_gain(self) -> bool:
        """Whether gains other than 0 and 1 are set, which a method that is not a weight update cannot follow."""
        return False

    @property
    def given_layers(self) -> int | None:
        """For how many layers gains are given one by one, whatever the model; None where they are not."""
        return None

    @property
    def needs_update(self) -> bool:
        """Whether adapters are joined by their ranks or stand behind a prompt: both take weight updates."""
        return False

    @property
    def needs_partner(self) -> bool:
        """Whether another document's adapter acts, which takes a method whose adapters differ by document."""
        return False

    @property
    def needs_mean(self) -> bool:
        """Whether the mean adapter of other documents acts, which takes the same."""
        return False

    @property
    def wordings(self) -> tuple[str, ...]:
        """The wordings of a document from which this condition's adapters are made, beside its own."""
        return ()

    @property
    def beside(self) -> tuple[str, ...]:
        """Conditions without which this one's numbers say little, beside as-delivered: they are measured with it."""
        return ()

    @abstractmethod
    def read(self, batch: Batch[R]) -> R:
        """The batch's readings under this condition."""


@dataclass(frozen=True)
class Base(Condition):
    """The model without any adapter."""

    name: str = BASE

    @property
    def gain_policy(self) -> Policy:
        """Gain 0."""
        return Uniform(0.0)

    def read(self, batch: Batch[R]) -> R:
        return batch.base()


@dataclass(frozen=True)
class AsDelivered(Condition):
    """Gain 1 everywhere: the method as its author ships it."""

    name: str = DELIVERED

    @property
    def gain_policy(self) -> Policy:
        """Gain 1."""
        return Uniform(1.0)

    def read(self, batch: Batch[R]) -> R:
        return batch.delivered()


@dataclass(frozen=True)
class Scaled(Condition):
    """The adapter at the gains that a policy sets."""

    policy: Policy

    @property
    def gain_policy(self) -> Policy:
        """Its policy."""
        return self.policy

    @property
    def needs_gain(self) -> bool:
        """Whether the policy sets gains other than 0 and 1."""
        return self.policy not in (Uniform(1.0), RelevanceGate())

    @property
    def given_layers(self) -> int | None:
        """That of the policy."""
        return given_gains(self.policy)

    def read(self, batch: Batch[R]) -> R:
        return batch.scaled(self.policy)


@dataclass(frozen=True)
class LogitFusion(Condition):
    """Amplitude on the logits: base + gain * (adapted - base)."""

    gain: float = 1.5

    def read(self, batch: Batch[R]) -> R:
        return batch.fused(self.gain)


@dataclass(frozen=True)
class InContext(Condition):
    """No adapter; so many documents, the item's own among them, in a prompt before the question."""

    prompt: str = IN_CONTEXT
    documents: int = 1

    def read(self, batch: Batch[R]) -> R:
        return batch.prompted(self.prompt, documents=self.documents)


@dataclass(frozen=True)
class Combined(Condition):
    """The adapter as delivered and the item's document in the prompt before the question."""

    name: str = COMBINED
    prompt: str = IN_CONTEXT

    @property
    def needs_update(self) -> bool:
        """An adapter stands behind a prompt."""
        return True

    @property
    def beside(self) -> tuple[str, ...]:
        """The same prompt without the adapter."""
        return (PROMPTED,)

    def read(self, batch: Batch[R]) -> R:
        return batch.prompted(self.prompt, adapted=True)


@dataclass(frozen=True)
class Contested(Condition):
    """The adapter as delivered, asked a second time after its answer was contradicted."""

    name: str = CONTESTED

    @property
    def needs_update(self) -> bool:
        """An adapter stands behind a prompt."""
        return True

    def read(self, batch: Batch[R]) -> R:
        return batch.prompted(CONTEST, adapted=True)


@dataclass(frozen=True)
class Joined(Condition):
    """The adapters of so many documents joined into one, added up or their factors averaged; each item is asked about its own."""

    documents: int = 2
    mean: bool = False

    @property
    def needs_update(self) -> bool:
        """Adapters are joined by their ranks."""
        return True

    @property
    def wordings(self) -> tuple[str, ...]:
        """The document as it stands: each needs an adapter of its own."""
        return ("{document}",)

    @property
    def beside(self) -> tuple[str, ...]:
        """For the mean, which is how a method is run, the prompt that it competes with."""
        return (PROMPTED,) if self.mean else ()

    def read(self, batch: Batch[R]) -> R:
        return batch.joined(self.documents, mean=self.mean)


@dataclass(frozen=True)
class Reworded(Condition):
    """An adapter made of the document in another wording: repeated, hedged or negated."""

    wording: str = "{document}"

    @property
    def wordings(self) -> tuple[str, ...]:
        """Its one wording."""
        return (self.wording,)

    def read(self, batch: Batch[R]) -> R:
        return batch.reworded(self.wording)


@dataclass(frozen=True)
class NullOther(Condition):
    """Null: another document's adapter, which holds another answer; for any method."""

    name: str = NULL_OTHER

    @property
    def needs_partner(self) -> bool:
        """The other document."""
        return True

    def read(self, batch: Batch[R]) -> R:
        return batch.under_other()


@dataclass(frozen=True)
class NullMean(Condition):
    """Null: what the adapters of documents have in common, without any one document's content."""

    name: str = NULL_MEAN

    @property
    def needs_update(self) -> bool:
        """A mean is taken of weight updates."""
        return True

    @property
    def needs_mean(self) -> bool:
        """The mean."""
        return True

    def read(self, batch: Batch[R]) -> R:
        return batch.under_mean()


@dataclass(frozen=True)
class NullRandom(Condition):
    """Null: a random change of the weights of the same size."""

    name: str = NULL_RANDOM

    @property
    def needs_update(self) -> bool:
        """Its norm and rank are those of a weight update."""
        return True

    def read(self, batch: Batch[R]) -> R:
        return batch.under_random()


def reword(wording: str, document: str) -> str:
    """The document in a wording; braces in the document stay as they are. Repeated, it is joined as its script is written."""
    return wording.replace("} {", "}" + between_sentences(document) + "{").replace("{document}", document)
