"""Public conflict data sets, recognised by what their records hold and turned into items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from override_gap.margins.items.contexts import SUBSTITUTED, conflictbank, popqa, squad, substituted
from override_gap.margins.items.edits import counterfact_easyedit, counterfact_rome, knowedit, mquake, zsre
from override_gap.margins.items.fields import Fields
from override_gap.margins.items.item import Item
from override_gap.margins.items.ripple_edits import ripple_edits

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Form:
    """A data set's form: its name, whether a record is of it, and the items of one record.

    `convert` takes the record and whether items that the set's own item set leaves out are wanted too; where there are
    such, `related` says which.
    """

    name: str
    holds: Callable[[Record], bool]
    convert: Callable[[Fields, bool], list[Item]]
    related: str = ""


def _has(record: Record, *names: str) -> bool:
    return all(name in record for name in names)


def _is(record: Record, kind: type, *names: str) -> bool:
    return all(isinstance(record.get(name), kind) for name in names)


def _flat_edit(record: Record) -> bool:
    """EasyEdit's flat edits; a prompt alone is no sign of one, since chat data has prompts."""
    return _is(record, str, "prompt") and _has(record, "target_new")


def _has_blocks(record: Record) -> bool:
    kinds = dict if "case_id" in record else dict | list
    return any(isinstance(record.get(name), kinds) for name in ("locality", "portability"))


def _edits(record: Record) -> bool:
    rewrites = record.get("requested_rewrite")
    return isinstance(rewrites, list) and bool(rewrites) and all(isinstance(rewrite, dict) for rewrite in rewrites)


FORMS: tuple[Form, ...] = (
    Form("zsRE, as MEND has it", lambda r: _has(r, "src", "alt", "answers"), zsre),
    Form("zsRE, as EasyEdit has it", lambda r: _flat_edit(r) and _has(r, "ground_truth", "cond"), zsre),
    Form("CKnowEdit", lambda r: _flat_edit(r) and "case_id" not in r and _has(r, "target_old"), knowedit),
    Form("KnowEdit", lambda r: _flat_edit(r) and _has_blocks(r), knowedit),
    Form("KnowEdit's WikiBio", lambda r: _is(r, str, "concept", "text") and _has(r, "labels"), knowedit),
    Form(
        "CounterFact, as EasyEdit has it",
        _flat_edit,
        counterfact_easyedit,
        "its rephrased prompts and its locality prompts",
    ),
    Form(
        "CounterFact, as ROME has it",
        lambda r: _is(r, dict, "requested_rewrite") and _has(r, "case_id"),
        counterfact_rome,
        "its paraphrases and its neighbourhood",
    ),
    Form("MQuAKE", _edits, mquake, "the question of each edit"),
    Form("ConflictBank", lambda r: _has(r, "question", "object", "replaced_object"), conflictbank),
    Form("RippleEdits", lambda r: _is(r, dict, "edit") and _has(r, "Compositionality_I"), ripple_edits),
    Form("PopQA", lambda r: _has(r, "question", "obj", "possible_answers"), popqa),
    *(
        Form(
            name,
            lambda r, names=(document, answer, old): _is(r, str, "question") and _has(r, *names),
            substituted,
        )
        for name, (_, document, answer, _, old, _) in zip(("ConFiQA", "NQ-Swap"), SUBSTITUTED, strict=True)
    ),
    Form("SQuAD", lambda r: _is(r, list, "paragraphs") or (_is(r, str, "context", "question") and _answers(r)), squad),
)


def _answers(record: Record) -> bool:
    """SQuAD's answers, in its own form or as a plain list; a file whose answers are single texts has another name for them."""
    return isinstance(record.get("answers"), dict | list)


def recognise(record: Record) -> Form | None:
    """The form that this record is of, or None for a plain item."""
    return next((form for form in FORMS if form.holds(record)), None)
