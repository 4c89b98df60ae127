"""The first answer of a generated text, by hand."""

from __future__ import annotations

import pytest

from override_gap.margins.items.first_answer import first_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" Tarnow, and it is the largest town.", "Tarnow"),
        ("\n\nTarnow.\nThe next question", "Tarnow"),
        (" J. R. Quell wrote it. It", "J. R. Quell wrote it"),
        (" St. Orle (on the sea)", "St. Orle"),
        (" 3.5 million tons. So", "3.5 million tons"),
        (" the year 1,000 or so!", "the year 1,000 or so"),
        (' "Ostravene" \u2013 a land', "Ostravene"),
        ("\u6771\u4eac\u3002\u5927\u962a\u3067\u3059", "\u6771\u4eac"),
        (
            " \u041c\u043e\u0441\u043a\u0432\u0430; \u0437\u0430\u0442\u0435\u043c",
            "\u041c\u043e\u0441\u043a\u0432\u0430",
        ),
        ("1. Tarnow\n2. Orle", "1. Tarnow"),
        (" C++ and C#. Also", "C++ and C#"),
        (" well-known Vond - a pilot", "well-known Vond"),
        (" red . The sea", "red"),
        ("  \n ", ""),
        ("...", ""),
        (", who was a pilot.", ""),
    ],
)
def test_the_answer_ends_where_a_line_a_sentence_or_a_clause_ends(text: str, answer: str) -> None:
    assert first_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("「東京」です。", "東京"),
        ("《红楼梦》。", "红楼梦"),
        ("ပါရီ။ ", "ပါရီ"),
        ("ប៉ារីស។ ទីក្រុង", "ប៉ារីស"),
        ("巴黎，法国", "巴黎"),
        ("巴黎（Paris），", "巴黎"),
        ("「パリ」（フランス）です", "パリ"),
        ("파리(Paris)입니다.", "파리"),
        ("f(x) = 2", "f(x) = 2"),
        ("पेरिस है।", "पेरिस"),
        ("پاریس است.", "پاریس"),
        ("Paris'tir.", "Paris"),
        ("г. Москва. Там", "г. Москва"),
        ('"Paris," he said', "Paris"),
        ("Answer: Paris", ""),
        ("答：巴黎", ""),
        ("Oslo: a town", "Oslo"),
        ("パリです。", "パリ"),
        ("「パリ」である。", "パリ"),
        ("東京だ。そして", "東京"),
        ("くだ。", "くだ"),
        ("です。", "です"),
        ("파리입니다.", "파리"),
        ("아이다.", "아이다"),
        ("서울이다.", "서울"),
        ("ปารีสครับ", "ปารีส"),
    ],
)
def test_brackets_and_stops_of_other_scripts(text: str, answer: str) -> None:
    assert first_answer(text) == answer
