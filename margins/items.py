"""Items: a document, a question about it, and the two answers that compete. Reading and checking item files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

SPLITS = ("novel", "combination", "conflict", "retention")
TIERS = ("light", "medium", "deep")


class ItemError(ValueError):
    """An item file or an item that cannot be used; the message says where, what was needed and what came."""


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
        for name in ("document", "question", "answer"):
            if not getattr(self, name).strip():
                return f"empty {name}"
        if self.split == "conflict" and not (self.prior_answer or "").strip():
            return "a conflict needs prior_answer, what the base model is expected to hold"
        if self.prior_answer is not None and self.prior_answer.strip() == self.answer.strip():
            return f"answer and prior_answer are the same: {self.answer!r}"
        return None

    def as_json(self) -> dict[str, Any]:
        """The item as a JSON object with the field names of the item file."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True)
class Document:
    """A text to be turned into weights, and the items and knowledge points that ask about it."""

    text: str
    ids: tuple[str, ...] = ()
    points: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Content hash of the text: the same document has the same key in every run."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def documents_of(items: Iterable[Item]) -> list[Document]:
    """The distinct documents of some items, in order of first appearance; each is encoded once."""
    ids: dict[str, list[str]] = {}
    points: dict[str, list[str]] = {}
    for item in items:
        ids.setdefault(item.document, []).append(item.id)
        points.setdefault(item.document, []).append(item.point)
    return [Document(text, tuple(ids[text]), tuple(dict.fromkeys(points[text]))) for text in ids]


def items_hash(items: Sequence[Item]) -> str:
    """SHA-256 over the items' content, independent of the file they came from."""
    lines = (json.dumps(item.as_json(), sort_keys=True, ensure_ascii=False) for item in items)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_items(path: str | Path) -> list[Item]:
    """Read an item file: JSON Lines of items, or a data set whose form `margins.convert` recognises by its fields.

    Raises ItemError with the path and line for anything that cannot be read.
    """
    path = Path(path)
    records = _read_records(path)
    if not records:
        raise ItemError(f"{path}: no items in it; need one JSON object a line")
    from margins.convert import recognise  # a converter builds Items, so it imports this module

    convert = recognise(records[0][1])
    if convert is not None:
        try:
            return _unique([item for _, record in records for item in convert(record)], path)
        except (KeyError, TypeError, AttributeError, IndexError) as fault:
            raise ItemError(f"{path}: a record lacks what its form needs: {fault!r}") from fault
    items, seen = [], {}
    for line, record in records:
        item = _item(record, f"{path}:{line}")
        if item.id in seen:
            raise ItemError(
                f"{path}:{line}: id {item.id!r} is already used in line {seen[item.id]}; ids must be unique"
            )
        seen[item.id] = line
        items.append(item)
    return items


def _unique(items: list[Item], path: Path) -> list[Item]:
    """Converted items, checked: texts where texts are needed, each id once."""
    seen: set[str] = set()
    for item in items:
        for name in ("document", "question", "answer", "prior_answer"):
            if not isinstance(getattr(item, name), str | None):
                raise ItemError(f"{path}: {item.id}: need {name} as text, got {getattr(item, name)!r}")
        if item.id in seen:
            raise ItemError(f"{path}: id {item.id!r} comes twice; ids must be unique")
        seen.add(item.id)
    return items


def write_items(items: Iterable[Item], path: str | Path) -> None:
    """Write items as JSON Lines."""
    text = "".join(json.dumps(item.as_json(), ensure_ascii=False) + "\n" for item in items)
    Path(path).write_text(text, encoding="utf-8")


def _read_records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line number, JSON object) for JSON Lines, or for one JSON array of objects (numbered by position)."""
    if not path.is_file():
        raise ItemError(f"{path}: no such item file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ItemError(f"{path}: not UTF-8 text ({fault.reason} at byte {fault.start}); save it as UTF-8") from fault
    if text.lstrip().startswith("["):
        records = list(enumerate(_parse(text, path, 1), start=1))
    else:
        lines = ((n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip())
        records = [(n, _parse(line, path, n)) for n, line in lines]
    for n, record in records:
        if not isinstance(record, dict):
            raise ItemError(f"{path}:{n}: need a JSON object with an item's fields, got {type(record).__name__}")
    return records


def _parse(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as fault:
        where = line + fault.lineno - 1
        raise ItemError(f"{path}:{where}: not JSON: {fault.msg} at column {fault.colno}") from fault
    except RecursionError as fault:
        raise ItemError(f"{path}:{line}: JSON nested too deeply to be an item") from fault


def _item(record: dict[str, Any], where: str) -> Item:
    known = {f.name for f in fields(Item)}
    unknown = sorted(set(record) - known)
    if unknown:
        raise ItemError(f"{where}: unknown field {unknown[0]!r}; an item has {', '.join(sorted(known))}")
    if any("\ud800" <= c <= "\udfff" for c in json.dumps(record, ensure_ascii=False)):
        raise ItemError(f"{where}: holds half of a surrogate pair, which is no character; save the text as UTF-8 again")
    for name in ("id", "point", "split", "document", "question", "answer"):
        if not isinstance(record.get(name), str):
            raise ItemError(f"{where}: need {name} as text, got {record.get(name)!r}")
    for name in ("aliases", "prior_aliases"):
        value = record.get(name) or []
        if not isinstance(value, list) or not all(isinstance(alias, str) for alias in value):
            raise ItemError(f"{where}: need {name} as a list of texts, got {record[name]!r}")
    for name, kinds in (("prior_answer", (str, type(None))), ("chat", (bool,)), ("meta", (dict, type(None)))):
        if name in record and not isinstance(record[name], kinds):
            raise ItemError(f"{where}: {name} cannot be {record[name]!r}")
    if record["split"] not in SPLITS:
        raise ItemError(f"{where}: split {record['split']!r} is none of {', '.join(SPLITS)}")
    if record.get("tier") is not None and record["tier"] not in TIERS:
        raise ItemError(f"{where}: tier {record['tier']!r} is none of {', '.join(TIERS)}")
    lists = {name: tuple(record.get(name) or ()) for name in ("aliases", "prior_aliases")}
    return Item(**{**record, **lists, "meta": record.get("meta") or {}})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
