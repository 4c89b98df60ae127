"""Answers in words at the gain that repairs a failure: a first token that flips is not yet an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from override_gap.margins.content import MEASURED_FOR_CONTENT, has_content
from override_gap.margins.items.item import Item
from override_gap.probes.run.answers import AnswerRequest, answer
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.run.measurement_setup import MeasurementSetup

#: At the gain where the first token flips the rest of the answer may not follow: so many larger gains are tried after it.
FURTHER = 2


def answer_rescued(
    setup: MeasurementSetup,
    searched: tuple[dict[str, Any], ...],
    items: Mapping[str, Item],
    encoded: EncodedDocuments,
    batch_size: int,
) -> None:
    """Write greedy answers into rows of the search: a sample of the failures that a gain repairs, at that gain and above.

    An item is asked at the least gain that repairs it, and then at the next gains that do not break the model, until its
    answer is right. An answer that cannot be generated stays null.
    """
    by_item: dict[str, list[dict[str, Any]]] = {}
    for row in searched:
        if row["condition"] == "as-delivered":
            by_item.setdefault(row["item"], []).append(row)
    rescued = {item: at for item, rows in by_item.items() if (at := _repairing(rows)) is not None}
    sample = sorted(rescued, key=lambda item: hashlib.sha256(f"{setup.seed}:{item}".encode()).digest())
    waiting = {item: rescued[item] for item in sample[: setup.rescued_answers]}
    for _ in range(1 + FURTHER):
        requests = [_request(setup, items[item], row, encoded) for item, row in waiting.items()]
        answer(setup.subject, requests, batch_size, setup.batch_sizer)
        for request in requests:
            if request.row["status"] == "ok":
                row = waiting[request.item.id]
                row["answer_text"], row["success_answer"] = request.row["answer_text"], request.row["success_answer"]
        wrong = [item for item, row in waiting.items() if row.get("success_answer") is False]
        waiting = {item: above for item in wrong if (above := _next(by_item[item], waiting[item])) is not None}


def _repairing(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The row of the least gain at which the answer comes first with content."""
    held = [row for row in rows if row["success_top1"] and not _without_content(row)]
    return min(held, key=lambda row: row["gain"], default=None)


def _without_content(row: Mapping[str, Any]) -> bool:
    return bool(has_content(*(row[name] for name in MEASURED_FOR_CONTENT)) == 0)


def _next(rows: list[dict[str, Any]], row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row of the next larger gain of the search that does not break the model."""
    above = [other for other in rows if other["gain"] > row["gain"] and not other["broken"]]
    return min(above, key=lambda other: other["gain"], default=None)


def _request(setup: MeasurementSetup, item: Item, row: Mapping[str, Any], encoded: EncodedDocuments) -> AnswerRequest:
    gains = torch.full((setup.subject.n_layers,), float(row["gain"]))
    blank = {"condition": row["condition"], "status": "ok"}
    return AnswerRequest(blank, item, item.question, encoded.adapters[item.document], gains)
