"""Documents as a file for a method that makes adapters elsewhere: each distinct text once, with its key and its questions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from override_gap.margins.items.item import Document, Item, documents_of


def document_lines(items: Sequence[Item]) -> list[str]:
    """The items' documents as JSON Lines, in order of first appearance; items without a document are left out.

    A line has `key`, `ids`, `points`, `document` (the text) and `questions`: per item that asks about it `text` (the question as
    it is asked, before any chat template), `id`, `split`, `answer`, and `prior_answer` and `subject` where the item has them.
    """
    asked: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        asked.setdefault(item.document, []).append(_question(item))
    return [_line(document, asked[document.text]) for document in documents_of(items) if document.text.strip()]


def _line(document: Document, questions: Iterable[Mapping[str, Any]]) -> str:
    row = {
        "key": document.key,
        "ids": list(document.ids),
        "points": list(document.points),
        "document": document.text,
        "questions": list(questions),
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


def _question(item: Item) -> dict[str, Any]:
    more = {"prior_answer": item.prior_answer, "subject": item.meta.get("subject")}
    stated = {name: value for name, value in more.items() if isinstance(value, str)}
    return {"text": item.question, "id": item.id, "split": item.split, "answer": item.answer, **stated}
