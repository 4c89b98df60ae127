"""Data sets of questions with texts: ConflictBank, ConFiQA, NQ-Swap and SQuAD; and PopQA, which has questions alone."""

from __future__ import annotations

from typing import Any

from override_gap.margins.items.edits import edit
from override_gap.margins.items.fields import FieldError, Fields
from override_gap.margins.items.item import Item, content_key
from override_gap.margins.strict_json import JSONError, parse

EVIDENCE = {
    # the published tables have the first of these names, the code that made them the second
    "misinformation": ("misinformation_conflict_evidence_evidence", "misinformation_conflict_evidence"),
    "temporal": ("temporal_conflict_evidence",),
    "semantic": ("semantic_conflict_evidence",),
}


def conflictbank(record: Fields, related: bool = False) -> list[Item]:
    """A ConflictBank question: one conflict per kind of false evidence in the record, all of one knowledge point."""
    question, answer, true = (record.text(name) for name in ("question", "replaced_object", "object"))
    named = {name: record.text_or_none(name) for name in ("subject", "relation")}
    point = f"conflictbank-{content_key(named['subject'], named['relation'], question, answer, true)}"
    meta = {name: value for name, value in named.items() if value}
    texts = {kind: next(filter(None, map(record.text_or_none, names)), None) for kind, names in EVIDENCE.items()}
    return [
        Item(f"{point}-{kind}", point, "conflict", text, question, answer, true, meta={**meta, "evidence": kind})
        for kind, text in texts.items()
        if text
    ]


SUBSTITUTED = (
    # set, document, answer, its aliases, old answer, its aliases
    ("confiqa", "cf_context", "cf_answer", "cf_alias", "orig_answer", "orig_alias"),
    ("nq-swap", "sub_context", "sub_answer", "", "org_answer", ""),
)


def substituted(record: Fields, related: bool = False) -> list[Item]:
    """A question of ConFiQA or NQ-Swap: the counterfactual context is the document, the original answer the old answer.

    ConFiQA: Bi et al. (2024); NQ-Swap: Longpre et al. (2021). The original context is not used.
    """
    name, document, *names = next(row for row in SUBSTITUTED if row[1] in record)
    question, text = record.text("question"), record.text(document)
    answers, true = (
        record.texts(first) + (record.texts(others) if others else ()) for first, others in (names[:2], names[2:])
    )
    for field, found in ((names[0], answers), (names[2], true)):
        if not found:
            raise FieldError(f"need {field} as a text or a list of texts, got none")
    point = f"{name}-{content_key(text, question)}"
    aliases, prior_aliases = (tuple(dict.fromkeys(forms[1:])) for forms in (answers, true))
    return [
        Item(
            point, f"document-{content_key(text)}", "conflict", text, question, answers[0], true[0],
            aliases=aliases, prior_aliases=prior_aliases,
        )
    ]  # fmt: skip


def popqa(record: Fields, related: bool = False) -> list[Item]:
    """A question of PopQA (Mallen et al., 2023), which has no text: the question with its answer is the document.

    Wikipedia's monthly page views of the subject are `meta.frequency`, those of the object `meta.object_frequency`. PopQA
    has no other answer to weigh, so its questions are novel, or with `--prior from-base` conflicts with the base's answer.
    """
    question, answer = record.text("question"), record.text("obj")
    accepted = [*_listed(record, "possible_answers"), *_listed(record, "o_aliases")]
    aliases = tuple(text for text in dict.fromkeys(accepted) if text != answer)
    meta: dict[str, Any] = {"subject": record.text_or_none("subj"), "relation": record.text_or_none("prop")}
    for name, field in (("frequency", "s_pop"), ("object_frequency", "o_pop")):
        meta[name] = _number(record, field)
    meta = {name: value for name, value in meta.items() if value is not None}
    key = record.text("id") if "id" in record else content_key(question, answer)
    return [edit(f"popqa-{key}", question, answer, (), meta, aliases)]


def squad(record: Fields, related: bool = False) -> list[Item]:
    """Questions in the form of SQuAD: an article with paragraphs, or a row with context, question and answers.

    The context is the document; what it states contradicts nothing that the file names, so its questions are novel.
    """
    if "paragraphs" not in record:
        return _squad_question(record, record, record.text("context"))
    items = []
    for paragraph in record.each("paragraphs"):
        for question in paragraph.each("qas"):
            items += _squad_question(record, question, paragraph.text("context"))
    return items


def _squad_question(record: Fields, question: Fields, document: str) -> list[Item]:
    value = question.values.get("answers")
    if isinstance(value, dict):
        answers = question.inner("answers").texts("text")
    elif isinstance(value, list) and all(isinstance(answer, dict) for answer in value):
        answers = tuple(dict.fromkeys(text for answer in question.each("answers") for text in answer.texts("text")))
    else:
        answers = question.texts("answers")
    if not answers:
        record.left_out["a question without an answer"] += 1
        return []
    asked = question.text("question")
    key = question.text("id") if "id" in question else content_key(document, asked)
    point = f"document-{content_key(document)}"
    return [Item(f"squad-{key}", point, "novel", document, asked, answers[0], aliases=answers[1:])]


def _listed(record: Fields, name: str) -> tuple[str, ...]:
    """Texts of a list that PopQA's table holds as JSON in a cell."""
    value = record.values.get(name)
    if not isinstance(value, str) or not value.strip().startswith("["):
        return record.texts(name)
    record.raw(name)
    try:
        return Fields({name: parse(value)}).texts(name)
    except JSONError as fault:
        raise FieldError(f"need {name} as a JSON list of texts, got {value[:60]!r}") from fault


def _number(record: Fields, name: str) -> int | None:
    value = record.text_or_none(name)
    if value is None:
        return None
    if not value.strip().isdecimal():
        raise FieldError(f"need {name} as a whole number, got {value[:60]!r}")
    return int(value)
