"""Answers: tokens a second under an adapter a row, against `model.generate` without adapters."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.bench import kit
from benchmarks.bench.clock import in_turn
from benchmarks.bench.record import Line
from probes.generation import generate
from probes.stack import stack
from probes.subject import pad

TITLE = "Answers in words"
LIMITS = (
    "Greedy, key-value cache and as many new tokens on both sides. A step has one position a row, so an adapter's thin "
    "products are as many operations as the step's own maps; they and the float32 unembedding are what is paid."
)
COUNT, NEW = 16, 16


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row."""
    own, bare = kit.subject(subject), kit.bare(subject)
    items = kit.conflicts(subject, COUNT)
    made = kit.adapters(own, items)
    together = stack(own, [made[item.document] for item in items])
    ones = torch.ones(len(items), own.n_layers)
    ids, mask = pad([own.tokenize(item.question) for item in items], "left")
    written: dict[str, int] = {}

    def theirs() -> Any:
        # no row stops early, so that the count of steps is the same
        bare.generation_config.eos_token_id = None
        return bare.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0
        )

    def ours() -> None:
        texts = generate(own, items, together, ones, new_tokens=NEW)
        written["ours"] = sum(len(own.tokenize(text, special=False)) for text in texts)

    timed = in_turn({"ours": ours, "generate": theirs}, repeats)
    # a row of ours that ends early writes fewer tokens; both are counted by what they wrote
    share = min(written["ours"], COUNT * NEW) / (COUNT * NEW)
    ratio = {k: v * share if k != "n" else v for k, v in timed.ratio("generate", "ours").items()}
    seconds = {name: timed.median(name) for name in timed.seconds}
    return [
        Line(
            "tokens a second, an adapter a row",
            "`model.generate` without adapters",
            ratio,
            goal=("at least", 0.8),
            seconds=seconds,
        )
    ], {"rows": COUNT, "new tokens": NEW, "rank": kit.RANK}
