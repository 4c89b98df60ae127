"""What every unit of a run must be measured with: the model, its code, torch's modes and the adapters that the run began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from override_gap.margins.adapter import AdapterSource
from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.errors import AdapterChanged
from override_gap.probes.store.folder import RunError
from override_gap.probes.subject.chat import chat_prompt
from override_gap.probes.subject.chat_template import ChatSettings
from override_gap.probes.subject.computing import process_facts
from override_gap.probes.subject.model import Subject

#: So many texts go to the tokenizer at once.
AT_ONCE = 1024
#: Numbers of the model's own logits that a manifest keeps.
KEPT_LOGITS = 64
#: A model that is opened again on another machine may be off by so many times the rounding of its number format.
ROUNDINGS = 4.0


def basis_of(subject: Subject, source: AdapterSource) -> dict[str, str]:
    """What decides numbers, each as text to be compared: read from the live model and source whenever this is asked."""
    facts = {
        "model": [subject.fingerprint, str(subject.dtype), subject.device.type],
        "computing": {**subject.computing, **process_facts()},
        "source": source.name,
        "settings": dict(source.settings),
    }
    return {name: json.dumps(value, sort_keys=True, default=str) for name, value in facts.items()}


def require_basis(subject: Subject, source: AdapterSource, expected: Mapping[str, str]) -> None:
    """Raise AdapterChanged or RunError where a process measures with something else than what its run began with.

    A worker that was lost opens everything anew, and files may be others by then; a source that hashes its files whenever
    its settings are asked for is heard again after every unit's adapters were made.
    """
    now = basis_of(subject, source) if expected else {}
    changed = [name for name in expected if now[name] != expected[name]]
    if not changed:
        return
    if {"model", "computing"} & set(changed):
        what = "the model" if "model" in changed else f"how numbers are computed ({_differing(expected, now)})"
        raise RunError(
            f"{subject.name}: {what} is no longer what the run began with; put it back and give the same command again, or "
            "measure into another --out"
        )
    raise AdapterChanged(f"source {source.name}: its settings are no longer those that the run began with")


def _differing(expected: Mapping[str, str], now: Mapping[str, str]) -> str:
    old, new = json.loads(expected["computing"]), json.loads(now["computing"])
    return ", ".join(name for name in old | new if old.get(name) != new.get(name))


def prompts_hash(subject: Subject, chat: ChatSettings, items: Sequence[Item]) -> str:
    """SHA-256 over the tokens in which every item's question and answers are read, through the chat template where it is asked.

    This holds whatever makes tokens of texts: the tokenizers library, the template's interpreter, a tokenizer's own code.
    """
    digest = hashlib.sha256()
    tokenizer = replace(subject, chat=chat).tokenizer
    for special in (True, False):
        texts = [text for item in items for text in _texts(tokenizer, chat, item, special=special)]
        for first in range(0, len(texts), AT_ONCE):
            rows = tokenizer(texts[first : first + AT_ONCE], add_special_tokens=special)["input_ids"]
            digest.update(json.dumps(rows).encode())
    return digest.hexdigest()


def _texts(tokenizer: Any, chat: ChatSettings, item: Item, *, special: bool) -> list[str]:
    """What of an item goes to the tokenizer: plain questions with its special tokens, prompts of chat and answers without."""
    if special:
        return [] if item.chat else [item.question]
    answers = [text for text in (item.answer, item.prior_answer) if text]
    if not item.chat:
        return answers
    try:
        return [chat_prompt(tokenizer, item.question, chat).text, *answers]
    except ItemError as fault:  # the item is an error row with this reason
        return [str(fault), *answers]


def model_witness(subject: Subject) -> list[float]:
    """KEPT_LOGITS of the model's own logits on fixed tokens, nats, spread over positions and vocabulary."""
    flat = subject.reference.flatten()
    step = max(1, len(flat) // KEPT_LOGITS)
    return [float(f"{value:.6g}") for value in flat[::step][:KEPT_LOGITS].tolist()]


def require_same_answers(name: str, before: Any, now: Sequence[float], tolerance: float) -> None:
    """Raise RunError where the model gives other logits than when the run began: whatever it is that decides them, it changed.

    `before` is what the manifest holds, None in runs that hold none; `tolerance` the rounding of the number format, nats.
    """
    if not isinstance(before, list) or len(before) != len(now):
        return
    gap = max((abs(float(a) - b) for a, b in zip(before, now, strict=True)), default=0.0)
    if not gap <= ROUNDINGS * tolerance:
        raise RunError(
            f"{name}: its logits on the same tokens differ by {gap:.3g} nats from when the run began, more than rounding "
            f"({ROUNDINGS * tolerance:.3g}), though its weights are the same; measure into another --out"
        )
