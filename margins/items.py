"""Items: a document, a question about it, and the two answers that compete. Reading and checking item files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from margins.records import ItemError, records_of

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
        """Why this item cannot be measured, or None. Token-level defects need a tokenizer: see `margins.answers`."""
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


def read_items(path: str | Path) -> list[Item]:
    """Read an item file: JSON Lines of items, or any form that `margins.records` reads and `margins.convert` recognises.

    Raises ItemError with the path and line for the first thing that cannot be read.
    """
    found, faults = scan_items(path)
    if faults:
        line, message = faults[0]
        raise ItemError(f"{path}:{line}: {message}")
    return [item for _, item in found]


def scan_items(path: str | Path) -> tuple[list[tuple[int, Item]], list[tuple[int, str]]]:
    """Every item that can be read, and everything that cannot with what is wrong; both with their lines.

    Raises ItemError where there is no file, or no record in it.
    """
    from margins.convert import recognise  # a converter builds Items, so it imports this module

    found: list[tuple[int, Item]] = []
    faults: list[tuple[int, str]] = []
    seen: dict[str, int] = {}
    convert: Callable[[dict[str, Any]], list[Item]] | None = None
    known = False
    for line, record in records_of(path):
        if isinstance(record, ItemError):
            faults.append((line, str(record)))
            continue
        if not known:  # the first record that can be read says what form the file has
            convert, known = recognise(record), True
        made, wrong = _made(record, convert)
        for item in made:
            if item.id in seen:
                wrong.append(f"id {item.id!r} is already used in line {seen[item.id]}; ids must be unique")
            else:
                seen[item.id] = line
                found.append((line, item))
        faults += [(line, message) for message in wrong]
    if not found and not faults:
        raise ItemError(f"{path}: no items in it; need one JSON object a line, or under a CSV header one row an item")
    return found, faults


def _made(
    record: dict[str, Any], convert: Callable[[dict[str, Any]], list[Item]] | None
) -> tuple[list[Item], list[str]]:
    """The items of one record, and what keeps it from being read."""
    text = json.dumps(record, ensure_ascii=False, default=str)
    if re.search("[\ud800-\udfff]", text):
        return [], ["holds half of a surrogate pair, which is no character; save the text as UTF-8 again"]
    if re.search(r"(?<!\\)(?:\\\\)*\\u0000", text):
        return [], ["holds the character NUL, which is in no text; take it out"]
    if convert is None:
        wrong = list(_faults(record))
        return ([] if wrong else [_item(record)]), wrong
    try:
        made = convert(record)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as fault:
        return [], [f"a record lacks what its form needs: {fault!r}"]
    wrong = [
        f"{item.id}: need {name} as text, got {getattr(item, name)!r}"
        for item in made
        for name in ("document", "question", "answer", "prior_answer")
        if not isinstance(getattr(item, name), str) and (name != "prior_answer" or item.prior_answer is not None)
    ]
    wrong += [
        f"{item.id}: need {name} as texts, got {list(getattr(item, name))!r}"
        for item in made
        for name in ("aliases", "prior_aliases")
        if not all(isinstance(alias, str) for alias in getattr(item, name))
    ]
    return ([] if wrong else made), wrong


def json_lines(items: Iterable[Item]) -> str:
    """Items as the text of an item file."""
    return "".join(json.dumps(item.as_json(), ensure_ascii=False) + "\n" for item in items)


def write_items(items: Iterable[Item], path: str | Path) -> None:
    """Write items as JSON Lines."""
    Path(path).write_text(json_lines(items), encoding="utf-8")


def _faults(record: dict[str, Any]) -> Iterator[str]:
    """Every field that keeps a record from being an item."""
    known = {f.name for f in fields(Item)}
    for name in sorted(record.keys() - known):
        yield f"unknown field {name!r}; an item has {', '.join(sorted(known))}"
    for name in ("id", "point", "split", "document", "question", "answer"):
        if not isinstance(record.get(name), str):
            yield f"need {name} as text, got {record.get(name)!r}"
    for name in ("aliases", "prior_aliases"):
        value = record.get(name) or []
        if not isinstance(value, list) or not all(isinstance(alias, str) for alias in value):
            yield f"need {name} as a list of texts, got {record[name]!r}"
    for name, kinds in (("prior_answer", (str, type(None))), ("chat", (bool,)), ("meta", (dict, type(None)))):
        if name in record and not isinstance(record[name], kinds):
            yield f"{name} cannot be {record[name]!r}"
    if isinstance(record.get("split"), str) and record["split"] not in SPLITS:
        yield f"split {record['split']!r} is none of {', '.join(SPLITS)}"
    if record.get("tier") is not None and record["tier"] not in TIERS:
        yield f"tier {record['tier']!r} is none of {', '.join(TIERS)}"


def _item(record: dict[str, Any]) -> Item:
    lists = {name: tuple(record.get(name) or ()) for name in ("aliases", "prior_aliases")}
    return Item(**{**record, **lists, "meta": record.get("meta") or {}})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
