"""Public conflict data sets, recognised by the fields their records hold and turned into items."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from override_gap.margins.items.item import Item, content_key

Converter = Callable[[dict[str, Any]], list[Item]]
Unchecked = Any
"""A value as the record holds it; `margins.items.files` checks that an item's texts are texts."""


def counterfact_easyedit(record: dict[str, Any]) -> list[Item]:
    """A CounterFact record as EasyEdit distributes it: the statement is the document, its prompt the question."""
    case = str(record.get("case_id", record["prompt"]))
    true, others = _first(record["ground_truth"])
    meta = {"subject": record["subject"]}
    return [_edit(f"counterfact-{case}", record["prompt"], record["target_new"], true, others, meta)]


def counterfact_rome(record: dict[str, Any]) -> list[Item]:
    """A CounterFact record in the form of Meng et al. (2022), with a nested requested_rewrite."""
    rewrite = record["requested_rewrite"]
    # not format(), which would evaluate fields that an untrusted file names
    prompt = rewrite["prompt"].replace("{}", rewrite["subject"])
    name, meta = f"counterfact-{record['case_id']}", {"subject": rewrite["subject"]}
    return [_edit(name, prompt, rewrite["target_new"]["str"], rewrite["target_true"]["str"], (), meta)]


def zsre(record: dict[str, Any]) -> list[Item]:
    """A zsRE record in the form of MEND (src, alt, answers) or of KnowEdit (prompt, target_new, ground_truth, cond).

    zsRE has questions and no texts, so the document is the question with its new answer, as for CounterFact. The
    rephrased question is a second item of the same knowledge point; the questions on other facts are retention.
    """
    question, answer = record.get("src") or record["prompt"], record.get("alt") or record["target_new"]
    true, others = _first(record["answers"] if "answers" in record else record["ground_truth"])
    point, meta = f"zsre-{content_key(question, answer)}", {"subject": record["subject"]}
    items = [_edit(point, question, answer, true, others, meta)]
    rephrased = record.get("rephrase") or record.get("rephrase_prompt")
    if rephrased:
        items.append(_reworded(items[0], "rephrase", rephrased))
    unrelated = [(record["loc"], record["loc_ans"])] if "loc" in record else []
    for group in (record.get("locality") or {}).values():
        unrelated += [(other["prompt"], other["ground_truth"]) for other in ([group] if "prompt" in group else group)]
    for n, (prompt, answers) in enumerate(unrelated, start=1):
        right, aliases = _first(answers)
        prompt = prompt.removeprefix("nq question: ")
        items.append(_same_document(items[0], f"kept-{n}", "retention", prompt, right, aliases))
    return items


def conflictbank(record: dict[str, Any]) -> list[Item]:
    """A ConflictBank question: one conflict per kind of false evidence in the record, all of one knowledge point."""
    question, answer, true = record["question"], record["replaced_object"], record["object"]
    point = f"conflictbank-{content_key(record.get('subject'), record.get('relation'), question, answer, true)}"
    meta = {name: record[name] for name in ("subject", "relation") if record.get(name)}
    return [
        Item(f"{point}-{kind}", point, "conflict", text, question, answer, true, meta={**meta, "evidence": kind})
        for kind, names in EVIDENCE.items()
        for text in [next((record[name] for name in names if record.get(name)), None)]
        if text
    ]


EVIDENCE = {
    # the published tables have the first of these names, the code that made them the second
    "misinformation": ("misinformation_conflict_evidence_evidence", "misinformation_conflict_evidence"),
    "temporal": ("temporal_conflict_evidence",),
    "semantic": ("semantic_conflict_evidence",),
}


def ripple_edits(record: dict[str, Any]) -> list[Item]:
    """A RippleEdits entry: the edited statement is the document.

    A statement that replaces a previous fact is a conflict, also under the subject's other names; one that replaces none
    (a fact newer than the model) is novel. What follows from it is combination, what it should not change retention.
    A test without an answer, or with a prompt that an earlier one has, gives no item.
    """
    edit = record["edit"]
    before = edit.get("previous_fact")
    question, answer = _statement(edit, record)
    true = _statement(before, record, question)[1] if before else None
    point = "ripple-" + "-".join(str(edit[name]) for name in ("subject_id", "relation", "target_id"))
    split, meta = "conflict" if before else "novel", {"relation": edit["relation"]}
    items = [Item(point, point, split, edit["prompt"], question, answer, true, meta=meta)]
    prompts = {question}
    for criterion, kind in CRITERIA.items():
        for n, query in enumerate(_queries(record, criterion), start=1):
            if query["prompt"] in prompts or not query["answers"]:
                continue
            prompts.add(query["prompt"])
            first, *others = [
                str(text) for answer in query["answers"] for text in (answer["value"], *answer["aliases"])
            ]
            name = f"{criterion.lower()}-{n}"
            if kind == "wording" and query.get("relation") == edit["relation"]:
                items.append(_reworded(items[0], name, query["prompt"]))
            elif kind != "wording":
                items.append(_same_document(items[0], name, kind, query["prompt"], first, tuple(others)))
    return items


CRITERIA = {
    "Subject_Aliasing": "wording",
    "Logical_Generalization": "combination",
    "Compositionality_I": "combination",
    "Compositionality_II": "combination",
    "Relation_Specifity": "retention",  # spelt so in the published files
    "Relation_Specificity": "retention",
    "Forgetfulness": "retention",
}


def _queries(record: dict[str, Any], criterion: str) -> Iterator[dict[str, Any]]:
    return (query for test in record.get(criterion) or () for query in test["test_queries"])


def _statement(fact: dict[str, Any], record: dict[str, Any], question: str | None = None) -> tuple[str, str]:
    """A stated fact split into the unfinished sentence, which is the question, and its end, which is the answer.

    The end is the label that a test of the record gives the same target. Where no test has that target, the statement is
    compared with the fact before the edit, and split after the last verb in what the two share.
    """
    whole = fact["prompt"].strip().removesuffix(".")
    if question is not None and whole.startswith(question + " "):
        return question, whole[len(question) + 1 :]
    for criterion in CRITERIA:
        for query in _queries(record, criterion):
            labels = [str(answer["value"]) for answer in query["answers"]]
            if query.get("target_ids") == [fact["target_id"]] and labels and whole.endswith(f" {labels[0]}"):
                return whole[: -len(labels[0]) - 1], labels[0]
    before = fact.get("previous_fact")
    pairs = enumerate(zip(whole, before["prompt"], strict=False)) if before else ()
    shared = whole[: next((n for n, (now, earlier) in pairs if now != earlier), None)]
    ends = [verb.end() for verb in re.finditer(r" (?:is followed by|follows|is|are)(?= )", shared)]
    if not ends:
        raise ValueError(f"no verb that splits {whole!r} into a question and its answer")
    return whole[: ends[-1]], whole[ends[-1] + 1 :]


FORMS: tuple[tuple[frozenset[str], Converter], ...] = (
    (frozenset({"src", "alt", "answers", "subject"}), zsre),
    (frozenset({"prompt", "subject", "ground_truth", "target_new", "cond"}), zsre),
    (frozenset({"prompt", "subject", "ground_truth", "target_new"}), counterfact_easyedit),
    (frozenset({"case_id", "requested_rewrite"}), counterfact_rome),
    (frozenset({"question", "object", "replaced_object"}), conflictbank),
    (frozenset({"edit", "Compositionality_I"}), ripple_edits),
)


def recognise(record: dict[str, Any]) -> Converter | None:
    """The converter whose fields this record holds, or None for a plain item."""
    return next((convert for needed, convert in FORMS if needed <= record.keys()), None)


def _edit(
    name: str,
    prompt: Unchecked,
    answer: Unchecked,
    true: Unchecked,
    others: tuple[Unchecked, ...],
    meta: dict[str, Any],
) -> Item:
    """A conflict whose document is the prompt completed by its new answer."""
    return Item(name, name, "conflict", f"{prompt} {answer}.", prompt, answer, true, prior_aliases=others, meta=meta)


def _reworded(item: Item, name: str, question: Unchecked) -> Item:
    """The same item with its question in other words."""
    return Item(**{**vars(item), "id": f"{item.point}-{name}", "question": question})


def _same_document(
    item: Item, name: str, split: str, question: Unchecked, answer: Unchecked, aliases: tuple[Unchecked, ...]
) -> Item:
    """Another question about the document of an item."""
    aliases = tuple(dict.fromkeys(text for text in aliases if text != answer))
    return Item(
        f"{item.point}-{name}", item.point, split, item.document, question, answer, aliases=aliases, meta=item.meta
    )


def _first(answers: Unchecked) -> tuple[Unchecked, tuple[Unchecked, ...]]:
    """The first of several accepted answers, and the others; of a single text there are no others."""
    while isinstance(answers, list) and isinstance(answers[0], list):  # KnowEdit wraps some lists once more
        answers = [text for group in answers for text in group]
    if isinstance(answers, list):
        return answers[0], tuple(dict.fromkeys(answers[1:]))
    return answers, ()
