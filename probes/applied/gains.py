"""The gains that a policy sets for the questions of a prompt, from the passes that it needs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.effect import effect, lead
from override_gap.margins.gain_policies import (
    MarginMatched,
    PolicyInputs,
    looks_at_question,
    needs_layer_effects,
    probe_gain,
    reads_answer,
    reads_words,
    refusal,
)
from override_gap.margins.gain_policies.needs import parts
from override_gap.margins.items.relevance import RELEVANT
from override_gap.margins.named_policy import NamedPolicy, document_seed
from override_gap.probes.applied.cost import Cost
from override_gap.probes.applied.known import Known
from override_gap.probes.applied.prompt import Prompt
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.live_model import LiveModel

Attach = Callable[[Sequence[int], Float[Tensor, "batch layer"]], AbstractContextManager[Any]]
"""Attaches the adapters of these numbers at these gains."""


@dataclass(frozen=True)
class PolicyInUse:
    """A policy with all that it may know of the adapters: norms and documents, by the adapter's number.

    `fixed`: the gains of every adapter where the policy does not look at the question, else None.
    """

    named: NamedPolicy
    norms: Float[Tensor, "adapter layer"]
    known: tuple[Known, ...]
    tokenizer: Any
    seed: int
    question_of: Callable[[str], str]
    fixed: Float[Tensor, "adapter layer"] | None

    @classmethod
    def of(
        cls,
        live: LiveModel,
        named: NamedPolicy,
        adapters: Sequence[Adapter],
        known: tuple[Known, ...],
        tokenizer: Any,
        seed: int,
        question_of: Callable[[str], str] = str,
    ) -> PolicyInUse:
        """The policy on these adapters. Raises AdapterError for what is missing and was to be given at construction."""
        norms = torch.stack([adapter.layer_norms(live.n_layers) for adapter in adapters])
        if any(isinstance(part, MarginMatched) for part in parts(named.policy)):
            raise AdapterError(
                f"{named.title} needs the margins of questions whose answers are known, which no question in use comes with"
            )
        if needs_layer_effects(named.policy):
            raise AdapterError(
                f"{named.title} needs backward passes for every question; it can be audited, not applied"
            )
        if reads_words(named.policy):
            if any(k.text is None for k in known):
                raise AdapterError(f"{named.title} compares the question's words with the document's: give documents=")
            if tokenizer is None:
                raise AdapterError(f"{named.title} reads the question's text: give tokenizer=")
        if named.needs_document and any(k.text is None for k in known):
            raise AdapterError(f"{named.title} draws layers by the document's text: give documents=")
        try:
            named.require_layers(live.n_layers)
        except ValueError as fault:
            raise AdapterError(str(fault)) from fault
        if looks_at_question(named.policy):
            return cls(named, norms, known, tokenizer, seed, question_of, None)
        try:
            fixed = [named.gains(a, live.n_layers, k.text or "", seed) for a, k in zip(adapters, known, strict=True)]
        except ValueError as fault:
            raise AdapterError(str(fault)) from fault
        return cls(named, norms, known, tokenizer, seed, question_of, torch.tensor(fixed))

    def gains(
        self, model: Any, prompt: Prompt, numbers: Sequence[int], attach: Attach, cost: Cost
    ) -> Float[Tensor, "batch layer"]:
        """One gain per row and layer; `numbers` says which adapter is each row's. Extra passes are added to the cost.

        Raises AdapterError where the policy cannot set a row's gains from what is known.
        """
        if self.fixed is not None:
            return self.fixed[list(numbers)]
        started = time.perf_counter()
        base = prompt.logits(model)
        effects = leads = [math.nan] * len(numbers)
        passes, gain = 1, probe_gain(self.named.policy)
        if gain is not None:
            with attach(numbers, torch.full((len(numbers), self.norms.shape[1]), gain)):
                adapted, passes = prompt.logits(model), 2
            effects, leads = effect(base, adapted, gain).tolist(), lead(base, adapted).tolist()
        best = base.max(-1)
        probabilities = (best.values - base.logsumexp(-1)).exp().tolist()
        rows = []
        for n, number in enumerate(numbers):
            known = self.known[number]
            inputs = PolicyInputs(
                norms=self.norms[number],
                base_top_prob=probabilities[n],
                base_says_document=self._says(known, prompt, n, int(best.indices[n])),
                relevant=self._overlap(known, prompt, n) >= RELEVANT,
                overlap=self._overlap(known, prompt, n),
                seed=document_seed(self.seed, known.text or ""),
                effect=effects[n],
                lead=leads[n],
            )
            if why := refusal(self.named.policy, inputs):
                raise AdapterError(f"row {n}: {why}{self._hint}")
            rows.append(self.named.policy(inputs))
        cost.prompts += 1
        cost.questions += len(numbers)
        cost.passes += passes
        cost.seconds += time.perf_counter() - started
        return torch.stack(rows)

    @property
    def _hint(self) -> str:
        if not reads_answer(self.named.policy):
            return ""
        return " (give answers=, what each document states" + ("" if self.tokenizer else ", and tokenizer=") + ")"

    def _says(self, known: Known, prompt: Prompt, row: int, token: int) -> bool | None:
        if self.tokenizer is None or not reads_answer(self.named.policy):
            return None
        return known.says(self.tokenizer, prompt.tokens(row), token)

    def _overlap(self, known: Known, prompt: Prompt, row: int) -> float:
        if not reads_words(self.named.policy):
            return 1.0
        return known.overlap(self.question_of(self.tokenizer.decode(prompt.tokens(row), skip_special_tokens=True)))
