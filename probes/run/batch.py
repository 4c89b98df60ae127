"""One batch of a unit under every condition."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, AnyAdapter
from override_gap.margins.conditions import Condition, Variant
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.items.relevance import is_relevant
from override_gap.margins.policies import PolicyInputs
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
from override_gap.probes.readings.layers import attribution_gap, read_causal, read_direct, read_layers
from override_gap.probes.readings.prior import Prior, locate, read_prior
from override_gap.probes.readings.reuse import ReusedPasses
from override_gap.probes.run import rows
from override_gap.probes.run.answers import ANSWER_PROBES, AnswerRequest
from override_gap.probes.run.distractors import Distractors
from override_gap.probes.subject.model import Subject

# In float32 the sum over layers agrees with the margin to rounding; a lower precision rounds the final state itself.
ATTRIBUTION_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}


class ParityError(RuntimeError):
    """The toolkit's own check failed: its numbers would be wrong, so it stops."""


@dataclass(frozen=True)
class MeasurementSetup:
    """What every unit of a run shares. `batch_size` 0: what fits; `plain`: no work is shared between passes."""

    subject: Subject
    conditions: tuple[Condition, ...]
    probes: frozenset[str]
    batch_size: int
    seed: int
    sampled: tuple[Sampling, ...] = ()
    plain: bool = False
    room: BatchSizer = field(default_factory=BatchSizer)


def _crowded(subject: Subject, place: Divergence, adapter: AnyAdapter | None) -> str | None:
    """Why a prefix leaves no room for an item's tokens, or None."""
    before, tokens = prefix_length(adapter), len(place.tokens)
    if before == 0 or subject.max_positions is None or before + tokens <= subject.max_positions:
        return None
    return f"{tokens} tokens behind a prefix of {before}, more than the model's {subject.max_positions} positions"


def _norms(subject: Subject, adapters: Sequence[AnyAdapter]) -> Float[Tensor, "batch layer"]:
    """Norms of each layer's updates; NaN for an opaque method, which has none (zero would be one)."""
    none = torch.full((subject.n_layers,), float("nan"))
    return rows.stacked_norms([a.layer_norms(subject.n_layers) if isinstance(a, Adapter) else none for a in adapters])


@dataclass(frozen=True)
class _Read:
    """Conditions of one batch: their rows, those still to be answered in words, their layers and attribution gap."""

    readings: list[dict[str, Any]]
    asked: list[AnswerRequest]
    layers: list[dict[str, Any]] = field(default_factory=list)
    gap: float = 0.0
    faults: int = 0

    @classmethod
    def together(cls, parts: Sequence[_Read]) -> _Read:
        """Several as one, in their order."""
        readings, asked, layers = [], [], []
        for part in parts:
            readings += part.readings
            asked += part.asked
            layers += part.layers
        return cls(readings, asked, layers, max(p.gap for p in parts), sum(p.faults for p in parts))


@dataclass(frozen=True)
class _Batch:
    """One batch of a unit: its base readings and its adapters, shared by all conditions."""

    bench: MeasurementSetup
    items: list[Item]
    places: list[Divergence]
    prior: Prior
    adapters: Stack | RuntimeBatch
    chosen: list[AnyAdapter]
    norms: Float[Tensor, "batch layer"]
    delivered: Adapted
    company: Distractors
    shown: list[Item]
    passes: ReusedPasses | None

    @classmethod
    def prepare(
        cls, bench: MeasurementSetup, items: list[Item], places: list[Divergence], company: Distractors
    ) -> _Batch:
        subject, deep = bench.subject, "layers" in bench.probes
        chosen = [company.adapters[item.document] for item in items]
        together = batched(subject, chosen, [place.n_question_tokens for place in places])
        reusable = together if isinstance(together, Stack) and not bench.plain else None
        prior = read_prior(subject, items, places, layers=deep, keep_blocks=reusable is not None)
        if reusable is not None:
            passes = ReusedPasses(subject, prior, reusable, layers=deep)
            delivered = passes.run_delivered()
        else:
            passes, ones = None, torch.ones(len(items), subject.n_layers)
            delivered = read_adapted(subject, prior, together, ones, layers=deep)
        norms = _norms(subject, chosen)
        return cls(bench, items, places, prior, together, chosen, norms, delivered, company, items, passes)

    def run(self, condition: Condition, answered: frozenset[str]) -> _Read:
        """One condition's readings."""
        subject = self.bench.subject
        acting = self if condition.variant is None else self._made_of(condition.variant, condition.prompt)
        state, gains = acting._state(condition)
        loud = (condition.policy is not None or condition.fusion is not None) and isinstance(self.adapters, Stack)
        norms = torch.linalg.norm(acting.norms, dim=1).tolist() if loud else [None] * len(self.items)
        table = rows.readings(subject, self.items, self.places, self.prior, state, condition.name, gains, norms)
        for n, reason in acting._unreadable(condition).items():
            table[n] = rows.failed(self.items[n], condition.name, reason)
        if "critical" in self.bench.probes and condition.name == "as-delivered":
            rows.add_critical_gains(table, self._critical())
        deep = "layers" in self.bench.probes and condition.variant is None
        if not deep or state.residual is None or subject.norm is None:
            return _Read(table, acting._asked(table, condition, gains, answered))
        profile = read_layers(subject, self.prior, state)
        gaps = attribution_gap(subject, self.prior, state, profile)
        # items whose logits are not finite are error rows already, and have no margin to split
        finite = state.margins.net.isfinite() & self.prior.strength.to(gaps.device).isfinite()
        gap = gaps[finite].max().item() if bool(finite.any()) else 0.0
        missed = (finite & ~(gaps <= ATTRIBUTION_TOLERANCE[subject.dtype])).nonzero().flatten().tolist()
        for n in missed:
            reason = f"layer attribution misses the margin by {gaps[n].item():.3g} nats"
            table[n] = rows.failed(self.items[n], condition.name, reason)
        asked = acting._asked(table, condition, gains, answered)
        extra = {}
        written = read_direct(subject, self.prior, state)
        if written is not None:
            extra["direct"] = written
        if "causal" in self.bench.probes and condition.name == "as-delivered":
            extra["alone"], extra["removed"] = read_causal(
                subject, self.prior, self._stack, list(range(subject.n_layers)), self.passes
            )
        heard = torch.zeros_like(self.norms) if gains is None else gains
        written_out = rows.layers(self.items, condition.name, profile, self.norms, heard, extra)
        lost = {self.items[n].id for n in missed}
        return _Read(table, asked, [row for row in written_out if row["item"] not in lost], gap)

    def _made_of(self, variant: Variant, prompt: str | None) -> _Batch:
        """The same items and base readings with the documents in the prompt, or the adapters, that a variant asks for."""
        if prompt is not None:
            return replace(
                self, shown=[replace(i, document=self.company.distractor_prompt(i, variant)) for i in self.items]
            )
        subject, chosen = self.bench.subject, [self.company.adapter(item, variant) for item in self.items]
        together = batched(subject, chosen, [place.n_question_tokens for place in self.places])
        passes = self.passes.under(together) if self.passes is not None and isinstance(together, Stack) else None
        return replace(self, chosen=chosen, adapters=together, norms=_norms(subject, chosen), passes=passes)

    @property
    def _stack(self) -> Stack:
        assert isinstance(self.adapters, Stack), "what needs updates is refused to a method that has none"
        return self.adapters

    def _unreadable(self, condition: Condition) -> dict[int, str]:
        """Rows of the batch that cannot be read behind a condition's prompt or in its company, with the reason."""
        found: dict[int, str] = {}
        for n, item in enumerate(self.items):
            reason = None if condition.variant is None else self.company.lacks(item, condition.variant)
            if reason is None and condition.variant is not None:
                reason = _crowded(self.bench.subject, self.places[n], self.chosen[n])
            if reason is not None:
                found[n] = reason
        for n, item in enumerate(self.shown if condition.prompt is not None else []):
            try:
                locate(self.bench.subject, replace(item, question=fill_prompt(condition.prompt or "", item)))
            except ItemError as reason:
                found.setdefault(n, str(reason))
        return found

    def _state(self, condition: Condition) -> tuple[Adapted, Float[Tensor, "batch layer"] | None]:
        subject = self.bench.subject
        if condition.fusion is not None:
            return fuse_logits(subject, self.prior, self.delivered, condition.fusion), None
        if condition.prompt is not None:
            # an item that cannot be read behind the prompt stands here without it; its row says so instead
            hopeless = self._unreadable(condition)
            items = [replace(i, document=".") if n in hopeless else i for n, i in enumerate(self.shown)]
            if condition.policy is None:
                return read_in_context(subject, self.prior, items, condition.prompt), None
            gains = torch.stack([condition.policy(situation) for situation in self._situations])
            with attached(subject, self._stack, gains):
                return read_in_context(subject, self.prior, items, condition.prompt), gains
        if condition.policy is None:
            return read_base(self.prior, subject), torch.zeros_like(self.norms)
        gains = torch.stack([condition.policy(situation) for situation in self._situations])
        if bool((gains == 1).all()) and condition.variant is None and not self.bench.plain:
            return self.delivered, gains
        deep = "layers" in self.bench.probes
        if self.passes is None:
            return read_adapted(subject, self.prior, self.adapters, gains, layers=deep), gains
        return self.passes(gains, layers=deep), gains

    @cached_property
    def _situations(self) -> list[PolicyInputs]:
        """One a row. A question that is not the document's own (retention) has no margins of its own to match."""
        margins = self.delivered.margins
        return [
            PolicyInputs(
                norms=self.norms[n],
                base_top_prob=float(self.prior.top_prob[n]),
                base_says_document=bool(self.prior.says_document[n]) and item.split != "retention",
                relevant=is_relevant(item.document, item.question),
                prior_margin=float("nan") if item.split == "retention" else float(margins.prior[n]),
                adapter_margin=float("nan") if item.split == "retention" else float(margins.adapter[n]),
                seed=_seed(self.bench.seed, item.document),
            )
            for n, item in enumerate(self.items)
        ]

    def _critical(self) -> list[float | None]:
        gains = read_critical(self.bench.subject, self.prior, self._stack, self.passes)
        return [g if item.split == "conflict" else None for g, item in zip(gains, self.items, strict=True)]

    def _asked(
        self,
        table: list[dict[str, Any]],
        condition: Condition,
        gains: Float[Tensor, "batch layer"] | None,
        answered: frozenset[str],
    ) -> list[AnswerRequest]:
        """The rows to answer in words: those picked and read, unless the condition acts on logits that no loop sees."""
        if not self.bench.probes & ANSWER_PROBES or condition.fusion is not None:
            return []
        found = []
        for n, item in enumerate(self.items):
            if item.id in answered and table[n]["status"] == "ok":
                question = item.question if condition.prompt is None else fill_prompt(condition.prompt, self.shown[n])
                loud = gains[n] if gains is not None and bool(gains[n].any()) else None
                found.append(AnswerRequest(table[n], item, question, None if loud is None else self.chosen[n], loud))
        return found


def _seed(seed: int, document: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{document}".encode()).digest()[:7])
