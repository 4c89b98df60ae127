"""What is known of the documents behind a batch's adapters: their texts, and the answers that they state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from override_gap.margins.items.divergence import diverge
from override_gap.margins.items.item import Document, Item, ItemError
from override_gap.margins.items.relevance import word_overlap
from override_gap.probes.errors import AdapterError
from override_gap.probes.run.policy_inputs import OWN_QUESTIONS, may_begin_answer
from override_gap.probes.subject.tokens import token_ids

Documents = str | Document | Item | Sequence[str | Document | Item]
Answers = str | Sequence[str | None]


@dataclass(frozen=True)
class Known:
    """One document's text, None where it was not given, and the answers that it states, empty where none was."""

    text: str | None = None
    answers: tuple[str, ...] = ()

    def overlap(self, question: str) -> float:
        """The share of the question's content words that the document contains, 0 to 1; the text has to be known."""
        assert self.text is not None, "asked for at construction"
        return word_overlap(self.text, question)

    def says(self, tokenizer: Any, question: Sequence[int], token: int) -> bool | None:
        """Whether `token`, the base's first behind the question, begins the answer that the document states; None if unknown.

        The answer's first token is that of question and answer as one text. Without a stated answer it is still certain that
        a token which begins no word of the document does not begin it.
        """
        if not self.answers:
            if self.text is None:
                return None
            return None if may_begin_answer(tokenizer.decode([token]), self.text) else False
        return any(_first_token(tokenizer, question, answer) == token for answer in self.answers)


def _first_token(tokenizer: Any, question: Sequence[int], answer: str) -> int | None:
    """The first token of an answer behind a question's tokens; None where the answer merges with the question's end."""
    special = set(tokenizer.all_special_ids)
    first = next((n for n, token in enumerate(question) if token not in special), 0)
    words = list(question[first:])  # a BOS in front is no text
    text = tokenizer.decode(words, skip_special_tokens=False)
    if token_ids(tokenizer, text, special=False) != words:
        raise AdapterError(
            "the question's tokens are not those of its text; give tokenizer= the tokenizer that made them"
        )
    in_chat = any(token in special for token in words)
    item = Item(id="asked", point="asked", split="novel", document=answer, question=text, answer=answer)
    try:
        place = diverge(lambda whole: token_ids(tokenizer, whole, special=False), item, text if in_chat else None)
    except ItemError:
        return None
    return place.doc if place.n_question_tokens == len(words) else None


def known_of(documents: Documents | None, answers: Answers | None, rows: int) -> tuple[Known, ...]:
    """What is known of each row's document, one entry for all rows where one was given.

    `documents` are texts, Documents or Items; a conflict or novel item tells its answer too. Raises AdapterError for another
    number than one per adapter.
    """
    given: list[Any] = _listed(documents, rows, "documents")
    stated: list[Any] = _listed(answers, rows, "answers")
    known = []
    for document, answer in zip(given, stated, strict=True):
        text = document if isinstance(document, str | None) else getattr(document, "text", None)
        own: tuple[str, ...] = ()
        if isinstance(document, Item):
            text, own = document.document, (document.answer,) if document.split in OWN_QUESTIONS else ()
        known.append(Known(text, own if answer is None else (answer,)))
    return tuple(known)


def documents_in(documents: Documents) -> list[Document]:
    """The documents to encode, one per row."""
    listed = [documents] if isinstance(documents, str | Document | Item) else list(documents)
    texts = [d if isinstance(d, str) else d.document if isinstance(d, Item) else d.text for d in listed]
    return [d if isinstance(d, Document) else Document(text) for d, text in zip(listed, texts, strict=True)]


def _listed(given: Any, rows: int, what: str) -> list[Any]:
    listed = [given] if given is None or isinstance(given, str | Document | Item) else list(given)
    if len(listed) == 1:
        return listed * rows
    if len(listed) != rows:
        raise AdapterError(f"{what}: need one for each of {rows} adapters, or one for all, got {len(listed)}")
    return listed
