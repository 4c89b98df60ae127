"""Public conflict data sets, recognised by the fields their records hold and turned into items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from margins.items import Item

Converter = Callable[[dict[str, Any]], list[Item]]


def counterfact_easyedit(record: dict[str, Any]) -> list[Item]:
    """A CounterFact record as EasyEdit distributes it: the statement is the document, its prompt the question."""
    case = str(record.get("case_id", record["prompt"]))
    return [_conflict(case, record["prompt"], record["target_new"], record["ground_truth"], record)]


def counterfact_rome(record: dict[str, Any]) -> list[Item]:
    """A CounterFact record in the form of Meng et al. (2022), with a nested requested_rewrite."""
    rewrite = record["requested_rewrite"]
    prompt = rewrite["prompt"].format(rewrite["subject"])
    meta = {"subject": rewrite["subject"]}
    return [
        _conflict(str(record["case_id"]), prompt, rewrite["target_new"]["str"], rewrite["target_true"]["str"], meta)
    ]


FORMS: tuple[tuple[frozenset[str], Converter], ...] = (
    (frozenset({"prompt", "subject", "ground_truth", "target_new"}), counterfact_easyedit),
    (frozenset({"case_id", "requested_rewrite"}), counterfact_rome),
)


def recognise(record: dict[str, Any]) -> Converter | None:
    """The converter whose fields this record holds, or None for a plain item."""
    return next((convert for needed, convert in FORMS if needed <= record.keys()), None)


def _conflict(case: str, prompt: str, answer: str, prior_answer: str, meta: dict[str, Any]) -> Item:
    document = f"{prompt} {answer}."
    subject = {"subject": meta["subject"]}
    return Item(
        f"counterfact-{case}", f"counterfact-{case}", "conflict", document, prompt, answer, prior_answer, meta=subject
    )
