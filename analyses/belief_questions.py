"""Questions of belief by split and kind: which of them are judged, and whether the base can answer such questions at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, success_rate, truth, values
from override_gap.margins.text import plural

FEWEST = 10
"""So many questions that the base answers rightly (or half of them, where there are fewer than twice as many) are needed
before its adapters are judged on questions of that kind."""
PAIR = "pair"
"""Kind of a pair of yes-or-no questions, read together: is the new answer affirmed more than the old one?"""
OLD, NEW, DENIAL, SECOND = "old-answer", "new-answer", "denial", "second-fact"
ABOUT, THROUGH = "about-the-answer", "through-the-subject"
"""Consequences: the second fact is about the document's answer, or leads to the document's subject, which is not named."""
NAMED = (SECOND, ABOUT, THROUGH, OLD, NEW, DENIAL)
"""Kinds that are read apart from the others of their split."""

Keep = Callable[[Table], Any]


@dataclass(frozen=True)
class Question:
    """Questions of one split and kind. `measure` is that of success: among two answers (`margin`) or all tokens (`top1`)."""

    split: str
    kind: str
    sentence: str
    measure: str = "top1"

    @property
    def of_said(self) -> bool:
        """Whether such questions are judged only of documents that are said."""
        return self.split != "agreement" and self.kind != SECOND

    def rows(self, run: RunFrame, condition: str) -> Table:
        """The measured rows under a condition, sorted by item; of pairs one row each, named as its question on the old answer."""
        rows = run.select(self.split, condition)
        if self.kind == PAIR:
            return _pairs(rows)
        kinds = rows["kind"].fillna("")
        return rows[kinds == self.kind] if self.kind else rows[~kinds.isin(NAMED)]

    def conditions(self, run: RunFrame, said: frozenset[str]) -> list[tuple[str, Keep]]:
        """What a question must meet to be judged, each with the reason for which others are left out."""
        won = ("its conflict is not said as delivered", lambda rows: rows["document"].isin(said).to_numpy())
        if self.split == "agreement":
            return [("the base does not hold the answer", lambda rows: truth(rows["known"]) == 1.0)]
        if self.split == "consequence":
            if self.kind == SECOND:
                return [("the base does not know it", lambda rows: truth(rows["known"]) == 1.0)]
            known = known_items(run)
            needs = ("the base does not know the second fact", lambda rows: rows["needs"].isin(known).to_numpy())
            return [needs, won]
        return [won]


STEPS = ", of what is said, with a second fact that the base knows: it follows"
ASKED = {
    (question.split, question.kind): question
    for question in (
        Question("agreement", "", "Agreement, of what the base holds already: the answer stays"),
        Question("reframed", "", "Asked in another frame, of what is said: the document's answer comes first"),
        Question("consequence", ABOUT, f"A fact about the document's answer{STEPS}"),
        Question("consequence", THROUGH, f"The document's answer where its subject is not named{STEPS}"),
        Question("consequence", "", f"Consequences{STEPS}"),
        Question("consequence", SECOND, "The second fact itself, where the base knows it: it stays"),
        Question(
            "negated",
            DENIAL,
            "Denied as an unfinished sentence, of what is said: the old answer, not the new",
            "margin",
        ),
        Question(
            "negated", PAIR, "Yes-or-no questions, of what is said: the new answer is affirmed over the old", "margin"
        ),
        Question("negated", OLD, "Is it the old answer? Of what is said: No over Yes", "margin"),
        Question("negated", NEW, "Is it the new answer? Of what is said: Yes over No", "margin"),
    )
}
"""Every kind of question, in the order in which they are shown. Kind "": all of the split but those named."""


def questions_of(run: RunFrame) -> list[Question]:
    """The kinds of question that the run has measured under the base."""
    return [question for question in ASKED.values() if len(question.rows(run, BASE))]


def said_documents(run: RunFrame, condition: str = DELIVERED) -> frozenset[str]:
    """Documents whose answer comes first, as delivered or under another condition, to every conflict question about them."""
    rows = run.select("conflict", condition)
    won = pd.Series(truth(rows["success_top1"]) == 1.0).groupby(rows["document"].to_numpy()).all()
    return frozenset(str(text) for text, held in won.items() if held)


def known_items(run: RunFrame) -> set[str]:
    """Items whose right answer the base puts first."""
    rows = run.select("consequence", BASE, "known")
    return set(rows.loc[rows["kind"] == SECOND, "item"])


def judged_rows(run: RunFrame, question: Question, said: frozenset[str], condition: str = DELIVERED) -> Table:
    """The rows, as delivered or under another condition, that are judged where these documents are said."""
    rows = question.rows(run, condition)
    for _, keep in question.conditions(run, said):
        rows = rows[keep(rows)]
    return rows


def answerable(run: RunFrame, question: Question) -> dict[str, Any]:
    """Whether the base answers such questions itself, without a document: only then do they tell of an adapter.

    Where the answer is open, the base must put the right one first (the old one; of agreement and second facts the true one)
    on FEWEST questions, or on half of fewer. Between two answers, where a guess is right half the time, its share right must
    lie above one half, by the interval. A single yes-or-no question tells a leaning to yes or no, so it is never judged alone.
    """
    rows = question.rows(run, BASE)
    if question.measure == "margin":
        right = success_rate(rows.assign(success_margin=values(rows["prior_margin"]) > 0), "margin", "base right")
        can = bool(np.isfinite(right.low) and right.low > 0.5) and question.kind not in (OLD, NEW)
    else:
        right = success_rate(rows.assign(success_top1=rows["known"]), "top1", "base right")
        can = right.n > 0 and right.value * right.n >= min(FEWEST, right.n / 2)
    name = " ".join(part for part in (question.split, question.kind) if part)
    says = f"the base is right on {round(right.value * right.n) if right.n else 0} of {plural(right.n, 'question')}"
    if can:
        sentence = f"{name}: {says}, so they are judged."
    elif question.kind in (OLD, NEW):
        sentence = f"{name}: {says}; alone such a question tells a leaning to yes or to no, see the pairs."
    else:
        chance = "half of which a guess gets" if question.measure == "margin" else "too few to judge on"
        sentence = (
            f"The base cannot answer these: {name}, {says}, {chance}. What its adapters do there is no sign of belief."
        )
    return {
        "split": question.split,
        "kind": question.kind,
        "base_right": right.as_json(),
        "can": can,
        "sentence": sentence,
    }


def _pairs(rows: Table) -> Table:
    """One row per document asked about both answers: success where Yes leads No by more for the new answer than for the old.

    net_margin, prior_margin and adapter_margin are the sums of the two questions', in nats: the difference of the two leads.
    """
    old, new = (rows[rows["kind"] == kind].drop_duplicates("document").set_index("document") for kind in (OLD, NEW))
    both = old.index.intersection(new.index)
    pairs, new = old.loc[both].reset_index(), new.loc[both].reset_index()
    for name in ("net_margin", "prior_margin", "adapter_margin"):
        pairs[name] = values(pairs[name]) + values(new[name])
    pairs["success_margin"] = pairs["net_margin"] > 0
    pairs["success_top1"] = None
    return pairs.sort_values("item", kind="stable")
