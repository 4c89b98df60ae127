"""RippleEdits: an edited statement, what follows from it, and what it should not change."""

from __future__ import annotations

import re
from collections.abc import Iterator

from override_gap.margins.items.edits import reworded, same_document
from override_gap.margins.items.fields import FieldError, Fields
from override_gap.margins.items.item import Item

CRITERIA = {
    "Subject_Aliasing": "wording",
    "Logical_Generalization": "combination",
    "Compositionality_I": "combination",
    "Compositionality_II": "combination",
    "Relation_Specifity": "retention",  # spelt so in the published files
    "Relation_Specificity": "retention",
    "Forgetfulness": "retention",
}


def ripple_edits(record: Fields, related: bool = False) -> list[Item]:
    """A RippleEdits entry: the edited statement is the document.

    A statement that replaces a previous fact is a conflict, also under the subject's other names; one that replaces none
    (a fact newer than the model) is novel. What follows from it is combination, what it should not change retention.
    A test without an answer, or with a prompt that an earlier one has, gives no item.
    """
    edited = record.inner("edit")
    before = edited.inner("previous_fact") if "previous_fact" in edited else None
    question, answer = _statement(edited, record)
    true = _statement(before, record, question)[1] if before else None
    point = "ripple-" + "-".join(str(edited.raw(name)) for name in ("subject_id", "relation", "target_id"))
    split, meta = "conflict" if before else "novel", {"relation": edited.raw("relation")}
    items = [Item(point, point, split, edited.text("prompt"), question, answer, true, meta=meta)]
    prompts = {question}
    for criterion, kind in CRITERIA.items():
        for n, query in enumerate(_queries(record, criterion), start=1):
            answers = _answers(query)
            if query.text("prompt") in prompts or not answers:
                why = "without an answer" if not answers else "that the record asks already"
                record.left_out[f"a question {why}"] += 1
                continue
            prompts.add(query.text("prompt"))
            name = f"{criterion.lower()}-{n}"
            if kind == "wording" and query.raw("relation") == edited.raw("relation"):
                items.append(reworded(items[0], name, query.text("prompt")))
            elif kind != "wording":
                items.append(same_document(items[0], name, kind, query.text("prompt"), answers))
            else:
                record.left_out["a question under another name about another relation"] += 1
    return items


def _answers(query: Fields) -> tuple[str, ...]:
    """The accepted answers, each followed by its aliases."""
    texts = [text for answer in query.each("answers") for text in (*answer.texts("value"), *answer.texts("aliases"))]
    return tuple(dict.fromkeys(texts))


def _queries(record: Fields, criterion: str) -> Iterator[Fields]:
    return (query for test in record.each(criterion) for query in test.each("test_queries"))


def _statement(fact: Fields, record: Fields, question: str | None = None) -> tuple[str, str]:
    """A stated fact split into the unfinished sentence, which is the question, and its end, which is the answer.

    The end is the label that a test of the record gives the same target. Where no test has that target, the statement is
    compared with the fact before the edit, and split after the last verb in what the two share.
    """
    whole = fact.text("prompt").strip().removesuffix(".")
    if question is not None and whole.startswith(question + " "):
        return question, whole[len(question) + 1 :]
    for criterion in CRITERIA:
        for query in _queries(record, criterion):
            labels = [label for answer in query.each("answers") for label in answer.texts("value")]
            targets = query.values.get("target_ids")
            if targets == [fact.raw("target_id")] and labels and whole.endswith(f" {labels[0]}"):
                query.raw("target_ids")
                return whole[: -len(labels[0]) - 1], labels[0]
    before = fact.inner("previous_fact").text("prompt") if "previous_fact" in fact else None
    pairs = enumerate(zip(whole, before, strict=False)) if before else ()
    shared = whole[: next((n for n, (now, earlier) in pairs if now != earlier), None)]
    ends = [verb.end() for verb in re.finditer(r" (?:is followed by|follows|is|are)(?= )", shared)]
    if not ends:
        raise FieldError(f"no verb that splits {whole!r} into a question and its answer")
    return whole[: ends[-1]], whole[ends[-1] + 1 :]
