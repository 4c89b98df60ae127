"""Items: one document, one question about it, and the two answers that compete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from override_gap.margins.items.scripts import is_blank

SPLITS = ("novel", "combination", "conflict", "retention")
#: Questions that tell belief from what is only said; they are in no verdict, hypothesis or price.
BELIEF = ("agreement", "negated", "consequence", "reframed")
ALL_SPLITS = (*SPLITS, *BELIEF)
#: Splits whose items may name two answers, which their margin compares.
TWO_ANSWERS = ("conflict", *BELIEF)
#: Splits whose answer is not what their document states: it follows from it, denies its contrary, or has nothing to do with it.
NOT_STATED = ("retention", "negated", "consequence", "reframed")
TIERS = ("light", "medium", "deep")
REQUIRED = ("id", "point", "split", "document", "question", "answer")
NO_PRIOR = (
    "a conflict needs prior_answer, what the base model is expected to hold (or --prior from-base, which asks the base)"
)


class ItemError(ValueError):
    """An item or an item file that cannot be used; the message says where, what was needed and what came."""


@dataclass(frozen=True)
class Item:
    """One question about one document. `Item.conflict`, `.novel` and `.retention` make one from its texts alone.

    `answer` is what the document states (for retention: the right answer, which should stay as the base has it);
    `prior_answer`, the old answer, is what the base model is expected to hold (conflicts, and those of BELIEF that name it).
    `point` is the knowledge point: questions about one fact share it and are not independent, so statistics are clustered by
    it. `separator` is what stands between question and answer, "" or " "; None leaves it to `margins.items.joining`.
    """

    __no_type_check__ = True  # fields come from files and people: `field_errors` checks them, in plain messages

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
    separator: str | None = None

    @classmethod
    def conflict(
        cls, document: str, question: str, *, answer: str, prior_answer: str | None = None, **more: Any
    ) -> Item:
        """An item whose document contradicts what the base model holds: `answer` against `prior_answer`.

        Without a prior answer the item can be measured with `prior="from-base"` alone. `more` are other fields of an item.
        If not given, `id` is a hash of all the texts and `point` a hash of the document. Raises ItemError where a text is
        missing or empty, or the two answers are the same.
        """
        return cls._from_texts("conflict", document, question, answer, prior_answer=prior_answer, **more)

    @classmethod
    def novel(cls, document: str, question: str, *, answer: str, **more: Any) -> Item:
        """An item whose document states something that the base model knows nothing about; the rest as for `conflict`."""
        return cls._from_texts("novel", document, question, answer, **more)

    @classmethod
    def retention(cls, document: str, question: str, *, answer: str, **more: Any) -> Item:
        """An item that the document should not affect: `answer` is right before and after; the rest as for `conflict`."""
        return cls._from_texts("retention", document, question, answer, **more)

    @classmethod
    def _from_texts(cls, split: str, document: str, question: str, answer: str, **more: Any) -> Item:
        texts = {"split": split, "document": document, "question": question, "answer": answer, **more}
        errors = list(field_errors({"id": "", "point": "", **texts}))
        if errors:
            raise ItemError(errors[0])
        key = content_key(split, document, question, answer, more.get("prior_answer"))
        item = item_from_record({"id": f"{split}-{key}", "point": f"document-{content_key(document)}", **texts})
        asked_later = split == "conflict" and item.prior_answer is None
        if defects := [defect for defect in item.defects() if not (asked_later and defect == NO_PRIOR)]:
            raise ItemError(defects[0])
        return item

    def defect(self) -> str | None:
        """Why this item cannot be measured, or None. What depends on a tokenizer is in `margins.items.divergence`."""
        return next(iter(self.defects()), None)

    def defects(self) -> list[str]:
        """Everything that keeps this item from being measured."""
        defects = [f"empty {name}" for name in ("document", "question", "answer") if is_blank(getattr(self, name))]
        if self.split == "conflict" and is_blank(self.prior_answer or ""):
            defects.append(NO_PRIOR)
        elif self.prior_answer is not None and self.prior_answer.strip() == self.answer.strip():
            defects.append(f"answer and prior_answer are the same: {self.answer!r}")
        return defects

    def as_json(self) -> dict[str, Any]:
        """The item as a JSON object with the field names of the item file.

        `separator` is left out where the item states none, so that items without it keep the hash they had before it.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.separator is None:
            del values["separator"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def field_errors(record: dict[str, Any], noun: str = "field") -> Iterator[str]:
    """What keeps a record from being an item, a message each; `noun` is what its file calls a field."""
    known = {f.name for f in fields(Item)}
    for name in sorted(record.keys() - known):
        yield f"unknown {noun} {name!r}; an item has {', '.join(sorted(known))}"
    missing = [repr(name) for name in REQUIRED if record.get(name) is None]
    if missing:
        which = f"{noun} {missing[0]} is" if len(missing) == 1 else f"{noun}s {', '.join(missing)} are"
        present = [name for name, value in record.items() if value is not None]
        yield f"the {which} missing or empty (found: {', '.join(present) or 'none'})"
    for name in REQUIRED:
        if not isinstance(record.get(name), str | None):
            yield f"need {name} as text, got {record[name]!r}"
    for name in ("aliases", "prior_aliases"):
        value = record.get(name) or []
        if not isinstance(value, list | tuple) or not all(isinstance(alias, str) for alias in value):
            yield f"need {name} as a list of texts, got {record[name]!r}"
    for name, types in (("prior_answer", (str, type(None))), ("chat", (bool,)), ("meta", (dict, type(None)))):
        if name in record and not isinstance(record[name], types):
            yield f"{name} cannot be {record[name]!r}"
    if record.get("separator") not in (None, "", " "):
        yield f'separator is "" or " " (nothing or a space between question and answer), got {record["separator"]!r}'
    if isinstance(record.get("split"), str) and record["split"] not in ALL_SPLITS:
        yield f"split {record['split']!r} is none of {', '.join(ALL_SPLITS)}"
    if record.get("tier") is not None and record["tier"] not in TIERS:
        yield f"tier {record['tier']!r} is none of {', '.join(TIERS)}"


def item_from_record(record: dict[str, Any]) -> Item:
    """The item that a record without `field_errors` describes."""
    lists = {name: tuple(record.get(name) or ()) for name in ("aliases", "prior_aliases")}
    return Item(**{**record, **lists, "meta": record.get("meta") or {}})


def content_key(*parts: Any) -> str:
    """A short name for content that has none: the same content has the same name."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Asked:
    """A question asked of a document, for methods that need more than its text: editors of single facts.

    `prompt` is the item's question, without a chat template; `chat` says that it is asked through one. `target` is what the
    document answers, None for the questions of NOT_STATED, which the document does not answer. `old_answer` is what the base
    is expected to answer, where that is known; of a retention question it is the right answer, which should stay. `subject` is
    the item's `meta.subject`, None where it names none. Answers have no space in front.
    """

    prompt: str
    target: str | None
    old_answer: str | None = None
    subject: str | None = None
    split: str = "conflict"
    chat: bool = False

    @classmethod
    def of(cls, item: Item) -> Asked:
        """What an item asks of its document."""
        retention, subject = item.split == "retention", item.meta.get("subject")
        return cls(
            item.question,
            None if item.split in NOT_STATED else item.answer,
            item.answer if retention else None if item.split in NOT_STATED else item.prior_answer,
            subject if isinstance(subject, str) and subject.strip() else None,
            item.split,
            item.chat,
        )


@dataclass(frozen=True)
class Document:
    """A text to be turned into weights, with the ids, knowledge points and subjects of the items that ask about it.

    `subjects` are the items' `meta.subject`, for methods that edit what is known of one thing. `questions` are what the items
    ask, in the order of `ids`. A source that reads them says so (`SourceTraits.reads_questions`): the key is that of the text.
    """

    text: str
    ids: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    questions: tuple[Asked, ...] = ()

    @property
    def key(self) -> str:
        """Content hash of the text: the same document has the same key in every run."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def documents_of(items: Iterable[Item]) -> list[Document]:
    """The distinct documents of the items, in order of first appearance; each is encoded once."""
    asking: dict[str, list[Item]] = {}
    for item in items:
        asking.setdefault(item.document, []).append(item)
    documents = []
    for text, own in asking.items():
        questions = tuple(Asked.of(item) for item in own)
        documents.append(
            Document(
                text,
                tuple(item.id for item in own),
                tuple(dict.fromkeys(item.point for item in own)),
                tuple(dict.fromkeys(asked.subject for asked in questions if asked.subject is not None)),
                questions,
            )
        )
    return documents


def questions_hash(documents: Iterable[Document]) -> str:
    """SHA-256 over the documents' texts and the questions asked of them, in their order."""
    rows = [[document.text, [list(vars(asked).values()) for asked in document.questions]] for document in documents]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def items_hash(items: Sequence[Item]) -> str:
    """SHA-256 over the items' content, independent of the file they came from."""
    lines = (json.dumps(item.as_json(), sort_keys=True, ensure_ascii=False) for item in items)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
