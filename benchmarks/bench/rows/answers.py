"""Tokens per second of generation with one adapter per row, against `model.generate` without adapters."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch

from benchmarks.bench import kit
from benchmarks.bench.clock import in_turn
from benchmarks.bench.record import Line
from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.generation import generate
from override_gap.probes.subject.tokens import pad

TITLE = "Answers in words"
LIMITS = (
    "Greedy, with key-value cache and the same number of new tokens on both sides: no end of text stops a row. A step "
    "has one position per row, so an adapter's low-rank products are as many operations as the model's own maps; they "
    "and the float32 unembedding are the extra cost."
)
SUBJECTS = ("smollm2", "organism")
COUNT, NEW = 16, 16


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row."""
    wrapped, bare = kit.subject(subject), kit.bare(subject)
    items = kit.conflicts(subject, COUNT)
    adapters = kit.adapters(wrapped, items)
    together = stack(wrapped, [adapters[item.document] for item in items])
    ones = torch.ones(len(items), wrapped.n_layers)
    ids, mask = pad([wrapped.tokenize(item.question) for item in items], "left")

    def theirs() -> Any:
        # no row stops early, so that the count of steps is the same
        bare.generation_config.eos_token_id = None
        return bare.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0
        )

    def ours() -> None:
        with patch("override_gap.probes.readings.generation.stop_tokens", lambda _: frozenset()):
            generate(wrapped, items, together, ones, new_tokens=NEW)

    timed = in_turn({"ours": ours, "generate": theirs}, repeats)
    seconds = {name: timed.median(name) for name in timed.seconds}
    return [
        Line(
            "tokens per second, one adapter per row",
            "`model.generate` without adapters",
            timed.ratio("generate", "ours"),
            goal=("at least", 1.0),
            seconds=seconds,
        )
    ], {"rows": COUNT, "new tokens": NEW, "rank": kit.RANK}
