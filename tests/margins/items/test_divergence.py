"""Where two answers first differ, with tokenizers that treat spaces and word boundaries differently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from override_gap.margins.items.divergence import common_length, diverge, joined
from override_gap.margins.items.item import Item, ItemError

BOS = 1


def characters(text: str) -> list[int]:
    """One token per character."""
    return [ord(c) for c in text]


def with_bos(text: str) -> list[int]:
    return [BOS, *characters(text)]


def pairs(text: str) -> list[int]:
    """One token per two characters: an answer merges with the last letter of a question of odd length."""
    return [sum(ord(c) * 1000**i for i, c in enumerate(text[n : n + 2])) for n in range(0, len(text), 2)]


def spaced(text: str) -> list[int]:
    """One token per word with the space before it, as in GPT-2's and SmolLM2's tokenizers."""
    words, start = [], 0
    for n in range(1, len(text) + 1):
        if n == len(text) or text[n] == " ":
            words.append(text[start:n])
            start = n
    return [hash(word) % 10**9 for word in words]


TOKENIZERS = [characters, with_bos, pairs, spaced]


def item(
    question: str = "The capital of Peru is", answer: str = "Quito", prior: str | None = "Lima", split: str = "conflict"
) -> Item:
    return Item("c1", "p1", split, "A document.", question, answer, prior)


@pytest.mark.parametrize("tokenize", TOKENIZERS)
def test_the_divergence_is_the_first_difference(tokenize) -> None:
    divergence = diverge(tokenize, item())
    doc, pre = tokenize("The capital of Peru is Quito"), tokenize("The capital of Peru is Lima")
    assert list(divergence.tokens) == pre
    assert list(divergence.prefix) == doc[: divergence.at + 1] == pre[: divergence.at + 1]
    assert (divergence.doc, divergence.pre) == (doc[divergence.at + 1], pre[divergence.at + 1])
    assert divergence.doc != divergence.pre


def test_shared_answer_tokens_are_fed() -> None:
    divergence = diverge(spaced, item(answer="New Delhi", prior="New York"))
    assert divergence.at == divergence.start
    assert divergence.doc == spaced("x Delhi")[1]


UNKNOWN = 0


def known_words(text: str) -> list[int]:
    """One token per word of a vocabulary of four, another for all other words."""
    return [{"of": 1, "Peru": 2, "is": 3, "Lima": 4}.get(word, UNKNOWN) for word in text.split()]


def test_answers_that_the_tokenizer_does_not_know_are_called_so() -> None:
    unknown = item(answer="Qqy", prior="Zqx")
    with pytest.raises(ItemError, match="the tokenizer does not know these words: 'Zqx' and 'Qqy'"):
        diverge(known_words, unknown, unknown=UNKNOWN)
    with pytest.raises(ItemError, match="'LIMA' and 'Lima' are the same tokens"):
        diverge(lambda text: characters(text.casefold()), item(answer="Lima", prior="LIMA"), unknown=UNKNOWN)
    assert diverge(known_words, item(answer="Qqy"), unknown=UNKNOWN).doc == UNKNOWN


def test_bos_is_kept_in_front() -> None:
    assert diverge(with_bos, item()).tokens[0] == BOS


def test_an_answer_merged_with_the_question_is_read_where_it_first_differs() -> None:
    odd = item(question="Year: 19", answer="84", prior="85")
    divergence = diverge(pairs, Item(**{**vars(odd), "question": "Year 19 "}))
    assert divergence.at >= 0
    assert divergence.prefix == tuple(pairs("Year 19 84"))[: divergence.at + 1]


def bridging(text: str) -> list[int]:
    """One token per character, but 是雅 is one: the question's last character merges with one of the answers."""
    return characters(text.replace("是雅", "\ue000"))


def test_where_only_the_documents_answer_merges_the_old_answer_begins_behind_the_question() -> None:
    divergence = diverge(bridging, item("法国的首都是", "雅典", "巴黎"))
    assert divergence.tokens[divergence.start] == ord("巴")  # what a base that knows the capital emits first
    assert (divergence.pre, divergence.doc) == (ord("是"), 0xE000)
    assert divergence.prefix == tuple(characters("法国的首都"))
    merged = diverge(bridging, item("法国的首都是", "巴黎", "雅典"))
    assert (merged.tokens[merged.start], merged.doc) == (0xE000, ord("是"))
    assert divergence.asked == merged.asked == tuple(characters("法国的首都是"))


@pytest.mark.parametrize("tokenize", [*TOKENIZERS, bridging])
@pytest.mark.parametrize("split", ["conflict", "novel", "retention"])
def test_a_question_as_asked_is_the_question_tokenised_alone(tokenize, split: str) -> None:
    for question, answer, prior in (
        ("The capital of Peru is", "New Delhi", "New York"),
        ("Year 19 ", "84", "85"),
        ("其 法国的首都是", "雅典", "巴黎"),
        ("其 法国的首都是", "巴黎", "雅典"),
    ):
        assert diverge(tokenize, item(question, answer, prior, split)).asked == tuple(tokenize(question))


@pytest.mark.parametrize(
    ("answer", "prior", "message"),
    [
        ("Lima", "Lima", "same"),
        ("", "Lima", "empty answer"),
        ("  ", "Lima", "empty answer"),
        ("Lima Norte", "Lima", "prefix"),
        ("Lima", "Lima Norte", "prefix"),
        ("Quito", None, "needs prior_answer"),
    ],
)
def test_answers_without_a_differing_token_are_errors(answer: str, prior: str | None, message: str) -> None:
    with pytest.raises(ItemError, match=message):
        diverge(spaced, item(answer=answer, prior=prior))


def test_question_and_answer_are_joined_by_one_space() -> None:
    assert joined("a", "b") == "a b"
    assert joined("a ", "b") == "a b"
    assert joined("a", " b") == "a b"
    assert joined("<|assistant|>\n", "b", chat=True) == "<|assistant|>\nb"
    assert joined("<|assistant|>", "b", chat=True) == "<|assistant|>b"


WORDS = st.text("abcdef", min_size=1, max_size=6)
PHRASES = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)


@given(PHRASES, PHRASES, PHRASES, st.sampled_from(TOKENIZERS))
def test_the_prefix_is_shared_and_the_next_tokens_differ(question: str, answer: str, prior: str, tokenize) -> None:
    try:
        divergence = diverge(tokenize, item(question, answer, prior))
    except ItemError:
        doc, pre = tokenize(joined(question, answer)), tokenize(joined(question, prior))
        shared = common_length(doc, pre)
        alone = tokenize(question)
        assert shared in (len(doc), len(pre)) or shared == 0 or common_length(alone, doc) == 0
        return
    doc, pre = tokenize(joined(question, answer)), tokenize(joined(question, prior))
    assert doc[: divergence.at + 1] == pre[: divergence.at + 1]
    assert doc[divergence.at + 1] != pre[divergence.at + 1]
    assert divergence.start - 1 <= divergence.at


def test_both_answers_are_counted_in_tokens() -> None:
    divergence = diverge(spaced, item(answer="San Juan City", prior="Lima Norte"))
    assert (divergence.n_prior_tokens, divergence.n_answer_tokens) == (2, 3)
    novel = diverge(spaced, item(answer="San Juan", prior=None, split="novel"))
    assert (novel.n_prior_tokens, novel.n_answer_tokens) == (None, 2)
