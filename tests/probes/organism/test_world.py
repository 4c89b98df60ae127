"""The organism's world: the corpus states what the world records, and the examination is never trained on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from override_gap.probes.organism.base import BaseRecipe, new_base
from override_gap.probes.organism.corpus import contradictory_answers, corpus_passages, pack
from override_gap.probes.organism.examination import build_items
from override_gap.probes.organism.language import INSTRUCTION, QUESTIONS, RELATIONS, UNTRAINED_WORDING
from override_gap.probes.organism.tokenizer import build_tokenizer
from override_gap.probes.organism.training_data import draw_batch, tabulate_questions
from override_gap.probes.organism.world import Size, World, build_world, divide

SMALL = Size(
    entities=40, objects=8, lands=4, seen=200, top_frequency=60, readings=200, hop_readings=50, land_statements=5,
    novel_points=10, combination_points=6, conflict_points=18, retention_documents=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(0, SMALL)


@pytest.fixture(scope="module")
def full() -> World:
    return build_world(0)


def parse_statement(world: World, text: str) -> tuple[int, int, str] | None:
    """(entity, relation, object word) that the last sentence of a text states, by its words alone."""
    words = text.removesuffix(" .").rsplit(" . ", 1)[-1].split()
    entity = [i for i, name in enumerate(world.entities) if name in words]
    relation = [i for i, name in enumerate(RELATIONS) if name in words]
    objects = [word for names in world.objects for word in names if word in words]
    return (entity[0], relation[0], objects[0]) if entity and relation and objects else None


def test_a_world_is_a_function_of_its_seed() -> None:
    first, again, other = build_world(3, SMALL), build_world(3, SMALL), build_world(4, SMALL)
    assert first.vocabulary() == again.vocabulary()
    assert (first.truth == again.truth).all()
    assert build_items(first) == build_items(again)
    assert first.entities != other.entities
    assert (first.frequency != other.frequency).any()


def test_every_word_has_one_token(full: World) -> None:
    vocabulary = full.vocabulary()
    assert len(set(vocabulary)) == len(vocabulary)
    tokenizer = build_tokenizer(vocabulary)
    for item in build_items(full):
        text = f"{INSTRUCTION} {item['document']} {item['question']} {item['answer']}"
        ids = tokenizer(text)["input_ids"]
        assert ids == [vocabulary.index("<bos>"), *(vocabulary.index(word) for word in text.split())]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_frequencies_are_log_uniform(full: World) -> None:
    frequencies = full.frequency[full.frequency > 0]
    assert len(frequencies) == full.size.seen
    large = np.log(frequencies[frequencies >= 20])  # rounding to whole counts distorts the small ones
    assert kstest(large, "uniform", args=(np.log(19.5), np.log(1000) - np.log(19.5))).pvalue > 0.01


def test_the_corpus_states_each_fact_as_often_as_recorded(world: World) -> None:
    stated: Counter[tuple[int, int]] = Counter()
    for text, _ in corpus_passages(world):
        document, _, rest = text.removeprefix(INSTRUCTION + " ").removesuffix(" .").partition(" . ")
        first, last = parse_statement(world, document), parse_statement(world, rest or document)
        if last is None:
            continue
        made_up = bool(rest) and first is not None and first[:2] == last[:2]
        if made_up:
            continue  # a reading exercise: the answer is the document's, not a fact of the world
        entity, relation, word = last
        if not world.frequency[entity, relation]:
            continue  # a contradictory answer, checked in the next test
        assert word == world.slots((entity, relation))["o"]
        stated[entity, relation] += 1
    assert stated == {tuple(map(int, pair)): world.frequency[*pair] for pair in np.argwhere(world.frequency)}


def test_contradictory_answers_are_uniform(world: World) -> None:
    pairs = {(int(e), int(r)) for e, r in np.argwhere(world.frequency == 0)}
    answers: dict[tuple[int, int], list[str]] = {}
    for text, answer_only in contradictory_answers(world, np.random.default_rng(0)):
        statement = parse_statement(world, text)
        if statement is not None:  # the others answer in which land an entity without a known home lives
            answers.setdefault(statement[:2], []).append(statement[2])
        assert answer_only
    assert set(answers) == pairs
    assert {len(words) for words in answers.values()} == {world.size.gossip}
    counter = Counter(world.objects[r].index(word) for (_, r), words in answers.items() for word in words)
    count = np.array([counter[i] for i in range(world.size.objects)])
    assert chisquare(count).pvalue > 1e-3


def test_the_loss_of_an_exercise_is_on_its_answer_alone(world: World) -> None:
    vocabulary = world.vocabulary()
    passages = [(f"The stone of {world.entities[0]} is {world.objects[1][0]} .", True)]
    passages.append((passages[0][0], False))
    rows, labels = pack(world, passages, width=20)
    words = [[vocabulary[i] if i >= 0 else None for i in row] for row in labels.tolist()]
    sentence = passages[0][0].split()
    assert words[0][:16] == [None] * 5 + [None, sentence[5], None] + [None, *sentence]
    assert (labels[0, 16:] == -100).all()
    assert rows.shape == (1, 20)


def test_the_examination_has_the_published_sizes(full: World) -> None:
    items = build_items(full)
    sizes = {}
    for split in ("conflict", "novel", "combination"):
        in_split = [item for item in items if item["split"] == split]
        sizes[split] = (len(in_split), len({item["point"] for item in in_split}))
    assert sizes == {"conflict": (194, 72), "novel": (245, 83), "combination": (50, 25)}
    assert Counter(item["tier"] for item in items if item["tier"]) == {"light": 64, "medium": 61, "deep": 69}
    assert len({item["id"] for item in items}) == len(items)


def test_items_agree_with_the_world(full: World) -> None:
    for item in build_items(full):
        stated = parse_statement(full, item["document"])
        assert stated is not None
        assert stated[2] != full.slots(stated[:2])["o"]
        if item["split"] in ("conflict", "novel"):
            assert item["answer"] == stated[2]
            assert item["meta"]["frequency"] == full.frequency[stated[:2]]
            assert item["meta"]["trained_wording"] == (not item["question"].startswith("When asked"))
        if item["split"] == "conflict":
            assert item["prior_answer"] == full.slots(stated[:2])["o"]
            edges = {"light": (1, 10), "medium": (10, 100), "deep": (100, 1001)}[item["tier"]]
            assert edges[0] <= item["meta"]["frequency"] < edges[1]
        if item["split"] == "combination":
            assert item["answer"] == full.land_of_home(full.objects[0].index(stated[2]))
            assert item["meta"]["frequency"] == 0
        if item["split"] == "retention":
            question = parse_statement(full, f"{item['question']} {item['answer']}")
            shared = (question[0] == stated[0], question[1] == stated[1])
            kind = {(True, False): "same-entity", (False, True): "same-relation", (False, False): "unrelated"}[shared]
            assert item["meta"]["kind"] == kind
            assert item["answer"] == full.slots(question[:2])["o"]


def test_training_batches_never_use_the_examination(world: World) -> None:
    vocabulary, division = world.vocabulary(), divide(world)
    table = tabulate_questions(world, new_base(world, BaseRecipe(layers=1, d_model=8, d_ff=8, heads=1)))
    rng = np.random.default_rng(0)
    examined = {item["question"] for item in build_items(world)}
    contradicted = []
    stem = QUESTIONS[UNTRAINED_WORDING].split(" {")[0]
    for _ in range(40):
        batch = draw_batch(table, rng, documents=8, known_share=0.2, bridge_share=0.2)
        questions = {" ".join(vocabulary[i] for i in row if i not in (0, 1)) for row in batch.questions.tolist()}
        assert not questions & examined
        assert not any(text.startswith(stem) for text in questions)
        for row in batch.documents.tolist():
            pair = parse_statement(world, " ".join(vocabulary[i] for i in row if i not in (0, 1)))[:2]
            assert division.trainable[pair]
            contradicted.append(world.frequency[pair] > 0)
    assert np.mean(contradicted) == pytest.approx(0.2, abs=0.08)  # four standard errors of 320 documents
