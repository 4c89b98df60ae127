"""docs/answers.md states when a text counts as an answer; every row of its table is checked here."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from override_gap.margins.items.item import Item
from override_gap.margins.items.matching import first_mention, says, says_substring, why_not_judged, words
from override_gap.margins.items.scripts import has_unspaced
from override_gap.margins.items.text_notes import text_notes

PAGE = (Path(__file__).parents[3] / "docs" / "answers.md").read_text(encoding="utf-8")


def written(cell: str) -> str:
    """A cell with its escapes as characters: what shows nothing cannot be seen on the page."""
    return re.sub(r"\\u([0-9a-f]{4})", lambda code: chr(int(code[1], 16)), cell)


def rows() -> list[list[str]]:
    """The cells of the page's table of examples."""
    lines = [line for line in PAGE.split("\n") if line.startswith("|")]
    cells = [[written(cell.strip()) for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == 6 and row[3] in ("yes", "no")]


def test_the_page_has_examples() -> None:
    assert len(rows()) >= 110
    scripts = {unicodedata.name(c).split(" ")[0] for row in rows() for cell in row[:3] for c in cell if c.isalpha()}
    assert len(scripts) >= 14, scripts
    assert {row[3] for row in rows()} == {row[4] for row in rows()} == {"yes", "no"}


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}-{row[1]}")
def test_every_example_of_the_page_is_judged_as_it_says(row: list[str]) -> None:
    text, doc, pre = row[0], row[1].split("; "), row[2].split("; ")
    item = Item("i", "p", "conflict", "d", "q", doc[0], pre[0], aliases=tuple(doc[1:]), prior_aliases=tuple(pre[1:]))
    assert says(text, item) is (row[3] == "yes")
    assert says_substring(text, item) is (row[4] == "yes")


def test_mentions_are_counted_in_words() -> None:
    mention = first_mention("x y C++", ["C++", "z"])
    assert mention is not None
    assert mention.start == 2
    assert first_mention("the artist", ["art"]) is None
    assert first_mention("anything", ["", " ", "!"]) is None
    mention = first_mention("x y €.", ["€", "z"])
    assert mention is not None
    assert (mention.start, mention.minus_length) == (2, -1)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("three hundred thousand", ["300000"]),
        ("ninety ninety-nine ninety ten", ["90", "99", "90", "10"]),
        ("Lyon.But", ["lyon", "but"]),
        ("J.R.R. Tolkien's", ["jrr", "tolkien", "s"]),
        ("1,00 1,000,000 12,2000", ["1", "00", "1000000", "12", "2000"]),
        ("3.0 0.50 1.2.3", ["3", "0.5", "1.2.3"]),
        ("İstanbul ΆΛΦΑ", ["istanbul", "αλφα"]),
        ("๒๕๔๐ ໒໐ ១២ ၁၂ ۱۲ १२ ১২ １２", ["2540", "20", "12", "12", "12", "12", "12", "12"]),
        ("กี่ปี", ["กี่", "ปี"]),  # a vowel sign is part of its consonant
        ("一九四五年 三百零六 十分 千万 三百五", ["1945", "年", "306", "十", "分", "千", "万", "三", "百", "五"]),
        ("১২,৩৪,৫৬৭ ١٢٫٥ 1’000", ["1234567", "12.5", "1000"]),
        ("می‌خواهم Mu\u00adnich a\u200bb", ["ميخواهم", "munich", "a", "b"]),
        ("col·legi l·m", ["collegi", "l", "m"]),
        ("Ŀ ŋ ə", ["l", "ŋ", "ə"]),
    ],
)
def test_normal_form(text: str, wanted: list[str]) -> None:
    assert words(text) == wanted


def test_normal_form_is_its_own_normal_form() -> None:
    for row in rows():
        for text in row[:3]:
            once = words(text)
            assert words(" ".join(once)) == once or has_unspaced(text) or any(c >= "\uac00" for c in text)


def judged(answer: str, prior: str) -> Item:
    return Item("i", "p", "conflict", "d", "q", answer, prior)


@pytest.mark.parametrize("sign", ["€", "+", "%", "&", "=", "@", "😀", "👩‍🔬", "🇫🇷", "!!!", "→", "♯", "№"])
def test_an_answer_that_is_a_sign_is_counted_by_the_sign(sign: str) -> None:
    item = judged(sign, "Lyon")
    assert says(f"The mark is {sign}", item)
    assert says(f"The mark is {sign}, not Lyon.", item)
    assert not says(f"The mark is Lyon, not {sign}", item)
    assert not says("The mark is that of Paris. It is.", item)
    assert says(f"It was {sign}; ", judged(sign, "$"))


def test_punctuation_of_a_sentence_is_no_answer() -> None:
    assert not says("The mark is known.", judged(".", "!"))
    assert says('The mark is "."', judged(".", "!"))
    assert not says("is it well-known?", judged("-", "+"))
    assert says("it is -", judged("-", "+"))
    assert not says("标记是这个。", judged("。", "！"))


@pytest.mark.parametrize(
    ("answer", "prior"), [("Paris", "paris"), ("1,000", "1000"), ("seven", "7"), ("U.S.", "US"), ("Lyon.", "Lyon")]
)
def test_what_no_text_can_be_judged_by_is_said(answer: str, prior: str) -> None:
    assert why_not_judged(judged(answer, prior)) is not None
    notes = text_notes([judged(answer, prior), judged("Lyon", "Paris")])
    assert len(notes) == 1
    assert "cannot be judged in words" in notes[0]
    assert "1 of 2" in notes[0]


@pytest.mark.parametrize(
    ("answer", "prior"),
    [("pâté", "pate"), ("$5", "€5"), ("5%", "5"), ("The Who", "Who"), ("❤", "💔"), ("Lyon", "Paris")],
)
def test_what_differs_in_a_mark_a_sign_or_an_article_can_be_judged(answer: str, prior: str) -> None:
    item = judged(answer, prior)
    assert why_not_judged(item) is None
    assert says(f"it is {answer}", item)
    assert not says(f"it is {prior}", item)


def test_a_form_that_both_answers_have_changes_nothing_for_the_others() -> None:
    item = Item("i", "p", "conflict", "d", "q", "Lyon", "Paris", aliases=("St. Mary",), prior_aliases=("St. Mary",))
    assert not says("St Mary, Lyon", item)
    assert says("Lyon, St Mary", item)


def test_notes_tell_accents_apart_and_invisible_edges() -> None:
    assert text_notes([judged("Café", "Tea"), judged("क़लम", "x"), judged("می‌خواهم", "x")]) == []
    assert "accents apart" in text_notes([judged("Cafe\u0301", "Tea")])[0]
    assert "U+200F in answer" in text_notes([judged("\u200fباريس", "لندن")])[0]
    assert judged("\u200b\u200f ", "x").defect() == "empty answer"
