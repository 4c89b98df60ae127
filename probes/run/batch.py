"""One batch of items with their base readings and their adapters, and each way in which a condition may read it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, AnyAdapter
from override_gap.margins.condition_names import DELIVERED
from override_gap.margins.conditions import Condition
from override_gap.margins.gain_policies import Policy, PolicyInputs, Uniform
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.items.joining import with_separator
from override_gap.margins.items.relevance import is_relevant
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.runtime import RuntimeBatch, batched, prefix_length
from override_gap.probes.attach.stack import Stack
from override_gap.probes.readings.adapted import (
    Adapted,
    fill_prompt,
    fuse_logits,
    read_adapted,
    read_base,
    read_in_context,
)
from override_gap.probes.readings.batching import BatchSizer
from override_gap.probes.readings.critical_gain import read_critical
from override_gap.probes.readings.generation import Sampling
from override_gap.probes.readings.prior import Prior, locate, read_prior
from override_gap.probes.readings.reuse import ReusedPasses
from override_gap.probes.run import rows
from override_gap.probes.run.comparisons import Comparisons
from override_gap.probes.run.distractor_documents import Distractors
from override_gap.probes.run.null_adapters import NullAdapters, random_adapters
from override_gap.probes.run.search import UnitSearch
from override_gap.probes.subject.model import Subject


@dataclass(frozen=True)
class MeasurementSetup:
    """What all units of a run share. `batch_size` 0: as many as fit in memory; `plain`: no work is shared between passes.

    `rescued_answers`: how many failures of a unit that a gain repairs are answered in words at that gain.
    """

    subject: Subject
    conditions: tuple[Condition, ...]
    probes: frozenset[str]
    batch_size: int
    seed: int
    sampled: tuple[Sampling, ...] = ()
    plain: bool = False
    batch_sizer: BatchSizer = field(default_factory=BatchSizer)
    comparisons: Comparisons = field(default_factory=Comparisons)
    rescued_answers: int = 0


@dataclass(frozen=True)
class ConditionReadings:
    """What a batch gave under one condition.

    `gains` are those at which adapters acted, None where none did or where logits were mixed; `adapters` act on the
    weights when an answer is generated at these gains; `questions` are as put to the model; `adapter_norms` are per item,
    in weight units, None where no update acted. `unreadable` maps a row to the reason why it was not measured.
    `has_layers`: each item's own adapter or none acted, so that the margin may be split over layers. `has_answers`: answers
    can be generated, which is not so where only logits are mixed.
    """

    state: Adapted
    gains: Float[Tensor, "batch layer"] | None
    adapters: Sequence[AnyAdapter]
    questions: Sequence[str]
    adapter_norms: Sequence[float | None]
    unreadable: Mapping[int, str] = field(default_factory=dict)
    has_layers: bool = False
    has_answers: bool = True
    as_delivered: bool = False


@dataclass(frozen=True)
class ItemBatch:
    """One batch of a unit, which all conditions share: it is what `margins.conditions.Batch` describes.

    `at_gain_one` are the readings under the items' own adapters as delivered; `norms` are those of each layer's updates.
    """

    setup: MeasurementSetup
    items: Sequence[Item]
    divergences: Sequence[Divergence]
    prior: Prior
    adapters: Stack | RuntimeBatch
    own_adapters: Sequence[AnyAdapter]
    norms: Float[Tensor, "batch layer"]
    at_gain_one: Adapted
    policy_inputs: Sequence[PolicyInputs]
    distractors: Distractors
    passes: ReusedPasses | None

    @classmethod
    def prepare(
        cls,
        setup: MeasurementSetup,
        items: Sequence[Item],
        divergences: Sequence[Divergence],
        distractors: Distractors,
    ) -> ItemBatch:
        """Read the base once and the items' own adapters at gain 1. Raises AdapterError for one that does not fit."""
        subject, layers = setup.subject, "layers" in setup.probes
        own_adapters = [distractors.adapters[item.document] for item in items]
        adapters = batched(subject, own_adapters, [place.n_question_tokens for place in divergences])
        reusable = adapters if isinstance(adapters, Stack) and not setup.plain else None
        prior = read_prior(subject, items, divergences, layers=layers, keep_blocks=reusable is not None)
        if reusable is not None:
            passes = ReusedPasses(subject, prior, reusable, layers=layers)
            at_gain_one = passes.run_delivered()
        else:
            passes, ones = None, torch.ones(len(items), subject.n_layers)
            at_gain_one = read_adapted(subject, prior, adapters, ones, layers=layers)
        norms = layer_norms(subject, own_adapters)
        inputs = policy_inputs(items, prior, at_gain_one, norms, setup.seed)
        return cls(
            setup, items, divergences, prior, adapters, own_adapters, norms, at_gain_one, inputs, distractors, passes
        )

    def base(self) -> ConditionReadings:
        """The base model, no adapter."""
        return ConditionReadings(
            state=read_base(self.prior, self.setup.subject),
            gains=torch.zeros_like(self.norms),
            adapters=self.own_adapters,
            questions=self._questions,
            adapter_norms=[None] * len(self.items),
            has_layers=True,
        )

    def delivered(self) -> ConditionReadings:
        """Each item under its own adapter at gain 1."""
        return replace(self.scaled(Uniform(1.0)), as_delivered=True)

    def scaled(self, policy: Policy) -> ConditionReadings:
        """Each item under its own adapter, at the gains that the policy sets."""
        gains = torch.stack([policy(inputs) for inputs in self.policy_inputs])
        if bool((gains == 1).all()) and not self.setup.plain:
            state = self.at_gain_one
        elif self.passes is None:
            state = read_adapted(self.setup.subject, self.prior, self.adapters, gains, layers=self._layers)
        else:
            state = self.passes(gains, layers=self._layers)
        return ConditionReadings(
            state, gains, self.own_adapters, self._questions, self._adapter_norms(self.norms), has_layers=True
        )

    def fused(self, gain: float) -> ConditionReadings:
        """base + gain * (adapted - base) on the logits."""
        state = fuse_logits(self.setup.subject, self.prior, self.at_gain_one, gain)
        norms = self._adapter_norms(self.norms)
        return ConditionReadings(state, None, self.own_adapters, self._questions, norms, has_answers=False)

    def prompted(self, prompt: str, *, documents: int = 1, adapted: bool = False) -> ConditionReadings:
        """Each item's texts in a prompt, with so many documents; the model is the base, or adapted at gain 1."""
        subject = self.setup.subject
        items, unreadable = list(self.items), {}
        if documents > 1:
            unreadable = self._obstacles(documents)
            items = [replace(i, document=self.distractors.distractor_prompt(i, documents)) for i in items]
        questions = [fill_prompt(prompt, item) for item in items]
        for n, (item, question) in enumerate(zip(items, questions, strict=True)):
            try:
                locate(subject, replace(with_separator(item), question=question))
            except ItemError as reason:
                unreadable.setdefault(n, str(reason))
        # an item that cannot be read behind the prompt has a short document in the batch; its row says so instead
        items = [replace(item, document=".") if n in unreadable else item for n, item in enumerate(items)]
        if not adapted:
            state = read_in_context(subject, self.prior, items, prompt)
            return ConditionReadings(state, None, self.own_adapters, questions, [None] * len(items), unreadable)
        gains = torch.ones_like(self.norms)
        with attached(subject, self.stack, gains):
            state = read_in_context(subject, self.prior, items, prompt)
        norms = self._adapter_norms(self.norms)
        return ConditionReadings(state, gains, self.own_adapters, questions, norms, unreadable)

    def joined(self, documents: int) -> ConditionReadings:
        """Each item under the adapters of so many documents joined into one, its own among them, at gain 1."""
        return self._under(
            [self.distractors.adapter(item, documents) for item in self.items], self._obstacles(documents)
        )

    def reworded(self, wording: str) -> ConditionReadings:
        """Each item under the adapter made of its document in other words, at gain 1."""
        adapters = [self.distractors.adapter(item, 1, wording) for item in self.items]
        return self._under(adapters, self._obstacles(1, wording))

    def under_other(self) -> ConditionReadings:
        """Each item under another document's adapter, at gain 1."""
        return self._under(*self._null_adapters([self._nulls.other(item) for item in self.items]))

    def under_mean(self) -> ConditionReadings:
        """Each item under the mean adapter of documents about other knowledge points, at gain 1."""
        return self._under(*self._null_adapters([self._nulls.mean(item) for item in self.items]))

    def under_random(self) -> ConditionReadings:
        """Each item under a random adapter of its own adapter's norm and rank at every weight, at gain 1."""
        return self._under(random_adapters(self.items, self.own_adapters, self.setup.seed), {})

    def searched(self, unit: UnitSearch) -> list[dict[str, Any]]:
        """Rows of the search of each conflict that the base knows and that fails as delivered, under its own adapter."""
        flipped = (self.at_gain_one.top == self.prior.doc).tolist()
        finite = self.at_gain_one.top_prob.isfinite().tolist()
        failing = [
            n
            for n, (item, known) in enumerate(zip(self.items, self.prior.known.tolist(), strict=True))
            if item.split == "conflict" and known == 1.0 and finite[n] and not flipped[n]
        ]
        documents = [item.document for item in self.items]
        return unit.rows(
            DELIVERED, self.items, self.prior, self._read, self.own_adapters, documents, documents, failing
        )

    def _read(self, gains: Float[Tensor, "batch layer"]) -> Adapted:
        if self.passes is not None:
            return self.passes(gains)
        return read_adapted(self.setup.subject, self.prior, self.stack, gains)

    def critical_gains(self, searched: Sequence[dict[str, Any]] = ()) -> list[float | None]:
        """The least uniform gain at which each conflict flips; None for other items. `searched`: rows of the search."""
        number = {item.id: n for n, item in enumerate(self.items)}
        beyond: list[set[float]] = [set() for _ in self.items]
        for row in searched:
            if row["condition"] == DELIVERED and row["success_top1"] is not None:
                beyond[number[row["item"]]].add(row["gain"])
        conflicts = [item.split == "conflict" for item in self.items]
        gains = read_critical(self.setup.subject, self.prior, self.stack, self.passes, beyond, conflicts)
        return [g if conflict else None for g, conflict in zip(gains, conflicts, strict=True)]

    @property
    def stack(self) -> Stack:
        """The adapters as weight updates; a source that has none is refused what needs them before anything is measured."""
        assert isinstance(self.adapters, Stack), "what needs weight updates is refused to a method that has none"
        return self.adapters

    def _under(self, adapters: Sequence[AnyAdapter], obstacles: dict[int, str]) -> ConditionReadings:
        """Readings at gain 1 under other adapters than the items' own."""
        subject = self.setup.subject
        together = batched(subject, adapters, [place.n_question_tokens for place in self.divergences])
        for n, (place, adapter) in enumerate(zip(self.divergences, adapters, strict=True)):
            reason = too_long_behind_prefix(subject, place, adapter)
            if reason is not None:
                obstacles.setdefault(n, reason)
        gains = torch.ones_like(self.norms)
        if self.passes is not None and isinstance(together, Stack):
            state = self.passes.under(together)(gains)
        else:
            state = read_adapted(subject, self.prior, together, gains)
        norms = self._adapter_norms(layer_norms(subject, adapters))
        return ConditionReadings(state, gains, adapters, self._questions, norms, obstacles)

    @property
    def _nulls(self) -> NullAdapters:
        assert self.distractors.nulls is not None, "null conditions come with their adapters"
        return self.distractors.nulls

    def _null_adapters(self, found: Sequence[AnyAdapter | str]) -> tuple[list[AnyAdapter], dict[int, str]]:
        """An adapter per item, and the reasons of those that have none; another's, or the item's own, holds the place."""
        reasons = {n: adapter for n, adapter in enumerate(found) if isinstance(adapter, str)}
        present = [adapter for adapter in found if not isinstance(adapter, str)]
        fill = present[0] if present else self.own_adapters[0]
        return [fill if isinstance(adapter, str) else adapter for adapter in found], reasons

    def _obstacles(self, documents: int, wording: str = "{document}") -> dict[int, str]:
        reasons = ((n, self.distractors.obstacle(item, documents, wording)) for n, item in enumerate(self.items))
        return {n: reason for n, reason in reasons if reason is not None}

    def _adapter_norms(self, norms: Float[Tensor, "batch layer"]) -> list[float | None]:
        if not isinstance(self.adapters, Stack):
            return [None] * len(self.items)
        return torch.linalg.norm(norms, dim=1).tolist()

    @property
    def _layers(self) -> bool:
        return "layers" in self.setup.probes

    @property
    def _questions(self) -> list[str]:
        return [item.question for item in self.items]


def too_long_behind_prefix(subject: Subject, place: Divergence, adapter: AnyAdapter | None) -> str | None:
    """Why an adapter's prefix leaves no room for an item's tokens, or None."""
    before, tokens = prefix_length(adapter), len(place.tokens)
    if before == 0 or subject.max_positions is None or before + tokens <= subject.max_positions:
        return None
    return f"{tokens} tokens behind a prefix of {before}, more than the model's {subject.max_positions} positions"


def layer_norms(subject: Subject, adapters: Sequence[AnyAdapter]) -> Float[Tensor, "batch layer"]:
    """Frobenius norms of each layer's updates; NaN for a method that is no weight update (zero would be a norm)."""
    none = torch.full((subject.n_layers,), float("nan"))
    return rows.stacked_norms([a.layer_norms(subject.n_layers) if isinstance(a, Adapter) else none for a in adapters])


def policy_inputs(
    items: Sequence[Item], prior: Prior, at_gain_one: Adapted, norms: Float[Tensor, "batch layer"], seed: int
) -> list[PolicyInputs]:
    """What a policy may know of each item. A retention question has no margins to match: the document is not about it."""
    inputs = []
    for n, item in enumerate(items):
        about_document = item.split != "retention"
        inputs.append(
            PolicyInputs(
                norms=norms[n],
                base_top_prob=float(prior.top_prob[n]),
                base_says_document=bool(prior.says_document[n]) and about_document,
                relevant=is_relevant(item.document, item.question),
                prior_margin=float(at_gain_one.margins.prior[n]) if about_document else float("nan"),
                adapter_margin=float(at_gain_one.margins.adapter[n]) if about_document else float("nan"),
                seed=int.from_bytes(hashlib.sha256(f"{seed}:{item.document}".encode()).digest()[:7]),
            )
        )
    return inputs
