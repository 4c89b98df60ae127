"""Answers in words: greedy or sampled, a batch at a time under one adapter per question, with a key-value cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache

from override_gap.margins.items.item import Item
from override_gap.margins.runtime import Prefix, RuntimeAdapter
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.runtime import RuntimeBatch, acting, acting_rows, cached_prefix, leaving_no_trace
from override_gap.probes.attach.stack import Stack
from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.forward import CachedPrefix
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.tokens import pad
from override_gap.probes.timing import timed

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
    written: list[list[int]] = [[] for _ in items]
    stops = stop_tokens(subject)
    alive = [n for n, budget in enumerate(budgets) if budget > 0]
    cache = DynamicCache(config=subject.model.config) if past is None else past.cache
    fed, mask = (t.to(subject.device) for t in pad([prompts[n] for n in alive] or [[]], "left"))
    if past is not None:
        mask = torch.cat([past.mask, mask], dim=1)
    while alive:
        finished: set[int] = set()
        with ExitStack() as undo:
            if adapters is not None and gains is not None:
                undo.enter_context(attached(subject, adapters.only(alive), gains[alive]))
            # copying the cache costs about as much as a step, so finished rows are dropped once they are half of the batch
            while 2 * len(finished) < len(alive):
                logits = _step(subject, cache, fed, mask)
                chosen = choose(logits, sampling, generators and [generators[n] for n in alive])
                for n, token in zip(alive, chosen.tolist(), strict=True):
                    if n not in finished:
                        written[n].append(token)
                        if token in stops or len(written[n]) == budgets[n]:
                            finished.add(n)
                fed = chosen[:, None].to(subject.device)
                mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        remaining = [k for k, n in enumerate(alive) if n not in finished]
        alive = [alive[k] for k in remaining]
        if alive:
            cache.batch_select_indices(
                torch.tensor(remaining)
            )  # on the CPU: the cache's layers may lie on several devices
            fed, mask = fed[remaining], mask[remaining]
    return subject.tokenizer.batch_decode(written, skip_special_tokens=True)


def _step(
    subject: Subject, cache: Cache, fed: Int[Tensor, "batch new"], mask: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch vocab"]:
    """Float32 logits after the tokens fed, the cache holding those before them."""
    positions = (mask.cumsum(1) - 1)[:, -fed.shape[1] :].clamp(0, (subject.max_positions or mask.shape[1]) - 1)
    with timed("model"):
        out = subject.decoder(
            input_ids=fed, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
    if cache.get_seq_length() != mask.shape[1]:
        raise SubjectError(
            f"{subject.name}: its cache holds {cache.get_seq_length()} positions after {mask.shape[1]} were fed, so "
            "answers cannot be read from it; leave answers out of --probes"
        )
    return subject.logits(out.last_hidden_state[:, -1])


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
    configured = subject.model.generation_config.eos_token_id
    ids = [] if configured is None else [configured] if isinstance(configured, int) else list(configured)
    return frozenset(t for t in (*ids, subject.tokenizer.eos_token_id) if t is not None)
