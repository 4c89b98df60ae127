"""How long an audit will take, said before its first batch is read: from one timed pass and the number of passes to come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from override_gap.margins.adapter import AdapterSource
from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.run.engine import Engine
from override_gap.probes.run.last_logits import last_logits
from override_gap.probes.run.resolve import ResolvedPlan
from override_gap.probes.subject.model import Subject

ROWS = 32
"""Questions in the pass that is timed."""
#: What is read of each item, in base passes of it, from audits of the organism; `search` and `critical` read conflicts alone.
OF_EACH_CONDITION = 1.5
PROBES = {
    "layers": 3.0,
    "causal": 22.0,
    "gain-path": 24.0,
    "components": 12.0,
    "neutral": 4.0,
    "search": 8.0,
    "critical": 5.0,
}
ANSWER_PASSES, DOSE_PASSES, AT_FIRST = 3.0, 400.0, 300.0
"""Of an answer in words under one condition; of an item whose prior is changed; of what is done once."""
WITHIN = 3.0
"""Estimates were within this factor of the true time in the audits of `python -m benchmarks.estimate` (docs/first-audit.md)."""


def timed_pass(subject: Subject, source: AdapterSource | None, items: Sequence[Item]) -> float | None:
    """Seconds of a base pass per question, in a batch: the middle one of three; None where no question can be read."""
    del source
    ids = []
    for item in items[:ROWS]:
        try:
            text = subject.chat_prompt(item.question) if item.chat else item.question
            ids.append(subject.tokenize(text, special=not item.chat))
        except ItemError:
            continue
    ids = [row for row in ids if 0 < len(row) <= (subject.max_positions or len(row))]
    if not ids:
        return None
    taken = []
    for _ in range(3):
        started = time.monotonic()
        last_logits(subject, ids, [], None)
        taken.append(time.monotonic() - started)
    return sorted(taken)[1] / len(ids)


def passes(resolved: ResolvedPlan, n_items: int) -> float:
    """How many base passes of one question an audit of so many items comes to, roughly."""
    conditions = len(resolved.conditions)
    conflicts = sum(item.split == "conflict" for item in resolved.items.items) / max(1, len(resolved.items.items))
    each = 1 + OF_EACH_CONDITION * (conditions - 1)
    for name, cost in PROBES.items():
        if name in resolved.probes:
            each += cost * (conflicts if name in ("search", "critical") else 1)
    answered = min(resolved.n_answers, n_items) if "answers" in resolved.probes else 0
    dosed = min(resolved.plan.dose_items, n_items) if "prior-dose" in resolved.probes else 0
    return AT_FIRST + n_items * each + answered * conditions * ANSWER_PASSES + dosed * DOSE_PASSES


def seconds_of(engine: Engine, resolved: ResolvedPlan, encode_s: float) -> float | None:
    """Seconds of a whole audit, from the pace of making adapters and of one pass; None where no question can be read."""
    items = resolved.items
    each = engine.ask(partial(timed_pass, items=items.items[:ROWS]))
    return None if each is None else encode_s * len(items.documents) + each * passes(resolved, len(items.items))


def in_words(seconds: float, *, sure: bool = False) -> str:
    """'about 2 min (estimate)', with the range that it lies in unless the same audit's own pace is known."""
    low, high = duration(seconds / WITHIN), duration(seconds * WITHIN)
    return f"about {duration(seconds)} (estimate)" if sure else f"about {duration(seconds)} (estimate: {low} to {high})"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever says it in a number from 1 to 120 or so."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
