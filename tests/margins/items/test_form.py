"""Whether a text asks, in several scripts."""

import pytest

from override_gap.margins.items.form import is_asked


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of Peru?",
        "What is the capital of Peru? ",
        "“What is the capital?”",
        "ペルーの首都は？",
        "ما هي عاصمة بيرو؟",
        "Ποια είναι η πρωτεύουσα;",
        "Ո՞րն է մայրաքաղաքը։ Ո՞րը",
        "የፔሩ ዋና ከተማ ምንድን ነው፧",
        "What is the capital of Peru? Answer:",
        "Q: What is the capital? A:",
        "秘鲁的首都是哪里？答：",
    ],
)
def test_questions(text):
    assert is_asked(text)


@pytest.mark.parametrize(
    "text",
    [
        "The capital of Peru is",
        "Who knows? The capital of Peru is",
        "Capital:",
        "He wrote; she",
        "x;",
        "",
        "?!x",
        "ペルーの首都は",
    ],
)
def test_unfinished_sentences(text):
    assert not is_asked(text)
