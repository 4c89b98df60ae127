"""Belief against readings written by hand: what is said and judged, pairs of yes-or-no questions, and nothing else moves."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.belief import belief
from override_gap.analyses.readings import RunFrame
from override_gap.analyses.summary import summarise
from override_gap.probes.store.schema import READINGS
from tests.simulate import simulate_readings

CONDITIONS = ("base", "as-delivered", "in-context")


def row(item: str, split: str, condition: str, document: str, top1: bool | None, **more: Any) -> dict:
    """One row of readings; net_margin follows from prior and adapter margin, success from it where it is not given."""
    prior, moved = float(more.pop("prior", 1.0)), 0.0 if condition == "base" else float(more.pop("moved", 0.0))
    more.pop("moved", None)
    net = moved - prior
    return {
        "item": item, "point": document, "split": split, "condition": condition, "document": document, "status": "ok",
        "known": more.pop("known", None), "success_top1": net > 0 if top1 is None else top1, "success_margin": net > 0,
        "prior_margin": prior, "adapter_margin": moved, "net_margin": net, "push": moved, "pull": 0.0,
        "answer": "a", "prior_answer": "b", "question": "q", **more,
    }  # fmt: skip


def frame(rows: list[dict]) -> RunFrame:
    table = pd.DataFrame(rows)
    table = table.assign(**{name: None for name in READINGS.required if name not in table})
    return RunFrame({"conditions": list(CONDITIONS)}, table)


def questions(n: int = 12) -> list[dict]:
    """Documents 0 to n-1; those of even number are said. What else is right depends on the number; the tests state it."""
    rows = []
    for d in range(n):
        for condition in CONDITIONS:
            own, prompt = condition == "as-delivered", condition == "in-context"
            doc = f"d{d}"
            for wording in "ab":
                said = own and (d % 2 == 0 or wording == "a")
                moved = d if own else 0.0
                rows.append(row(f"c{d}{wording}", "conflict", condition, doc, said or prompt, known=True, moved=moved))
            rows.append(row(f"f{d}", "reframed", condition, doc, prompt or (own and d % 4 == 0), known=True))
            fact, kind = f"s{d}", "about-the-answer"
            follows = prompt or (own and d % 6 == 0)
            rows.append(row(f"q{d}", "consequence", condition, doc, follows, known=True, kind=kind, needs=fact))
            rows.append(row(fact, "consequence", condition, doc, True, known=d % 3 == 0, kind="second-fact"))
            kept = not (own and d == 1)
            rows.append(row(f"a{d}", "agreement", condition, f"true {d}", kept, known=d != 2))
            leads = {"prior": 2.0, "moved": 3.0 if own else 0.0}
            rows.append(row(f"n{d}o", "negated", condition, doc, None, kind="old-answer", known=True, **leads))
            leads = {"prior": -1.0, "moved": -2.5 if own and d % 4 else 0.0}
            rows.append(row(f"n{d}n", "negated", condition, doc, None, kind="new-answer", known=False, **leads))
    return rows


def section_of(rows: list[dict]) -> dict:
    section = belief(frame(rows))
    assert section is not None
    return section.as_json()


def found(
    section: dict, split: str, kind: str = "", condition: str = "as-delivered", population: str = "judged"
) -> dict:
    [match] = [
        r
        for r in section["rows"]
        if (r["split"], r["kind"], r["condition"], r["population"]) == (split, kind, condition, population)
    ]
    return match


def test_what_is_judged_and_what_is_right_by_hand() -> None:
    section = section_of(questions())
    assert (section["said"]["said"], section["said"]["documents"]) == (6, 12)
    assert section["said"]["adapter_margin"]["value"] == 5.0  # the mean of these six, twice each
    # said: 0, 2, 4, 6, 8, 10; in another frame 0, 4, 8 are right
    assert (found(section, "reframed")["value"], found(section, "reframed")["n"]) == (0.5, 6)
    assert found(section, "reframed", condition="in-context")["value"] == 1.0
    assert found(section, "reframed", condition="in-context")["own_minus"]["value"] == -0.5
    # the prompt says all 12 documents itself, of which the adapter says 6
    assert found(section, "reframed", condition="in-context")["of_own_said"]["n"] == 12
    assert found(section, "reframed")["of_own_said"]["n"] == 6
    # second fact known: 0, 3, 6, 9; of these said: 0, 6; both follow
    assert (
        found(section, "consequence", "about-the-answer")["value"],
        found(section, "consequence", "about-the-answer")["n"],
    ) == (1.0, 2)
    assert found(section, "consequence", "about-the-answer", population="all")["value"] == pytest.approx(2 / 12)
    # agreement: the base holds all but document 2, and 1 of these 11 is lost
    assert (found(section, "agreement")["value"], found(section, "agreement")["n"]) == (pytest.approx(10 / 11), 11)
    # pairs: base -2 + 1 = -1 nats; own -1 + 3 = 2 where d is a multiple of 4 (0, 4, 8), else 2 - 2.5 = -0.5 (2, 6, 10)
    assert found(section, "negated", "pair")["value"] == 0.5
    assert found(section, "negated", "pair", "base")["value"] == 0.0
    assert found(section, "negated", "pair")["adapter_margin"]["value"] == pytest.approx((3 * 3 + 3 * 0.5) / 6)
    excluded = {(r["split"], r["kind"]): r for r in section["excluded"]}
    assert [r["n"] for r in excluded["consequence", "about-the-answer"]["reasons"]] == [8, 2]


def test_the_base_must_be_able_to_answer() -> None:
    section = section_of(questions())
    can = {(r["split"], r["kind"]): r["can"] for r in section["answerable"]}
    assert can["negated", "pair"]  # Yes leads No by more for the old answer, in all 12 pairs
    assert not can["negated", "old-answer"]
    assert not can["negated", "new-answer"]
    assert not can["consequence", "second-fact"]  # 4 of 12 are known
    rows = [r for r in questions() if r["split"] in ("conflict", "negated")]
    for r in rows:
        if r["split"] == "negated" and r["kind"] == "old-answer" and int(r["document"][1:]) % 2:
            r["prior_margin"], r["net_margin"] = -3.0, r["adapter_margin"] + 3.0
    section = section_of(rows)
    [pair] = [r for r in section["answerable"] if r["kind"] == "pair"]
    assert not pair["can"]
    assert pair["base_right"]["value"] == 0.5
    assert any("cannot answer" in s and "pair" in s for s in section["sentences"])


def test_a_run_without_such_questions_has_no_section() -> None:
    rows = [r for r in questions() if r["split"] == "conflict"]
    assert belief(frame(rows)) is None


def test_no_other_number_of_the_summary_moves() -> None:
    """The verdict, hypotheses, searches and prices of a run are the same with questions of belief in it."""
    run = simulate_readings(seed=3, points=8, conditions=("base", "as-delivered"))
    before = summarise(run)
    added = pd.DataFrame(questions())
    added = added[added["condition"].isin(["base", "as-delivered"]) & (added["split"] != "conflict")]
    both = pd.concat([run.readings, added], ignore_index=True)
    after = summarise(RunFrame(run.manifest, both, run.layers, run.drawn, run.search))
    assert after.pop("belief") is not None
    assert before.pop("belief") is None
    before["notes"].pop("belief")
    for summary in (before, after):
        summary.pop("items")  # how many there are is told
    assert json.dumps(after, sort_keys=True) == json.dumps(before, sort_keys=True)


def test_the_interval_allows_for_shared_knowledge_points() -> None:
    rows = [r for r in questions(24) if r["split"] in ("conflict", "reframed")]
    once = section_of(rows)
    copies = [r | {"item": f"{r['item']}-{k}"} for r in rows if r["split"] == "reframed" for k in range(3)]
    four = section_of(rows + copies)
    one, many = found(once, "reframed"), found(four, "reframed")
    assert many["n"] == 4 * one["n"]
    assert many["high"] - many["low"] == pytest.approx(one["high"] - one["low"], rel=0.05)
    assert np.isfinite(one["low"])
