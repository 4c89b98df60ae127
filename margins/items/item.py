"""Items: a document, a question about it, and the two answers that compete. Reading and checking item files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

SPLITS = ("novel", "combination", "conflict", "retention")
TIERS = ("light", "medium", "deep")


@dataclass(frozen=True)
class Item:
    """One question asked of one document.

    `answer` is what the document states (for retention: the right answer, which should stay as the base has it);
    `prior_answer` is what the base model is expected to hold (conflicts only). `point` is the knowledge point, the
    cluster of questions that share a fact and so are not independent.
    """

    id: str
    point: str
    split: str
    document: str
    question: str
    answer: str
    prior_answer: str | None = None
    tier: str | None = None
    aliases: tuple[str, ...] = ()
    prior_aliases: tuple[str, ...] = ()
    chat: bool = False
    meta: dict[str, Any] = field(default_factory=dict, hash=False)

    def defect(self) -> str | None:
        """Why this item cannot be measured, or None. Token-level defects need a tokenizer: see `margins.items.divergence`."""
        return next(iter(self.defects()), None)

    def defects(self) -> list[str]:
        """Everything that keeps this item from being measured."""
        found = [f"empty {name}" for name in ("document", "question", "answer") if not getattr(self, name).strip()]
        if self.split == "conflict" and not (self.prior_answer or "").strip():
            found.append("a conflict needs prior_answer, what the base model is expected to hold")
        elif self.prior_answer is not None and self.prior_answer.strip() == self.answer.strip():
            found.append(f"answer and prior_answer are the same: {self.answer!r}")
        return found

    def as_json(self) -> dict[str, Any]:
        """The item as a JSON object with the field names of the item file."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True)
class Document:
    """A text to be turned into weights, the items and knowledge points that ask about it, and what they say it is about.

    `subjects` are the items' `meta.subject`, for methods that edit what is known of one thing.
    """

    text: str
    ids: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Content hash of the text: the same document has the same key in every run."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def documents_of(items: Iterable[Item]) -> list[Document]:
    """The distinct documents of some items, in order of first appearance; each is encoded once."""
    ids: dict[str, list[str]] = {}
    points: dict[str, list[str]] = {}
    subjects: dict[str, list[str]] = {}
    for item in items:
        ids.setdefault(item.document, []).append(item.id)
        points.setdefault(item.document, []).append(item.point)
        named = subjects.setdefault(item.document, [])
        if isinstance(item.meta.get("subject"), str) and item.meta["subject"].strip():
            named.append(item.meta["subject"])
    return [
        Document(text, tuple(ids[text]), tuple(dict.fromkeys(points[text])), tuple(dict.fromkeys(subjects[text])))
        for text in ids
    ]


def items_hash(items: Sequence[Item]) -> str:
    """SHA-256 over the items' content, independent of the file they came from."""
    lines = (json.dumps(item.as_json(), sort_keys=True, ensure_ascii=False) for item in items)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class ItemError(ValueError):
    """An item file or an item that cannot be used; the message says where, what was needed and what came."""
