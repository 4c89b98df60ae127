"""Plain records: an item's own fields by name; what a record leaves out is taken from its texts, what it lacks is said once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from override_gap.margins.items.fields import as_text
from override_gap.margins.items.item import ALL_SPLITS, TIERS, Item, content_key, field_errors, item_from_record

#: What a record must hold; `id`, `point` and `split` follow from these where they are left out.
TEXTS = ("document", "question", "answer")
#: What may be left out of a whole file, but not of some records: an empty cell among filled ones is a mistake.
FROM_TEXTS = ("point", "split")
NAMES = frozenset(f.name for f in fields(Item))
META = "meta."
#: Names that other files have for an item's fields.
OTHER_NAMES = {
    "document": "context passage text article paragraph doc documents evidence statement fact background source",
    "question": "prompt query questions input cloze q",
    "answer": "target target_new new_answer answers gold gold_answer ground_truth label output object obj response "
    "completion a",
    "prior_answer": "prior prioranswer old_answer previous_answer original_answer orig_answer org_answer true_answer "
    "ground_truth target_true base_answer y_pre",
    "aliases": "alias answer_alias answer_aliases possible_answers",
    "prior_aliases": "prior_alias old_aliases",
}
OTHER_NAMES = {name: tuple(others.split()) for name, others in OTHER_NAMES.items()}


@dataclass(frozen=True)
class PlainRecord:
    """A record's item, or what keeps it from being one.

    `missing` are the texts that it has no field of, `unused` the fields that are none of an item's. `from_texts` are those
    of `point` and `split` that it does not state. `lists`: the fields whose list gave an answer and its aliases.
    """

    item: Item | None
    errors: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    from_texts: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()


def plain_item(record: Mapping[str, Any], noun: str = "field", *, from_base: bool = False) -> PlainRecord:
    """Read one record by the names of an item's fields, whatever their case, with spaces or hyphens for underscores.

    Left out, `id` is a hash of the texts, `point` of the document. `split` is conflict where a prior answer is there, else
    novel; with `from_base`, where the base is asked for its answer, conflict.
    """
    values, renamed, errors = _by_name(record, noun)
    unused = []
    for name, raw in renamed.items():
        if name in NAMES or values.get(name) is None:
            continue
        wanted = _meant(name, values)
        if wanted:
            errors.append(f"unknown {noun} {raw!r}: is it {wanted!r}? then rename it")
        else:
            unused.append(raw)
    item_values = {name: value for name, value in values.items() if name in NAMES}
    lists = _answers_from_lists(item_values)
    for name, known in (("split", ALL_SPLITS), ("tier", TIERS)):
        value = item_values.get(name)
        if isinstance(value, str) and value.strip().lower() in known:
            item_values[name] = value.strip().lower()
    for name in ("id", "point", *TEXTS, "prior_answer"):
        number = as_text(item_values.get(name))
        if number is not None:
            item_values[name] = number
    missing = tuple(name for name in TEXTS if item_values.get(name) is None)
    from_texts = tuple(name for name in FROM_TEXTS if item_values.get(name) is None)
    has_prior = isinstance(item_values.get("prior_answer"), str) and bool(item_values["prior_answer"].strip())
    if "split" in from_texts:
        item_values["split"] = "conflict" if has_prior or from_base else "novel"
    # the other fields of a record that lacks a text are still checked, so that all that is wrong is said at once
    texts = {**item_values, **dict.fromkeys(missing, "-")}
    # by way of str, since a field of another type is an error below
    document, question, answer = (str(texts.get(name)) for name in TEXTS)
    prior = item_values.get("prior_answer")
    if item_values.get("id") is None:
        key = content_key(str(texts["split"]), document, question, answer, None if prior is None else str(prior))
        texts["id"] = f"{texts['split']}-{key}"
    if item_values.get("point") is None:
        texts["point"] = f"document-{content_key(document)}"
    errors += field_errors(texts, noun)
    if errors or missing:
        return PlainRecord(None, tuple(errors), missing, tuple(unused), from_texts, lists)
    return PlainRecord(item_from_record(texts), (), (), tuple(unused), from_texts, lists)


def missing_line(missing: str, found: Iterable[str], noun: str, count: int) -> str:
    """What is said once of a text that no record of a file has."""
    found = list(found)
    by_name = {_name(raw): raw for raw in found}
    near = [by_name[other] for other in OTHER_NAMES[missing] if other in by_name]
    near += [by_name[n] for n in difflib.get_close_matches(missing, [n for n in by_name if n not in NAMES], 1, 0.75)]
    hint = f"; is {near[0]!r} the {missing}? then rename it to {missing!r}" if near else ""
    where = "no" if count == 1 else f"none of {count} records has a"
    return f"{where} {noun} {missing!r} (found: {', '.join(found) or 'none'}){hint}"


def _name(raw: str) -> str:
    return raw.strip().lstrip("\ufeff").lower().replace(" ", "_").replace("-", "_")


def _by_name(record: Mapping[str, Any], noun: str) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """A record's values by normal name, each normal name's own spelling, and what is wrong with the names."""
    values: dict[str, Any] = {}
    spelt: dict[str, str] = {}
    errors: list[str] = []
    meta: dict[str, Any] = {}
    for raw, value in record.items():
        if isinstance(value, float) and math.isnan(value):
            value = None  # how tables of Python's say that a cell is empty
        if raw.lower().startswith(META) and len(raw) > len(META):
            if value is not None:
                meta[raw[len(META) :]] = value
            continue
        name = _name(raw)
        if name in spelt:
            errors.append(f"the {noun}s {spelt[name]!r} and {raw!r} are the same to an item; leave one out")
            continue
        values[name], spelt[name] = value, raw
    if meta and isinstance(values.get("meta") or {}, dict):
        values["meta"] = {**(values.get("meta") or {}), **meta}
    return values, spelt, errors


def _meant(name: str, values: Mapping[str, Any]) -> str | None:
    """The field of an item that an unknown name stands for, unless the record has that field, too.

    A text of an item under another name would be lost in silence. Texts that no record has are said once for the file.
    """
    meanings = [wanted for wanted, others in OTHER_NAMES.items() if name in others]
    if meanings:
        absent = [wanted for wanted in meanings if values.get(wanted) is None]
        return next(iter(absent), None) if not set(absent) & set(TEXTS) else None
    near = difflib.get_close_matches(name, sorted(NAMES), 1, 0.8)
    return near[0] if near and (near[0] not in TEXTS or values.get(near[0]) is not None) else None


def _answers_from_lists(values: dict[str, Any]) -> tuple[str, ...]:
    """Take the first of a list of answers as the answer and the others as aliases; the fields that held a list."""
    lists = []
    for name, aliases in (("answer", "aliases"), ("prior_answer", "prior_aliases")):
        value = values.get(name)
        if not isinstance(value, list | tuple):
            continue
        texts = [as_text(text) for text in value if text is not None]
        if not texts or None in texts:
            continue  # field_errors says what came
        lists.append(name)
        values[name] = texts[0]
        named = values.get(aliases) or ()
        if isinstance(named, list | tuple) and all(isinstance(alias, str) for alias in named):
            values[aliases] = list(dict.fromkeys([*texts[1:], *named]))
    return tuple(lists)
