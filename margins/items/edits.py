"""Data sets of edits: CounterFact, zsRE, KnowEdit and MQuAKE, whose documents are the statements that they edit in."""

from __future__ import annotations

from typing import Any

from override_gap.margins.items.fields import FieldError, Fields
from override_gap.margins.items.item import Item, content_key
from override_gap.margins.items.joining import as_text_of, sentence


def counterfact_easyedit(record: Fields, related: bool = False) -> list[Item]:
    """A flat edit, as EasyEdit distributes CounterFact: the statement is the document, its prompt the question.

    CounterFact's records have a `case_id`. Its item set is its edits, one item per record; with `related`, the rephrased
    prompt is another wording and the locality prompt retention. Of records without a `case_id` these are read in any case.
    """
    has_case = "case_id" in record
    case = str(record.raw("case_id")) if has_case else record.text("prompt")
    if _without_answer(record, "target_new"):
        return []
    items = [_flat_edit(record, f"counterfact-{case}")]
    return [*items, *_flat_related(record, items[0])] if related or not has_case else items


def counterfact_rome(record: Fields, related: bool = False) -> list[Item]:
    """A CounterFact record in the form of Meng et al. (2022), with a nested requested_rewrite.

    With `related`, paraphrases are other wordings, and the neighbourhood (prompts of which the old answer is right, about
    other subjects) is retention.
    """
    rewrite = record.inner("requested_rewrite")
    true = rewrite.inner("target_true").text("str")
    name, meta = f"counterfact-{record.text('case_id')}", {"subject": rewrite.text("subject")}
    item = edit(name, _cloze(rewrite), rewrite.inner("target_new").text("str"), (true,), meta)
    if not related:
        return [item]
    items = [
        reworded(item, f"paraphrase-{n}", prompt) for n, prompt in enumerate(record.texts("paraphrase_prompts"), 1)
    ]
    around = record.values.get("neighborhood_prompts") or []
    nested = isinstance(around, list) and all(isinstance(prompt, dict) for prompt in around)
    pairs = (
        [(inner.text("prompt"), inner.texts("target") or (true,)) for inner in record.each("neighborhood_prompts")]
        if nested
        else [(prompt, (true,)) for prompt in record.texts("neighborhood_prompts")]
    )
    kept = [same_document(item, f"kept-{n}", "retention", *pair) for n, pair in enumerate(pairs, 1)]
    return [item, *items, *kept]


def zsre(record: Fields, related: bool = False) -> list[Item]:
    """A zsRE record in the form of MEND (src, alt, answers) or of KnowEdit (prompt, target_new, ground_truth, cond).

    zsRE has questions and no texts, so the document is the question with its new answer, as for CounterFact. The
    rephrased question is a second item of the same knowledge point; the questions on other facts are retention.
    """
    if _without_answer(record, "alt", "target_new"):
        return []
    question = record.text("src" if "src" in record else "prompt")
    answer = record.text("alt" if "alt" in record else "target_new")
    true = record.texts("answers" if "answers" in record else "ground_truth")
    point, meta = f"zsre-{content_key(question, answer)}", _subject(record)
    items = [edit(point, question, answer, true, meta)]
    items += _rephrased(record, items[0])
    unrelated = [*_locality_prompt(record, "loc", "loc_ans"), *_locality(record)]
    unrelated += _locality_prompt(record, "locality_prompt", "locality_ground_truth")
    for n, (prompt, answers) in enumerate(unrelated, start=1):
        items.append(same_document(items[0], f"kept-{n}", "retention", prompt.removeprefix("nq question: "), answers))
    return [*items, *_portability(record, items)]


def knowedit(record: Fields, related: bool = False) -> list[Item]:
    """A record of KnowEdit: wiki_counterfact and wiki_recent (prompt, target_new), or WikiBio (concept, text, labels).

    A record with a ground truth is a conflict, one without is novel. CKnowEdit's name for it is `target_old`. Locality is
    retention. Of portability, the subject's other names are other wordings where the answer stays the same; reasoning and
    logical generalisation are combination.
    """
    biography = "concept" in record and "labels" in record
    if _without_answer(record, "labels" if biography else "target_new"):
        return []
    question = record.text("text" if biography else "prompt")
    # WikiBio's label is the sentence that follows; other files have one new answer, or a list of its accepted forms
    new, *forms = record.texts("labels" if biography else "target_new") or (record.text("target_new"),)
    meta = {"subject": record.text("concept")} if biography else _subject(record)
    point = f"knowedit-{content_key(question, new)}"
    item = edit(point, question, new, _old_answers(record), meta, tuple(forms))
    items = [item, *_rephrased(record, item)]
    for prompt, answers in [*_locality(record), *_locality_prompt(record, "locality_prompt", "locality_ground_truth")]:
        _add(record, items, same_document(item, f"kept-{content_key(prompt)}", "retention", prompt, answers))
    return [*items, *_portability(record, items)]


def mquake(record: Fields, related: bool = False) -> list[Item]:
    """A record of MQuAKE (Zhong et al., 2023): edits that hold together, and questions that need several of the facts.

    The document states all edits of the record. Each is a conflict, asked by its cloze prompt; with `related` its question
    is another wording. The multi-hop questions are combination, answered by `new_answer`; the answer before the edits is
    their old answer.
    """
    point = f"mquake-{record.text('case_id') if 'case_id' in record else content_key(record.values)}"
    rewrites = record.each("requested_rewrite")
    if not rewrites:
        raise FieldError("need requested_rewrite as a list of edits, got none")
    edits = []
    for n, rewrite in enumerate(rewrites, 1):
        new, true = (rewrite.inner(name).text("str") for name in ("target_new", "target_true"))
        edits.append(edit(f"{point}-edit-{n}", _cloze(rewrite), new, (true,), {"subject": rewrite.text("subject")}))
    document = as_text_of(dict.fromkeys(item.document for item in edits))
    items = [Item(**{**vars(item), "point": point, "document": document}) for item in edits]
    if related:
        wordings = [(item, rewrite.text_or_none("question")) for item, rewrite in zip(items, rewrites, strict=True)]
        items += [Item(**{**vars(i), "id": f"{i.id}-question", "question": text}) for i, text in wordings if text]
    new, *aliases = record.texts("new_answer") or (record.text("new_answer"),)
    aliases = tuple(text for text in dict.fromkeys((*aliases, *record.texts("new_answer_alias"))) if text != new)
    before = tuple(
        dict.fromkeys(text for name in ("answer", "answer_alias", "answer_extended") for text in record.texts(name))
    )
    old, *old_aliases = before if before and new not in before else (None,)
    for n, question in enumerate(record.texts("questions"), 1):
        items.append(
            Item(
                f"{point}-hops-{n}", point, "combination", document, question, new, old,
                aliases=aliases, prior_aliases=tuple(old_aliases),
            )
        )  # fmt: skip
    return items


def edit(
    name: str, prompt: str, answer: str, true: tuple[str, ...], meta: dict[str, Any], aliases: tuple[str, ...] = ()
) -> Item:
    """A prompt completed by its new answer as document, joined as its script is written: a conflict with the first true
    answer; without one, novel."""
    old, *others = true or (None,)
    split = "novel" if old is None else "conflict"
    return Item(
        name, name, split, sentence(prompt, answer), prompt, answer, old,
        aliases=aliases, prior_aliases=tuple(others), meta=meta,
    )  # fmt: skip


def reworded(item: Item, name: str, question: str) -> Item:
    """The same item with its question in other words."""
    return Item(**{**vars(item), "id": f"{item.point}-{name}", "question": question})


def same_document(item: Item, name: str, split: str, question: str, answers: tuple[str, ...]) -> Item:
    """Another question about the document of an item; the first answer is its answer, the others are aliases."""
    answer, *aliases = answers
    return Item(
        f"{item.point}-{name}", item.point, split, item.document, question, answer,
        aliases=tuple(aliases), meta=item.meta,
    )  # fmt: skip


def _flat_edit(record: Fields, name: str) -> Item:
    new, *forms = record.texts("target_new") or (record.text("target_new"),)
    return edit(name, record.text("prompt"), new, _old_answers(record), _subject(record), tuple(forms))


def _without_answer(record: Fields, *names: str) -> bool:
    """Whether a record states no new answer, as some of zsRE's and KnowEdit's do; counted as left out."""
    if any(name in record for name in names) or not any(name in record.values for name in names):
        return False
    record.left_out["an edit without a new answer"] += 1
    return True


def _old_answers(record: Fields) -> tuple[str, ...]:
    return record.texts("ground_truth") or record.texts("target_old")


def _rephrased(record: Fields, item: Item) -> list[Item]:
    """The edit in other words: one text, or a list of them."""
    texts = [text for name in ("rephrase_prompt", "rephrase") for text in record.texts(name) if text != item.question]
    return [
        reworded(item, f"rephrase-{n}" if n > 1 else "rephrase", text) for n, text in enumerate(dict.fromkeys(texts), 1)
    ]


def _flat_related(record: Fields, item: Item) -> list[Item]:
    items = _rephrased(record, item)
    pairs = _locality_prompt(record, "locality_prompt", "locality_ground_truth")
    return [*items, *(same_document(item, "kept-1", "retention", *pair) for pair in pairs)]


def _locality_prompt(record: Fields, prompt: str, answer: str) -> list[tuple[str, tuple[str, ...]]]:
    if prompt not in record:
        return []
    answers = record.texts(answer)
    if not answers:
        record.left_out[f"{prompt} without an answer"] += 1
    return [(record.text(prompt), answers)] if answers else []


def _cloze(rewrite: Fields) -> str:
    # not format(), which would evaluate fields that an untrusted file names
    return rewrite.text("prompt").replace("{}", rewrite.text("subject"))


def _subject(record: Fields) -> dict[str, Any]:
    subject = record.text_or_none("subject")
    return {} if subject is None else {"subject": subject}


def _questions(record: Fields, block: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """The questions in a `locality` or `portability` block: their kind, the question and its accepted answers.

    KnowEdit's block has a list per kind, CKnowEdit's is one list, and EasyEdit's first portability files have one
    question, as New Question and New Answer.
    """
    if block not in record:
        return []
    if not isinstance(record.values[block], dict):
        kinds = {"": record.each(block)}
    elif "New Question" in (inner := record.inner(block)):
        return [("", *pair) for pair in _locality_prompt(inner, "New Question", "New Answer")]
    else:
        kinds = {kind: inner.each(kind) for kind in inner.values}
    asked: list[tuple[str, str, tuple[str, ...]]] = []
    for kind, query in ((kind, query) for kind, queries in kinds.items() for query in queries):
        prompts = query.texts("prompt")
        answers = query.raw("ground_truth" if "ground_truth" in query else "answer")
        one_each = isinstance(answers, list) and len(answers) == len(prompts) > 1
        for n, prompt in enumerate(prompts):
            own = Fields({"answers": answers[n] if one_each else answers}).texts("answers")
            if own:
                asked.append((kind, prompt, own))
            else:
                record.left_out[f"{block}.{kind}".rstrip(".") + " without an answer"] += 1
    return asked


def _locality(record: Fields) -> list[tuple[str, tuple[str, ...]]]:
    return [(prompt, answers) for _, prompt, answers in _questions(record, "locality")]


def _portability(record: Fields, items: list[Item]) -> list[Item]:
    """What an edit should carry over to: other wordings, and combination."""
    edited, asked = items[0], list(items)
    accepted = {text.casefold() for text in (edited.answer, *edited.aliases)}
    for kind, prompt, answers in _questions(record, "portability"):
        same = kind == "Subject_Aliasing" and not accepted.isdisjoint(text.casefold() for text in answers)
        name = f"{'alias' if same else 'combined'}-{content_key(prompt)}"
        item = reworded(edited, name, prompt) if same else same_document(edited, name, "combination", prompt, answers)
        _add(record, asked, item)
    return asked[len(items) :]


def _add(record: Fields, items: list[Item], item: Item) -> None:
    """Add an item unless its question is asked already."""
    if item.question in [other.question for other in items]:
        record.left_out["a question that the record asks already"] += 1
    else:
        items.append(item)
