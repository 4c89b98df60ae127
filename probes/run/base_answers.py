"""Old answers from the base: what it answers itself becomes the old answer of conflicts that name none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from override_gap.margins.adapter import AdapterSource
from override_gap.margins.items.first_answer import first_answer
from override_gap.margins.items.item import Item, ItemError, item_from_record
from override_gap.margins.items.item_set import ItemSet
from override_gap.margins.items.matching import says
from override_gap.margins.text import plural
from override_gap.probes.plan import code_hash, content_key
from override_gap.probes.readings.batching import BatchSizer, rows_that_fit
from override_gap.probes.readings.generation import generate
from override_gap.probes.run.engine import Engine
from override_gap.probes.run.resolve import BasePriors, ResolvedPlan
from override_gap.probes.store.run_store import RunStore
from override_gap.probes.subject.chat_template import ChatSettings
from override_gap.probes.subject.computing import process_facts
from override_gap.probes.subject.model import Subject

NEW_TOKENS = 24
"""Tokens of the base's answer; names and dates are shorter."""
ITEMS_PER_CALL = 128
LONG = 6
"""Words: a longer answer is a sentence, in which the first token is how the base begins it."""
FILE = "items.json"
SAYS_IT, SAYS_NOTHING = "the base gives the document's answer already", "the base gives no answer"


@dataclass(frozen=True)
class BaseAnswer:
    """What the base answers a question, cut to its first answer; or the reason why it cannot be asked."""

    text: str = ""
    reason: str | None = None


def fill_priors(
    engine: Engine,
    resolved: ResolvedPlan,
    store: RunStore | None = None,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> ResolvedPlan:
    """The plan with every conflict that lacks an old answer asked of the base (`prior = "from-base"`), else unchanged.

    An item is left out, with its reason, where the base gives the document's answer already, since it is no conflict then,
    and where it gives none. What a run in `store` was measured on is not asked again. Raises ItemError where no item is
    left.
    """
    if resolved.plan.prior != "from-base" or resolved.priors is not None:
        return resolved
    items = resolved.items.items
    asked = [item for item in items if _lacks_prior(item)]
    key = content_key(resolved.items.sha256, str(resolved.chat), code_hash(), engine.ask(_subject_key))
    stored = _stored(store, key)
    if stored is not None:
        return resolved.with_priors(*stored)
    answers: list[BaseAnswer] = []
    for first in range(0, len(asked), ITEMS_PER_CALL):
        progress(first, len(asked), "asking the base for its old answers")
        ask = partial(base_answers, items=asked[first : first + ITEMS_PER_CALL], chat=resolved.chat)
        answers += engine.ask(ask)
    found = dict(zip((item.id for item in asked), answers, strict=True))
    filled, excluded = [], []
    for item in items:
        answer = found.get(item.id)
        reason = None if answer is None else _excluded_for(item, answer)
        if answer is not None and reason is not None:
            excluded.append({"item": item.id, "reason": reason, "answer": answer.text})
        elif answer is not None:
            filled.append(replace(item, prior_answer=answer.text, meta={**item.meta, "prior_from": "base"}))
        else:
            filled.append(item)
    long = sum(len(item.prior_answer.split()) > LONG for item in filled if item.id in found and item.prior_answer)
    priors = BasePriors(key, len(asked), len(asked) - len(excluded), long, tuple(excluded))
    if not filled:
        counts = Counter(row["reason"] for row in excluded)
        reasons = ", ".join(f"{n} x {reason}" for reason, n in counts.most_common())
        raise ItemError(f"--prior from-base leaves no item to measure: {reasons}")
    return resolved.with_priors(ItemSet.of(filled), priors)


def base_answers(
    subject: Subject, source: AdapterSource, items: Sequence[Item], chat: ChatSettings | None = None
) -> list[BaseAnswer]:
    """The base's greedy answer to every question, of at most NEW_TOKENS tokens, cut by `first_answer`; no adapter acts."""
    subject = subject if chat is None else replace(subject, chat=chat)
    lengths: dict[str, int] = {}
    answers: dict[str, BaseAnswer] = {}
    for item in items:
        try:
            lengths[item.id] = len(subject.prompt_ids(item))
        except ItemError as fault:
            answers[item.id] = BaseAnswer(reason=str(fault))
            continue
        if subject.max_positions is not None and lengths[item.id] >= subject.max_positions:
            room = f"the question has {lengths[item.id]} tokens, the model {subject.max_positions} positions"
            answers[item.id] = BaseAnswer(reason=f"{room}: no room for an answer")
    readable = sorted((item for item in items if item.id not in answers), key=lambda item: (lengths[item.id], item.id))
    size = rows_that_fit(subject, max((lengths[item.id] for item in readable), default=1) + NEW_TOKENS)
    batches = [readable[first : first + size] for first in range(0, len(readable), size)]

    def answered(batch: Sequence[Item]) -> list[tuple[Item, BaseAnswer]]:
        texts = generate(subject, batch, new_tokens=NEW_TOKENS)
        return [(item, BaseAnswer(first_answer(text))) for item, text in zip(batch, texts, strict=True)]

    no_memory = BaseAnswer(reason="memory ran out for this answer alone")
    for pairs in BatchSizer().each(batches, answered, lambda item, _: [(item, no_memory)]):
        answers |= {item.id: answer for item, answer in pairs}
    return [answers[item.id] for item in items]


def items_json(resolved: ResolvedPlan) -> dict[str, Any] | None:
    """The items as they are measured and those left out, for RUN/items.json; None where the base was not asked."""
    if resolved.priors is None:
        return None
    rows = [item.as_json() for item in resolved.items.items]
    return {
        **resolved.priors.as_json(),
        "key": resolved.priors.key,
        "items": rows,
        "left_out": resolved.priors.excluded,
    }


def priors_message(priors: BasePriors) -> str:
    """What came of asking the base, in one sentence or two."""
    text = f"old answers from the base: {priors.filled} of {plural(priors.asked, 'conflict')} without one"
    reasons = Counter(row["reason"] for row in priors.excluded)
    text += "".join(f"; {count} left out: {reason}" for reason, count in reasons.most_common())
    if priors.long:
        verb = "has" if priors.long == 1 else "have"
        text += (
            f". {priors.long} of them {verb} more than {LONG} words: the base answers in sentences, and the first token is how "
            "it begins one; unfinished statements as questions (The capital of France is) get short answers"
        )
    return text


def _excluded_for(item: Item, answer: BaseAnswer) -> str | None:
    """Why an item is no conflict between the base's answer and the document's, or None."""
    if answer.reason is not None:
        return answer.reason
    signs_alone = not any(map(str.isalnum, answer.text))
    if not answer.text or (signs_alone and any(map(str.isalnum, item.answer))):
        return SAYS_NOTHING
    same = answer.text.casefold() == item.answer.strip().casefold()
    return SAYS_IT if same or says(answer.text, replace(item, prior_answer=None)) else None


def _lacks_prior(item: Item) -> bool:
    return item.split == "conflict" and not (item.prior_answer or "").strip()


def _stored(store: RunStore | None, key: str) -> tuple[ItemSet, BasePriors] | None:
    """The items of a run that was begun with the same model and items, or None."""
    content: Mapping[str, Any] | None = store.read_json(FILE) if store is not None and store.exists() else None
    try:
        if content is None or content["key"] != key:
            return None
        items = [item_from_record(row) for row in content["items"]]
        priors = BasePriors(key, content["asked"], content["filled"], content["long"], tuple(content["left_out"]))
        return ItemSet.of(items), priors
    except (KeyError, TypeError):  # not what an audit writes: the base is asked again
        return None


def _subject_key(subject: Subject, source: AdapterSource) -> list[str]:
    return [
        subject.fingerprint,
        str(subject.dtype),
        subject.device.type,
        json.dumps({**subject.computing, **process_facts()}, sort_keys=True),
    ]
