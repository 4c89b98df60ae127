"""A linter for the starter items, read with plain json so that it does not depend on the reader of items."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path

import pytest

from tests.lint import holds, n_sentences, shared_run, words

DATA = Path(__file__).parents[3] / "margins" / "data" / "starter.jsonl"
FIELDS = {
    "id", "point", "split", "tier", "document", "question", "answer", "prior_answer", "aliases", "prior_aliases", "chat", "meta",
}  # fmt: skip
KINDS = {"same-subject", "same-relation", "unrelated"}
# relations whose tier is a rule on the population of the country: (least, below) in people
POPULATION_TIERS = {"light": (0, 3e6), "medium": (3e6, 50e6), "deep": (50e6, float("inf"))}
POPULATION_RELATIONS = {"capital", "currency", "language", "continent"}


def items() -> list[dict]:
    """Every line of the file as JSON; a blank or broken line raises."""
    return [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]


def defects(item: dict) -> list[str]:
    """The rules of the datasheet that one item breaks."""
    broken = []
    if set(item) != FIELDS:
        return ["fields"]
    texts = [item[name] for name in ("id", "point", "document", "question", "answer")]
    if any(not text or text != text.strip() for text in texts):
        broken.append("empty or padded text")
    if item["chat"] is not False:
        broken.append("chat")
    if not 1 <= n_sentences(item["document"]) <= 3:
        broken.append("document length")
    if item["question"] in item["document"] or shared_run(item["question"], item["document"]) > 6:
        broken.append("question worded as the document")
    accepted = [item["answer"], *item["aliases"]]
    priors = [text for text in [item["prior_answer"], *item["prior_aliases"]] if text]
    if any(holds(item["question"], text) for text in accepted + priors):
        broken.append("answer in question")
    if item["split"] in ("conflict", "novel") and not holds(item["document"], item["answer"]):
        broken.append("answer not in document")
    if item["split"] == "conflict":
        broken += conflict_defects(item, priors)
    elif item["prior_answer"] is not None or item["prior_aliases"] or item["tier"] is not None:
        broken.append("prior or tier outside conflicts")
    if item["split"] == "retention" and item["meta"].get("kind") not in KINDS:
        broken.append("retention kind")
    if item["split"] == "retention" and holds(item["document"], item["answer"]):
        broken.append("retention answer in document")
    return broken


def conflict_defects(item: dict, priors: list[str]) -> list[str]:
    """The rules that hold for conflicts only."""
    broken = []
    if not item["prior_answer"] or item["tier"] not in POPULATION_TIERS:
        return ["no prior or tier"]
    if any(holds(item["document"], text) for text in priors):
        broken.append("prior in document")
    stated, true = item["answer"].casefold(), item["prior_answer"].casefold()
    if stated[:3] == true[:3] or set(words(stated)) & set(words(true)):
        broken.append("answers share their start or a word")
    if item["answer"][0].isupper() != item["prior_answer"][0].isupper():
        broken.append("answers of another case")
    meta = item["meta"]
    if not meta.get("grounds") or meta.get("wording") not in (1, 2):
        broken.append("grounds or wording")
    if meta.get("relation") in POPULATION_RELATIONS:
        least, below = POPULATION_TIERS[item["tier"]]
        if not least <= meta.get("population", -1) < below:
            broken.append("tier against population")
    return broken


def test_every_item_keeps_the_rules() -> None:
    broken = {item["id"]: defects(item) for item in items() if defects(item)}
    assert not broken


def test_ids_and_questions_are_unique() -> None:
    everything = items()
    assert max(Counter(item["id"] for item in everything).values()) == 1
    assert max(Counter((item["document"], item["question"]) for item in everything).values()) == 1


def test_counts() -> None:
    everything = items()
    by_split = Counter(item["split"] for item in everything)
    assert by_split == {"conflict": 138, "novel": 30, "retention": 40}
    conflicts = [item for item in everything if item["split"] == "conflict"]
    tiers = {item["point"]: item["tier"] for item in conflicts}
    assert Counter(tiers.values()) == {"light": 24, "medium": 24, "deep": 24}
    wordings = Counter(item["point"] for item in conflicts)
    assert sum(n == 2 for n in wordings.values()) >= 40
    kinds = Counter(item["meta"]["kind"] for item in everything if item["split"] == "retention")
    assert set(kinds) == KINDS
    assert min(kinds.values()) >= 12


def test_a_point_is_one_fact() -> None:
    """Wordings of a conflict agree in all but id, question and wording number; numbers run 1, 2."""
    points: dict[str, list[dict]] = {}
    for item in items():
        if item["split"] == "conflict":
            points.setdefault(item["point"], []).append(item)
    for point, group in points.items():
        assert [item["meta"]["wording"] for item in group] == list(range(1, len(group) + 1)), point
        assert [item["id"] for item in group] == [f"{point}-{n}" for n in range(1, len(group) + 1)]
        facts = {(i["document"], i["answer"], i["prior_answer"], i["tier"], i["meta"]["grounds"]) for i in group}
        assert len(facts) == 1, point


def test_retention_items_have_the_document_of_a_conflict() -> None:
    conflicts = {item["point"]: item for item in items() if item["split"] == "conflict"}
    for item in items():
        if item["split"] == "retention":
            conflict = conflicts[item["point"]]
            assert item["document"] == conflict["document"], item["id"]
            # else keeping the base's answer here would be the failure that the conflict measures
            assert item["answer"] not in (conflict["answer"], conflict["prior_answer"]), item["id"]


BREAKS = [
    ("prior in document", lambda i: i.update(document=i["document"] + f" It was {i['prior_answer']} before.")),
    ("answer not in document", lambda i: i.update(document="Nothing is said here.")),
    ("answer in question", lambda i: i.update(question=f"Is it {i['answer']}? It is")),
    ("answers share their start or a word", lambda i: i.update(answer=i["prior_answer"][:3] + "x")),
    ("tier against population", lambda i: i.update(tier="light")),
    ("grounds or wording", lambda i: i["meta"].pop("grounds")),
    ("question worded as the document", lambda i: i.update(question=i["document"][:60].rsplit(" ", 1)[0])),
    ("fields", lambda i: i.pop("chat")),
]


@pytest.mark.parametrize(("rule", "damage"), BREAKS, ids=[rule for rule, _ in BREAKS])
def test_the_linter_finds_a_planted_defect(rule: str, damage) -> None:
    item = copy.deepcopy(next(item for item in items() if item["id"] == "c-france-capital-1"))
    assert defects(item) == []
    damage(item)
    assert rule in defects(item)
