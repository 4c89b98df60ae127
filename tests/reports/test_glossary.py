"""The glossary: its marks in a sentence, and that its words say what the rules of the code say."""

from __future__ import annotations

import re

from override_gap.analyses import verdict
from override_gap.reports.glossary import MEANINGS, TERMS, as_markdown, explained


def test_the_first_mention_of_each_term_is_explained_and_others_text_is_escaped():
    seen: set[str] = set()
    shown = explained("Known conflicts <b>fail</b>; conflicts, again known conflicts.", seen)
    assert shown.count('class="term"') == 2  # known conflict, conflict
    assert seen == {"known conflict", "conflict"}
    assert "&lt;b&gt;fail&lt;/b&gt;" in shown
    assert explained("conflicts", seen) == "conflicts"


def test_without_the_definitions_a_sentence_reads_as_it_was_written():
    text = "At another gain 3 of 4 known conflicts are overridden; unrelated answers kept: 98% [93, 100]."
    bare = re.sub(r'<span class="meaning".*?</span>', "", explained(text))
    assert re.sub(r"<[^>]+>", "", bare) == text


def test_a_term_within_a_longer_word_or_name_is_left_alone():
    assert "term" not in explained("regain, known-unknown and gains-file")


def test_no_spelling_stands_for_two_terms():
    assert len(MEANINGS) == sum(len(term.spellings) for term in TERMS)


def test_the_numbers_in_definitions_are_those_of_the_rule():
    meanings = {term.name: term.meaning for term in TERMS}
    assert verdict.MAGNITUDE == 2 / 3
    assert "above 2/3" in meanings["magnitude"]
    assert verdict.REPRESENTATIONAL == 1 / 3
    assert "below 1/3" in meanings["representational"]
    assert f"less than {verdict.NO_FAILURE:.0%}" in meanings["no-failure"]


def test_every_term_is_a_row_of_the_docs_page():
    assert as_markdown().count("\n| ") == len(TERMS) + 1
