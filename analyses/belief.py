"""Does the model believe what its document states, or only say it? Questions beside the conflicts, none of them in the verdict.

Four splits: *agreement* (the document states what the base holds), *reframed* (the conflict asked in another frame),
*consequence* (what follows from the document and a second fact), *negated* (is the old answer denied, the new one affirmed?).
Each is judged where it can be: where the base knows what the question needs, and where the conflict itself is won.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from override_gap.analyses.belief_questions import (
    ASKED,
    Question,
    answerable,
    judged_rows,
    questions_of,
    said_documents,
)
from override_gap.analyses.compare.conditions import compare
from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, points_of, success_rate, values
from override_gap.analyses.results import ResultSection, row_text
from override_gap.analyses.stats.intervals import mean
from override_gap.margins.condition_names import IN_CONTEXT, NULLS
from override_gap.margins.text import plural

YARDSTICKS = (BASE, *NULLS, IN_CONTEXT)
"""What own adapters are compared with: no adapter, adapters that cannot hold the answer, the document in the prompt."""


def belief(run: RunFrame) -> ResultSection | None:
    """The section ``belief`` of the summary; None where the run has no question of belief measured as delivered."""
    asked = [question for question in questions_of(run) if len(question.rows(run, DELIVERED))]
    if not asked:
        return None
    said = said_documents(run)
    able = [answerable(run, question) for question in asked]
    rows = [row for question in asked for row in _rows(run, question, said)]
    content = {
        "said": _said(run, said),
        "answerable": able,
        "rows": rows,
        "excluded": [_excluded(run, question, said) for question in asked],
        "sentences": _sentences(run, said, able, rows),
    }
    judged = [row for row in rows if row["population"] == "judged" and row["condition"] == DELIVERED]
    title = "Does the model believe it, or only say it?"
    return ResultSection(title, content, "rows", (*content["sentences"], *(row_text(row) for row in judged)))


def _rows(run: RunFrame, question: Question, said: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Success under every condition of all the questions and of those that are judged, and own minus the condition.

    The judged are chosen by what own adapters say, which favours these: `of_own_said` is the share among the questions
    that the condition's own successes would choose, and what own adapters' share compares with fairly.
    """
    keep = set(judged_rows(run, question, said)["item"])
    for population in ("all", "judged"):
        own = _of(question.rows(run, DELIVERED), population, keep)
        for condition in (DELIVERED, *YARDSTICKS):
            under = _of(question.rows(run, condition), population, keep)
            share = success_rate(under, question.measure)
            if not share.n:
                continue
            paired = None
            if condition != DELIVERED:
                paired = compare(own, under, (DELIVERED, condition), question.split, question.measure)
            chosen = None
            if population == "judged" and condition in (DELIVERED, IN_CONTEXT) and question.of_said:
                here = judged_rows(run, question, said_documents(run, condition), condition)
                chosen = success_rate(here, question.measure) if len(here) else None
            moved = mean("adapter_margin", values(under["adapter_margin"]), points_of(under), units="nats")
            yield {
                "split": question.split,
                "kind": question.kind,
                "condition": condition,
                "population": population,
                "measure": question.measure,
                **share.as_json(),
                "own_minus": None if paired is None else paired.difference.as_json(),
                "of_own_said": None if chosen is None else chosen.as_json(),
                "adapter_margin": None if condition == BASE else moved.as_json(),
            }


def _of(rows: Table, population: str, keep: set[str]) -> Table:
    return rows if population == "all" else rows[rows["item"].isin(keep)]


def _said(run: RunFrame, said: frozenset[str]) -> dict[str, Any]:
    """How many conflicting documents are said: their answer comes first, as delivered, to every conflict question.

    `adapter_margin` is the mean over their conflict questions, in nats: what margins at other questions compare with.
    """
    asked = run.select("conflict", DELIVERED)
    won = asked[asked["document"].isin(said)]
    moved = mean("adapter_margin", values(won["adapter_margin"]), points_of(won), units="nats")
    rows = asked.drop_duplicates("document")
    rows = rows.assign(success_top1=rows["document"].isin(said))
    share = success_rate(rows, "top1", "said")
    return {
        "documents": len(rows),
        "said": len(said),
        "share": share.as_json() if share.n else None,
        "adapter_margin": moved.as_json() if moved.n else None,
    }


def _excluded(run: RunFrame, question: Question, said: frozenset[str]) -> dict[str, Any]:
    """How many questions are left out of those judged, by the first reason that applies."""
    rows = question.rows(run, DELIVERED)
    left, reasons = rows, {}
    for reason, keep in question.conditions(run, said):
        reasons[reason] = len(left) - int(keep(left).sum())
        left = left[keep(left)]
    of_split = run.readings[(run.readings["split"] == question.split) & (run.readings["condition"] == DELIVERED)]
    unmeasured = int((of_split["status"] != "ok").sum())
    return {
        "split": question.split,
        "kind": question.kind,
        "n": len(rows),
        "judged": len(left),
        "reasons": [{"reason": reason, "n": n} for reason, n in reasons.items()],
        "unmeasured_in_split": unmeasured,
    }


def _sentences(
    run: RunFrame, said: frozenset[str], able: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> list[str]:
    """What this says, the base's own limits first."""
    sentences = [row["sentence"] for row in able if not row["can"]]
    documents = run.select("conflict", DELIVERED)["document"].nunique()
    if documents:
        sentences.append(
            f"Of {plural(documents, 'conflicting document')} {len(said)} are said: as delivered their answer comes first to "
            "every conflict question."
        )
    can = {(row["split"], row["kind"]): row["can"] for row in able}
    for row in rows:
        if row["condition"] == DELIVERED and row["population"] == "judged" and can[row["split"], row["kind"]]:
            sentences.append(f"{ASKED[row['split'], row['kind']].sentence}: {_share(row)}{_beside(rows, row)}.")
    return sentences


def _beside(rows: list[dict[str, Any]], own: dict[str, Any]) -> str:
    """The yardsticks on the same questions."""
    names = {BASE: "base", IN_CONTEXT: "the document in the prompt", **{name: name for name in NULLS}}
    alike = ("split", "kind", "population")
    others = [row for row in rows if all(row[k] == own[k] for k in alike) and row["condition"] != DELIVERED]
    texts = []
    for row in others:
        chosen = row["of_own_said"]
        more = (
            ""
            if chosen is None
            else f", {100 * chosen['value']:.0f}% of the {chosen['n']} where it says the conflict itself"
        )
        texts.append(f"{names[row['condition']]} {100 * row['value']:.0f}%{more}")
    return f" ({'; '.join(texts)})" if texts else ""


def _share(row: dict[str, Any]) -> str:
    interval = ""
    if row["low"] is not None and np.isfinite(row["low"]):
        interval = f" [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
    return f"{100 * row['value']:.0f}%{interval} of {row['n']} on {plural(row['points'], 'knowledge point')}"
