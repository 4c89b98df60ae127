"""Generation: greedy or sampled answers under per-example adapters, one batch with a key-value cache."""

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
from override_gap.probes.attach.runtime import RuntimeBatch, acting_rows, cached_prefix, inside, untouched
from override_gap.probes.attach.stack import Stack
from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.forward import CachedPrefix
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.tokens import pad
from override_gap.probes.timing import timed

NEW_TOKENS = 64


@dataclass(frozen=True)
class Sampling:
    """Answers drawn at a temperature. Seed, number of the draw and item decide it, whatever batch the item is in.

    The uniform numbers of an item are the same under every condition and temperature, which then differ by nothing else.
    """

    temperature: float
    seed: int = 0
    draw: int = 0

    def generator(self, item: Item) -> torch.Generator:
        """Where an item's uniform numbers come from, one a token."""
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
    """Continuations of the questions, special tokens left out; greedy (arg max, nothing penalised) unless `sampling` is given.

    The loop is our own because Hugging Face's `generate` fills what a caller leaves open from the model's generation
    config: a repetition penalty shipped with a model would decide what is called greedy here.
    Questions under opaque adapters are continued one at a time.
    """
    if isinstance(adapters, RuntimeBatch) and gains is not None:
        on = acting_rows(gains)
        made = [adapters.adapters[n] if n in on else None for n in range(len(items))]
        return [_alone(subject, i, a, new_tokens, sampling) for i, a in zip(items, made, strict=True)]
    assert not isinstance(adapters, RuntimeBatch), "opaque adapters are given with gains of 0 and 1"
    return _continued(subject, items, adapters, gains, new_tokens, sampling)


def _alone(
    subject: Subject, item: Item, adapter: Prefix | RuntimeAdapter | None, new_tokens: int, sampling: Sampling | None
) -> str:
    """One question's continuation behind a prefix or inside the method's own block."""
    if adapter is None:
        return _continued(subject, [item], None, None, new_tokens, sampling)[0]
    if isinstance(adapter, Prefix):
        before = cached_prefix(subject, [adapter])
        return _continued(subject, [item], None, None, new_tokens, sampling, before)[0]
    question = torch.tensor(_prompt(subject, item), device=subject.device)
    with untouched(subject, [adapter]), inside(subject, adapter, question):
        return _continued(subject, [item], None, None, new_tokens, sampling)[0]


def _prompt(subject: Subject, item: Item) -> list[int]:
    return subject.tokenize(subject.chat_prompt(item.question) if item.chat else item.question, special=not item.chat)


def _continued(
    subject: Subject,
    items: Sequence[Item],
    adapters: Stack | None,
    gains: Float[Tensor, "batch layer"] | None,
    new_tokens: int,
    sampling: Sampling | None,
    before: CachedPrefix | None = None,
) -> list[str]:
    prompts = [_prompt(subject, item) for item in items]
    used = 0 if before is None else before.mask.shape[1]
    # a row's length is its own: the longest prompt of a batch takes no token from the others
    budgets = [
        new_tokens if subject.max_positions is None else min(new_tokens, subject.max_positions - used - len(p))
        for p in prompts
    ]
    generators = [sampling.generator(item) for item in items] if sampling else None
    written: list[list[int]] = [[] for _ in items]
    stops = stop_tokens(subject)
    alive = [n for n, budget in enumerate(budgets) if budget > 0]
    cache = DynamicCache(config=subject.model.config) if before is None else before.cache
    fed, mask = (t.to(subject.device) for t in pad([prompts[n] for n in alive] or [[]], "left"))
    if before is not None:
        mask = torch.cat([before.mask, mask], dim=1)
    while alive:
        done: set[int] = set()
        with ExitStack() as undo:
            if adapters is not None and gains is not None:
                undo.enter_context(attached(subject, adapters.only(alive), gains[alive]))
            # copying the cache costs about as much as a step, so finished rows leave when they are half of the batch
            while 2 * len(done) < len(alive):
                logits = _step(subject, cache, fed, mask)
                chosen = choose(logits, sampling, generators and [generators[n] for n in alive])
                for n, token in zip(alive, chosen.tolist(), strict=True):
                    if n not in done:
                        written[n].append(token)
                        if token in stops or len(written[n]) == budgets[n]:
                            done.add(n)
                fed = chosen[:, None].to(subject.device)
                mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        left = [k for k, n in enumerate(alive) if n not in done]
        alive = [alive[k] for k in left]
        if alive:
            cache.batch_select_indices(torch.tensor(left))  # on the CPU: the cache's layers may lie on several devices
            fed, mask = fed[left], mask[left]
    return subject.tokenizer.batch_decode(written, skip_special_tokens=True)


def _step(
    subject: Subject, cache: Cache, fed: Int[Tensor, "batch new"], mask: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch vocab"]:
    """Logits after the tokens fed, the cache holding those before them; read as every probe reads them, in float32."""
    positions = (mask.cumsum(1) - 1)[:, -fed.shape[1] :].clamp(0, (subject.max_positions or mask.shape[1]) - 1)
    with timed("model"):
        out = subject.model.base_model(
            input_ids=fed, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
    if cache.get_seq_length() != mask.shape[1]:
        raise SubjectError(
            f"{subject.name}: its cache holds {cache.get_seq_length()} positions after {mask.shape[1]}, so answers cannot "
            "be read from it; leave answers out of --probes"
        )
    return subject.logits(out.last_hidden_state[:, -1])


def choose(
    logits: Float[Tensor, "batch vocab"], sampling: Sampling | None, generators: Sequence[torch.Generator] | None
) -> Int[Tensor, " batch"]:
    """The arg max; or, with generators, the token at which softmax(logits / temperature) summed up passes a uniform draw.

    One number from each row's own generator, so that a draw does not depend on the rows beside it.
    """
    if sampling is None or generators is None:
        return logits.argmax(-1).cpu()
    u = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
    total = (logits.double().cpu() / sampling.temperature).softmax(-1).cumsum(-1)
    # scaled by the last sum, which rounding may leave a little off 1
    return torch.searchsorted(total, (u * total[:, -1])[:, None], right=True)[:, 0].clamp_max(logits.shape[-1] - 1)


def stop_tokens(subject: Subject) -> frozenset[int]:
    """Where an answer ends: the ends that the model's generation config lists, and the tokenizer's own."""
    listed = subject.model.generation_config.eos_token_id
    listed = [] if listed is None else [listed] if isinstance(listed, int) else list(listed)
    return frozenset(t for t in (*listed, subject.tokenizer.eos_token_id) if t is not None)
