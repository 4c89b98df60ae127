"""One batch of items with their base readings and their adapters, and each way in which a condition may read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import AnyAdapter
from override_gap.margins.condition_names import DELIVERED
from override_gap.margins.gain_policies import Policy, PolicyInputs, Uniform, needs_layer_effects, probe_gain, refusal
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.items.joining import with_separator
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.runtime import RuntimeBatch, batched, usable
from override_gap.probes.attach.stack import Stack
from override_gap.probes.readings.adapted import (
    Adapted,
    fill_prompt,
    fuse_logits,
    read_adapted,
    read_base,
    read_in_context,
)
from override_gap.probes.readings.critical_gain import read_critical
from override_gap.probes.readings.layers import ReadAtGains
from override_gap.probes.readings.prior import Prior, locate, read_prior
from override_gap.probes.readings.reuse import ReusedPasses
from override_gap.probes.run.condition_readings import ConditionReadings, too_long_behind_prefix
from override_gap.probes.run.distractor_documents import Distractors
from override_gap.probes.run.effects import Effects
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.null_adapters import NullAdapters, random_adapters
from override_gap.probes.run.policy_inputs import KnownOfDocuments, layer_norms, policy_inputs
from override_gap.probes.run.search import Searchable, UnitSearch


@dataclass(frozen=True)
class ItemBatch:
    """One batch of a unit, which all conditions share: it is what `margins.batch.Batch` describes.

    `at_gain_one` are the readings under the items' own adapters as delivered; `norms` are those of each layer's updates.
    `effects` are those of the adapters on the questions, read once some policy needs them.
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
    effects: Effects

    @classmethod
    def prepare(
        cls,
        setup: MeasurementSetup,
        items: Sequence[Item],
        divergences: Sequence[Divergence],
        distractors: Distractors,
        known: KnownOfDocuments,
    ) -> ItemBatch:
        """Read the base once and the items' own adapters at gain 1, and add to `known`. Raises AdapterError for a misfit."""
        subject, layers = setup.subject, "layers" in setup.probes
        own_adapters = [distractors.adapters[item.document] for item in items]
        adapters = batched(subject, own_adapters, [place.n_question_tokens for place in divergences])
        reusable = adapters if isinstance(adapters, Stack) and not setup.plain else None
        prior = read_prior(
            subject, items, divergences, layers=layers, keep_blocks=reusable is not None, share=not setup.plain
        )
        if reusable is not None:
            passes = ReusedPasses(subject, prior, reusable, layers=layers)
            at_gain_one = passes.run_delivered()
        else:
            passes, ones = None, torch.ones(len(items), subject.n_layers)
            at_gain_one = read_adapted(subject, prior, adapters, ones, layers=layers)
        norms = layer_norms(subject, own_adapters)
        inputs = policy_inputs(subject, items, prior, divergences, at_gain_one, norms, setup.seed, known)
        effects = Effects(subject, prior, divergences, adapters)
        shared = (prior, adapters, own_adapters, norms, at_gain_one, inputs, distractors, passes, effects)
        return cls(setup, items, divergences, *shared)

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
        known = self._known_to(policy)
        gains = torch.stack([policy(inputs) for inputs in known])
        refused = {n: why for n, inputs in enumerate(known) if (why := refusal(policy, inputs))}
        state = self._at(gains)
        norms = self._adapter_norms(self.norms)
        return ConditionReadings(
            state, gains, self.own_adapters, self._questions, norms, has_layers=True, refused=refused
        )

    def _known_to(self, policy: Policy) -> Sequence[PolicyInputs]:
        """What the policy may know of each item; the adapter's effect is read where the policy needs it."""
        known, gain = self.policy_inputs, probe_gain(policy)
        if gain is not None:
            known = self.effects.known(known, gain, self._at)
        return self.effects.known_by_layer(known, self._at) if needs_layer_effects(policy) else known

    def _at(self, gains: Float[Tensor, "batch layer"]) -> Adapted:
        """The items' own adapters at these gains."""
        if bool((gains == 1).all()) and not self.setup.plain:
            return self.at_gain_one
        if self.passes is None:
            return read_adapted(self.setup.subject, self.prior, self.adapters, gains, layers=self._layers)
        return self.passes(gains, layers=self._layers)

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

    def joined(self, documents: int, *, mean: bool = False) -> ConditionReadings:
        """Each item under the adapters of so many documents, added up or their factors averaged, at gain 1."""
        return self._under(*self.distractors.joined(self.items, self.own_adapters, documents, mean=mean))

    def reworded(self, wording: str) -> ConditionReadings:
        """Each item under the adapter made of its document in other words, at gain 1."""
        adapters = [self.distractors.adapter(item, 1, wording) for item in self.items]
        return self._under(adapters, self._obstacles(1, wording))

    def under_other(self) -> ConditionReadings:
        """Each item under another document's adapter, at gain 1."""
        partners = self._nulls.documents.partners
        made_of = [partners[item.id].text if item.id in partners else item.document for item in self.items]
        found = [self._nulls.other(item) for item in self.items]
        # an item set may hold one document alone: that is no failure, and no reason to call an audit incomplete
        alone = {n: str(found[n]) for n, item in enumerate(self.items) if item.id not in partners}
        under = self._under_null(found, made_of, made_of)
        unreadable = {n: reason for n, reason in under.unreadable.items() if n not in alone}
        return replace(under, unreadable=unreadable, refused=alone)

    def under_mean(self) -> ConditionReadings:
        """Each item under the mean adapter of documents about other knowledge points, at gain 1."""
        documents = [item.document for item in self.items]
        halves = [f"mean {self._nulls.documents.mean_half[text]}" for text in documents]
        return self._under_null([self._nulls.mean(item) for item in self.items], halves, documents)

    def under_random(self) -> ConditionReadings:
        """Each item under a random adapter of its own adapter's norm and rank at every weight, at gain 1."""
        documents = [item.document for item in self.items]
        drawn = random_adapters(self.items, self.own_adapters, self.setup.seed)
        return self._under_null(drawn, [f"random {text}" for text in documents], documents)

    def searched(self, unit: UnitSearch) -> list[dict[str, Any]]:
        """Rows of the search of each conflict that the base knows and that fails as delivered, under its own adapter."""
        documents = [item.document for item in self.items]
        own = Searchable(self._read, self.own_adapters, documents, documents)
        return unit.rows(DELIVERED, self.items, self.prior, own, self._failing)

    def searched_null(self, unit: UnitSearch, name: str, under: ConditionReadings) -> list[dict[str, Any]]:
        """The same conflicts searched under another adapter; none where the condition is not searched."""
        if under.search is None or not isinstance(self.adapters, Stack):
            return []
        failing = [n for n in self._failing if n not in under.unreadable and n not in under.refused]
        return unit.rows(name, self.items, self.prior, under.search, failing, to_breaking=False)

    @property
    def _failing(self) -> list[int]:
        """The conflicts that the base knows and that fail as delivered."""
        flipped = (self.at_gain_one.top == self.prior.doc).tolist()
        finite = self.at_gain_one.top_prob.isfinite().tolist()
        return [
            n
            for n, (item, known) in enumerate(zip(self.items, self.prior.known.tolist(), strict=True))
            if item.split == "conflict" and known == 1.0 and finite[n] and not flipped[n]
        ]

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

    def _under(
        self,
        adapters: Sequence[AnyAdapter],
        obstacles: dict[int, str],
        keys: Sequence[str] = (),
        made_of: Sequence[str] = (),
    ) -> ConditionReadings:
        """Readings at gain 1 under other adapters than the items' own; `keys` and `made_of` where they are searched as well."""
        subject = self.setup.subject
        tokens = [place.n_question_tokens for place in self.divergences]
        together, adapters, broken = usable(subject, adapters, tokens, instead=self.own_adapters)
        obstacles |= {n: reason for n, reason in broken.items() if n not in obstacles}
        for n, (place, adapter) in enumerate(zip(self.divergences, adapters, strict=True)):
            reason = too_long_behind_prefix(subject, place, adapter)
            if reason is not None:
                obstacles.setdefault(n, reason)
        gains = torch.ones_like(self.norms)
        if self.passes is not None and isinstance(together, Stack):
            read: ReadAtGains = self.passes.under(together)
        else:
            read = partial(read_adapted, subject, self.prior, together)
        norms = self._adapter_norms(layer_norms(subject, adapters))
        search = Searchable(read, adapters, keys, made_of) if keys else None
        return ConditionReadings(read(gains), gains, adapters, self._questions, norms, obstacles, search)

    @property
    def _nulls(self) -> NullAdapters:
        assert self.distractors.nulls is not None, "null conditions come with their adapters"
        return self.distractors.nulls

    def _under_null(
        self, found: Sequence[AnyAdapter | str], keys: Sequence[str], made_of: Sequence[str]
    ) -> ConditionReadings:
        """Readings under an adapter per item, or the reason why it has none; another item's holds its place in the batch."""
        reasons = {n: adapter for n, adapter in enumerate(found) if isinstance(adapter, str)}
        present = [adapter for adapter in found if not isinstance(adapter, str)]
        fill = present[0] if present else self.own_adapters[0]
        adapters = [fill if isinstance(adapter, str) else adapter for adapter in found]
        return self._under(adapters, reasons, keys, made_of)

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
