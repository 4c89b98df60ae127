"""docs/answers.md states when a text counts as an answer; every row of its table is checked here."""

from __future__ import annotations

from pathlib import Path

import pytest

from override_gap.margins.items.item import Item
from override_gap.margins.items.matching import first_mention, says, says_substring, words

PAGE = (Path(__file__).parents[3] / "docs" / "answers.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    """The cells of the page's table of examples."""
    lines = [line for line in PAGE.split("\n") if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == 6 and row[3] in ("yes", "no")]


def test_the_page_has_examples() -> None:
    assert len(rows()) >= 40
    assert {row[3] for row in rows()} == {row[4] for row in rows()} == {"yes", "no"}


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}-{row[1]}")
def test_every_example_of_the_page_is_judged_as_it_says(row: list[str]) -> None:
    text, doc, pre = row[0], row[1].replace("\\u0301", "\u0301").split("; "), row[2].split("; ")
    item = Item("i", "p", "conflict", "d", "q", doc[0], pre[0], aliases=tuple(doc[1:]), prior_aliases=tuple(pre[1:]))
    assert says(text, item) is (row[3] == "yes")
    assert says_substring(text, item) is (row[4] == "yes")


def test_mentions_are_counted_in_words() -> None:
    mention = first_mention("x y C++", ["C++", "z"])
    assert mention is not None
    assert mention.start == 2
    assert first_mention("the artist", ["art"]) is None
    assert first_mention("anything", ["", " ", "!"]) is None


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
    ],
)
def test_normal_form(text: str, wanted: list[str]) -> None:
    assert words(text) == wanted


def test_normal_form_is_its_own_normal_form() -> None:
    for row in rows():
        for text in row[:3]:
            once = words(text)
            assert words(" ".join(once)) == once or any(ord(c) > 0x2E80 for c in text)
