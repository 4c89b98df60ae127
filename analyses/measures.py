"""Where the measures of success (margin, top1, answer) disagree, and why.

`top1` implies `margin`: a token above all others is above the old answer's. The rest may differ: a third token wins, or
the greedy answer starts with the document's answer and goes on to another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from override_gap.analyses.readings import DELIVERED, RunFrame, points_of, truth
from override_gap.analyses.results import ResultRows, ResultSection, row_text
from override_gap.analyses.stats.intervals import proportion
from override_gap.margins.items.matching import first_mention, words

COMPARED = ("margin", "top1", "answer")


def patterns(run: RunFrame, condition: str = DELIVERED) -> list[dict[str, Any]]:
    """Share of conflicts with each combination of successes, among those measured by every measure that the run has."""
    under = run.select("conflict", condition)
    points = points_of(under)
    columns = {name: truth(under[f"success_{name}"]) for name in COMPARED}
    columns = {name: column for name, column in columns.items() if not np.isnan(column).all()}
    if not columns:
        return []
    keep = ~np.any([np.isnan(column) for column in columns.values()], axis=0)
    if not keep.any():
        return []
    table = np.array([column[keep] for column in columns.values()])
    rows = []
    for pattern in np.unique(table, axis=1).T[::-1]:
        matches = (table == pattern[:, None]).all(axis=0).astype(float)
        cells: dict[str, bool | None] = dict.fromkeys(COMPARED)
        cells |= {name: bool(success) for name, success in zip(columns, pattern, strict=True)}
        share = proportion("pattern", matches, points[keep])
        rows.append({"condition": condition} | cells | {"count": int(matches.sum())} | share.as_json())
    return rows


def pairs(run: RunFrame) -> list[dict[str, Any]]:
    """Share of conflicts on which two measures disagree, per condition, and how many each of the two alone counts."""
    rows = []
    for condition in run.conditions:
        under = run.select("conflict", condition)
        points = points_of(under)
        for first, second in combinations(COMPARED, 2):
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


def disagreement(run: RunFrame) -> ResultSection | None:
    """The section ``measures`` of the summary; None where no conflict has two measures of success."""
    compared = pairs(run)
    if not compared:
        return None
    lines = tuple(row_text(row) for row in compared)
    content = {"patterns": patterns(run), "pairs": compared}
    return ResultSection("Conflicts on which two measures of success disagree", content, "pairs", lines)


KINDS = {
    "refusal": "the answer declines to answer",
    "repetition": "the answer repeats itself, or the question, instead of answering",
    "prior named first": "the answer names y_pre, in an accepted form, and y_doc later or never",
    "third token wins": "y_doc beats y_pre, but a third token is the arg max, and neither answer is named",
    "goes on otherwise": "the first token is that of y_doc, and the text goes on to something else",
    "alias": "the first token is not that of y_doc, and the text names y_doc all the same: an alias or a lead-in",
    "other": "none of these",
}
# How chat models decline, in the normal form of `margins.items.matching`; only the first words of an answer are searched.
REFUSALS = tuple(
    "i m sorry|i am sorry|i cannot|i can not|i can t|i m unable|i am unable|i don t know|i do not know|i m not able|"
    "i am not able|i don t have|i do not have|as an ai|i m not sure|i am not sure|it is not possible to|"
    "there is no information|not enough information|sorry but".split("|")
)
READ = (*(f"success_{name}" for name in COMPARED), "answer_text", "question", "prior_answer", "prior_aliases")
"""The columns that `kind` reads: records of all columns take ten times as long to make."""
WORDS_OF_AN_OPENING = 20
PERIOD = 4
REPEATS = 4


def disagreements(run: RunFrame) -> ResultRows:
    """How many of the n answered conflicts disagree in each way: one row per condition and kind, most frequent first.

    The measures disagree where margin, top1 and answer neither all succeed nor all fail; each such item has one kind.
    """
    result = []
    for condition in run.conditions:
        rows = run.select("conflict", condition)
        rows = rows[[name for name in READ if name in rows]]
        rows = rows[~np.isnan(truth(rows["success_answer"]))]
        kinds = [kind(row) for row in rows.to_dict("records")]
        counts = Counter(name for name in kinds if name is not None)
        for name in sorted(counts, key=lambda k: (-counts[k], list(KINDS).index(k))):
            result.append({"condition": condition, "kind": name, "count": counts[name], "n": len(rows)})
    return ResultRows("Why measures of success disagree", tuple(result))


def kind(row: Mapping[str, Any]) -> str | None:
    """Why an item's three measures disagree, the first of KINDS that fits; None where they agree."""
    margin, top1, answer = (bool(row[f"success_{name}"]) for name in ("margin", "top1", "answer"))
    if margin == top1 == answer:
        return None
    text, question, prior_answer = (stored_text(row.get(name)) for name in ("answer_text", "question", "prior_answer"))
    aliases = row.get("prior_aliases")  # absent from runs of earlier versions
    aliases = map(str, aliases) if isinstance(aliases, Sequence | np.ndarray) else ()
    prior = first_mention(text, [prior_answer, *aliases])
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


def stored_text(value: Any) -> str:
    """A text of the table, empty where none was stored (None or NaN)."""
    return value if isinstance(value, str) else ""


def refuses(text: str) -> bool:
    """Whether the text opens by declining to answer."""
    opening = f" {' '.join(words(text)[:WORDS_OF_AN_OPENING])} "
    return any(f" {phrase} " in opening for phrase in REFUSALS)


def repeats(text: str, question: str) -> bool:
    """Whether one to four words, or up to eight letters within a word, come four times in a row, or the text starts with the
    question."""
    if re.search(rf"([^\W\d_]{{1,8}}?)\1{{{REPEATS - 1}}}", text):
        return True
    text_words, question_words = words(text), words(question)
    if len(question_words) >= PERIOD and text_words[: len(question_words)] == question_words:
        return True
    line = " ".join(text_words)
    return re.search(rf"(?:^| )((?:\S+ ){{0,{PERIOD - 1}}}\S+)(?: \1){{{REPEATS - 1}}}(?: |$)", line) is not None
