"""Answers in words: greedy or sampled, a batch at a time under one adapter per question, with a key-value cache."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.margins.items.item import Item
from override_gap.margins.runtime import Prefix, RuntimeAdapter
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.runtime import RuntimeBatch, acting, acting_rows, cached_prefix, leaving_no_trace
from override_gap.probes.attach.stack import Stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.caches import cache_kind, keep_rows, logits_after, new_cache, step
from override_gap.probes.subject.forward import CachedPrefix
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.parity import format_name
from override_gap.probes.subject.rope_lengths import rope_switch
from override_gap.probes.subject.tokens import pad

NEW_TOKENS = 64


@dataclass(frozen=True)
class Sampling:
    """Answers drawn at a temperature. A draw depends on seed, draw number and item, and not on the batch the item is in.

    An item's uniform random numbers are the same under every condition and temperature, which then differ by nothing else.
    """

    temperature: float
    seed: int = 0
    draw: int = 0

    def generator(self, item: Item) -> torch.Generator:
        """The generator of an item's uniform random numbers, one per token."""
        digest = hashlib.sha256(f"{self.seed}:{self.draw}:{item.id}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7]))


@torch.no_grad()
def generate(
    subject: Subject,
    items: Sequence[Item],
    adapters: Stack | RuntimeBatch | None = None,
    gains: Float[Tensor, "batch layer"] | None = None,
    new_tokens: int = NEW_TOKENS,
    sampling: Sampling | None = None,
) -> list[str]:
    """Continuations of the questions, without special tokens; greedy (arg max, no penalties) unless `sampling` is given.

    The loop is our own because Hugging Face's `generate` takes what a caller leaves open from the model's generation config:
    with a repetition penalty shipped with a model, "greedy" would no longer be the arg max.
    Questions under a RuntimeBatch are continued one at a time.
    """
    if isinstance(adapters, RuntimeBatch) and gains is not None:
        on = acting_rows(gains)
        per_item = [adapters.adapters[n] if n in on else None for n in range(len(items))]
        return [_alone(subject, i, a, new_tokens, sampling) for i, a in zip(items, per_item, strict=True)]
    assert not isinstance(adapters, RuntimeBatch), "a RuntimeBatch needs gains of 0 and 1"
    return _continued(subject, items, adapters, gains, new_tokens, sampling)


def _alone(
    subject: Subject, item: Item, adapter: Prefix | RuntimeAdapter | None, new_tokens: int, sampling: Sampling | None
) -> str:
    """One question's continuation, behind a prefix or inside the method's own block."""
    if adapter is None:
        return _continued(subject, [item], None, None, new_tokens, sampling)[0]
    if isinstance(adapter, Prefix):
        past = cached_prefix(subject, [adapter])
        return _continued(subject, [item], None, None, new_tokens, sampling, past)[0]
    question = torch.tensor(subject.prompt_ids(item), device=subject.device)
    cache_kind(subject)  # found without the adapter
    with leaving_no_trace(subject, [adapter]), acting(subject, adapter, question):
        return _continued(subject, [item], None, None, new_tokens, sampling)[0]


def _continued(
    subject: Subject,
    items: Sequence[Item],
    adapters: Stack | None,
    gains: Float[Tensor, "batch layer"] | None,
    new_tokens: int,
    sampling: Sampling | None,
    past: CachedPrefix | None = None,
) -> list[str]:
    prompts = [subject.prompt_ids(item) for item in items]
    used = 0 if past is None else past.mask.shape[1]
    # each row's budget is its own: a long prompt takes no tokens from the others
    budgets = [
        new_tokens if subject.max_positions is None else min(new_tokens, subject.max_positions - used - len(p))
        for p in prompts
    ]
    generators = [sampling.generator(item) for item in items] if sampling else None
    answers = Answers(subject, prompts, budgets, sampling, generators, [[] for _ in items])
    rows = [n for n, budget in enumerate(budgets) if budget > 0]

    def under(numbers: Sequence[int]) -> AbstractContextManager[Any]:
        if adapters is None or gains is None:
            return nullcontext()
        return attached(subject, adapters.only(numbers), gains[list(numbers)])

    kind = "keys" if past is not None else cache_kind(subject)
    switch = rope_switch(subject.decoder)
    if switch is not None and past is None:
        # a token beyond the switch changes the keys before it, so a cache holds the wrong ones
        crossing = [n for n in rows if len(prompts[n]) <= switch < len(prompts[n]) + budgets[n]]
        _without_cache(answers, crossing, under)
        rows = [n for n in rows if n not in crossing]
    if kind == "none":
        _without_cache(answers, rows, under)
    elif kind == "keys":
        _with_cache(answers, rows, under, past)
    else:
        # padding would enter a recurrent state: rows of one length need none
        for length in sorted({len(prompts[n]) for n in rows}):
            _with_cache(answers, [n for n in rows if len(prompts[n]) == length], under, None)
    return subject.tokenizer.batch_decode(answers.written, skip_special_tokens=True)


@dataclass(frozen=True)
class Answers:
    """The answers of a batch while they are written: prompts, budgets, and the tokens so far, by row."""

    subject: Subject
    prompts: Sequence[Sequence[int]]
    budgets: Sequence[int]
    sampling: Sampling | None
    generators: Sequence[torch.Generator] | None
    written: list[list[int]]

    def take(
        self, rows: Sequence[int], logits: Float[Tensor, "batch vocab"], finished: set[int]
    ) -> Int[Tensor, " batch"]:
        """Choose each row's next token; rows that end by it are added to `finished`, whose rows are written no further.

        Raises AdapterError where the logits of a row still written are not finite numbers.
        """
        largest = logits.amax(-1).tolist()
        broken = [n for n, value in zip(rows, largest, strict=True) if n not in finished and not math.isfinite(value)]
        if broken:
            dtype = format_name(self.subject.coarsest_dtype)
            raise AdapterError(f"the model's logits are not finite in {dtype} while the answer is written")
        chosen = choose(logits, self.sampling, self.generators and [self.generators[n] for n in rows])
        stops = stop_tokens(self.subject)
        for n, token in zip(rows, chosen.tolist(), strict=True):
            if n not in finished:
                self.written[n].append(token)
                if token in stops or len(self.written[n]) == self.budgets[n]:
                    finished.add(n)
        return chosen


Under = Callable[[Sequence[int]], AbstractContextManager[Any]]


def _with_cache(answers: Answers, rows: Sequence[int], under: Under, past: CachedPrefix | None) -> None:
    """Write the answers of some rows with a cache, prompts padded on the left."""
    subject, alive = answers.subject, list(rows)
    cache = new_cache(subject) if past is None else past.cache
    fed, mask = (t.to(subject.device) for t in pad([answers.prompts[n] for n in alive] or [[]], "left"))
    if past is not None:
        mask = torch.cat([past.mask, mask], dim=1)
    while alive:
        finished: set[int] = set()
        with under(alive):
            # copying the cache costs about as much as a step, so finished rows are dropped once they are half of the batch
            while 2 * len(finished) < len(alive):
                chosen = answers.take(alive, step(subject, cache, fed, mask), finished)
                fed = chosen[:, None].to(subject.device)
                mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        remaining = [k for k, n in enumerate(alive) if n not in finished]
        alive = [alive[k] for k in remaining]
        if alive:
            keep_rows(cache, remaining)
            fed, mask = fed[remaining], mask[remaining]


def _without_cache(answers: Answers, rows: Sequence[int], under: Under) -> None:
    """Write the answers of some rows by whole passes, padded on the right, where padding has no effect on what is read."""
    subject, alive = answers.subject, list(rows)
    while alive:
        finished: set[int] = set()
        tokens = [[*answers.prompts[n], *answers.written[n]] for n in alive]
        with under(alive):
            answers.take(alive, logits_after(subject, tokens), finished)
        alive = [n for n in alive if n not in finished]


def choose(
    logits: Float[Tensor, "batch vocab"], sampling: Sampling | None, generators: Sequence[torch.Generator] | None
) -> Int[Tensor, " batch"]:
    """The arg max; or, with generators, the token at which the cumulative softmax(logits / temperature) passes a uniform draw.

    One number from each row's own generator, so that a draw does not depend on the other rows.
    """
    if sampling is None or generators is None:
        return logits.argmax(-1).cpu()
    u = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
    total = (logits.double().cpu() / sampling.temperature).softmax(-1).cumsum(-1)
    # scaled by the last sum, which rounding may leave a little off 1
    return torch.searchsorted(total, (u * total[:, -1])[:, None], right=True)[:, 0].clamp_max(logits.shape[-1] - 1)


def stop_tokens(subject: Subject) -> frozenset[int]:
    """The tokens that end an answer: those of the model's generation config, and the tokenizer's own."""
    return stops_of(subject.model, subject.tokenizer)


def stops_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """The same of a model and a tokenizer, None where there is none."""
    configured = model.generation_config.eos_token_id
    ids = [] if configured is None else [configured] if isinstance(configured, int) else list(configured)
    return frozenset(t for t in (*ids, getattr(tokenizer, "eos_token_id", None)) if t is not None)
