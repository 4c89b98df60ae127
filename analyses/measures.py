"""Which measures of success hold together, and where two of them disagree.

`top1` implies `margin`: a token above all others is above the prior answer's. All else may differ: a third token wins,
or the greedy answer goes on otherwise than it began.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from override_gap.analyses.readings import DELIVERED, RunFrame, truth
from override_gap.analyses.stats.intervals import proportion
from override_gap.margins.items.matching import first_mention, words

SHOWN = ("margin", "top1", "answer")


def patterns(run: RunFrame, condition: str = DELIVERED) -> list[dict[str, Any]]:
    """Share of conflicts with each combination of the measures that were taken, among those with all of them."""
    under = run.select("conflict", condition)
    points = under["point"].to_numpy(dtype=object)
    held = {name: truth(under[f"success_{name}"]) for name in SHOWN}
    held = {name: column for name, column in held.items() if not np.isnan(column).all()}
    if not held:
        return []
    keep = ~np.any([np.isnan(column) for column in held.values()], axis=0)
    if not keep.any():
        return []
    table = np.array([column[keep] for column in held.values()])
    rows = []
    for wanted in np.unique(table, axis=1).T[::-1]:
        here = (table == wanted[:, None]).all(axis=0).astype(float)
        cells: dict[str, bool | None] = dict.fromkeys(SHOWN)
        cells |= {name: bool(one) for name, one in zip(held, wanted, strict=True)}
        share = proportion("pattern", here, points[keep])
        rows.append({"condition": condition} | cells | {"count": int(here.sum())} | share.as_json())
    return rows


def pairs(run: RunFrame) -> list[dict[str, Any]]:
    """Share of conflicts on which two measures disagree, per condition; how many each of the two alone counts."""
    rows = []
    for condition in run.conditions:
        under = run.select("conflict", condition)
        points = under["point"].to_numpy(dtype=object)
        for first, second in combinations(SHOWN, 2):
            a, b = truth(under[f"success_{first}"]), truth(under[f"success_{second}"])
            keep = ~np.isnan(a) & ~np.isnan(b)
            if not keep.any():
                continue
            a, b = a[keep], b[keep]
            share = proportion("disagreement", (a != b).astype(float), points[keep])
            rows.append(
                {"condition": condition, "first": first, "second": second}
                | {"first_only": int((a > b).sum()), "second_only": int((b > a).sum())}
                | share.as_json()
            )
    return rows


def disagreement(run: RunFrame) -> dict[str, Any] | None:
    """The section ``measures`` of the summary; None where fewer than two measures were taken on any conflict."""
    compared = pairs(run)
    return {"patterns": patterns(run), "pairs": compared} if compared else None


KINDS = {
    "refusal": "the answer declines to answer",
    "repetition": "the answer repeats itself, or the question, instead of answering",
    "prior named first": "the answer names y_pre, in an accepted form, and y_doc later or never",
    "third token wins": "y_doc beats y_pre, but a third token is the arg max, and neither answer is named",
    "goes on otherwise": "the first token is that of y_doc, and the text goes on to something else",
    "alias": "the first token is not that of y_doc, and the text names y_doc all the same: an alias or a lead-in",
    "other": "none of these",
}
# Openings by which chat models decline, in the normal form of `margins.items.matching`; only the first words are searched.
REFUSALS = tuple(
    "i m sorry|i am sorry|i cannot|i can not|i can t|i m unable|i am unable|i don t know|i do not know|i m not able|"
    "i am not able|i don t have|i do not have|as an ai|i m not sure|i am not sure|it is not possible to|"
    "there is no information|not enough information|sorry but".split("|")
)
WORDS_OF_AN_OPENING = 20
PERIOD = 4
REPEATS = 4


def disagreements(run: RunFrame) -> list[dict[str, Any]]:
    """One row a condition and kind that occurs, most frequent first: how many of its n answered conflicts part so.

    An item parts where margin, top1 and answer are not all won or all lost; each such item has exactly one kind.
    """
    found = []
    for condition in run.conditions:
        rows = run.select("conflict", condition)
        rows = rows[~np.isnan(truth(rows["success_answer"]))]
        kinds = [kind(row) for row in rows.to_dict("records")]
        parted = [name for name in kinds if name is not None]
        for name in sorted(set(parted), key=lambda k: (-parted.count(k), list(KINDS).index(k))):
            found.append({"condition": condition, "kind": name, "count": parted.count(name), "n": len(rows)})
    return found


def kind(row: Mapping[str, Any]) -> str | None:
    """Why an item's three measures part; None where they agree. The first of KINDS that fits."""
    margin, top1, answer = (bool(row[f"success_{name}"]) for name in ("margin", "top1", "answer"))
    if margin == top1 == answer:
        return None
    text, question, prior_answer = (_text(row.get(name)) for name in ("answer_text", "question", "prior_answer"))
    also = row.get("prior_aliases")  # absent from runs of earlier versions
    prior = first_mention(text, [prior_answer, *(map(str, also) if isinstance(also, Sequence | np.ndarray) else ())])
    if not answer and refuses(text):
        return "refusal"
    if not answer and prior is not None:
        return "prior named first"
    if not answer and repeats(text, question):
        return "repetition"
    if top1 and not answer:
        return "goes on otherwise"
    if answer and not top1:
        return "alias"
    if margin and not top1:
        return "third token wins"
    return "other"


def _text(value: Any) -> str:
    """A stored text; what was not stored comes back from the table as None or NaN."""
    return value if isinstance(value, str) else ""


def refuses(text: str) -> bool:
    """Whether the text opens by declining to answer."""
    opening = f" {' '.join(words(text)[:WORDS_OF_AN_OPENING])} "
    return any(f" {phrase} " in opening for phrase in REFUSALS)


def repeats(text: str, question: str) -> bool:
    """Whether one to four words, or some letters within a word, come four times in a row, or the text starts by saying the
    question again."""
    if re.search(rf"([^\W\d_]{{1,8}}?)\1{{{REPEATS - 1}}}", text):
        return True
    said, asked = words(text), words(question)
    if len(asked) >= PERIOD and said[: len(asked)] == asked:
        return True
    line = " ".join(said)
    return re.search(rf"(?:^| )((?:\S+ ){{0,{PERIOD - 1}}}\S+)(?: \1){{{REPEATS - 1}}}(?: |$)", line) is not None
