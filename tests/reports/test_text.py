"""Numbers and untrusted text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from override_gap.reports.text import (
    both_intervals,
    chat_message,
    chat_warnings,
    escape_control_characters,
    estimate,
    p_value,
    per_cent,
    rounded,
    script_json,
    untrusted,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5234, "52"), (0.0123, "1.2"), (0.9876, "98.8"), (1, "100"), (0, "0"), (None, "\u2013"), (-0.2, "\u221220")],
)
def test_shares_are_per_cent_with_a_digit_more_near_the_ends(value, shown):
    assert per_cent(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.23456, "1.23"), (-0.0274, "\u22120.0274"), (12345.6, "12,346"), (490000, "490000"), (None, "\u2013"),
     (float("nan"), "\u2013"), (float("inf"), "\u2013")],
)  # fmt: skip
def test_numbers_keep_three_digits(value, shown):
    assert rounded(value) == shown


def test_p_values_never_read_zero():
    assert "<" in p_value(1e-300)
    assert p_value(0.042).endswith("0.042")


def test_an_estimate_without_interval_shows_none():
    assert "[" not in estimate({"value": 0.5, "low": None, "high": None}, "share")
    assert estimate({"value": 0.52, "low": 0.38, "high": 0.64}, "points").striptags() == "52 pp [38, 64]"
    assert estimate(None) == "\u2013"


@given(st.text())
def test_embedded_json_comes_back_and_cannot_leave_its_element(text):
    inside = str(script_json({"a": text}))
    assert json.loads(inside) == {"a": text}
    assert not set("<>&\u2028\u2029") & set(inside)


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_visible_text_has_no_invisible_control_left_and_can_be_written(text):
    shown = escape_control_characters(text)
    shown.encode("utf-8")
    assert not any(
        mark in shown for mark in "\x00\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\ufeff"
    )


def test_plain_text_and_emoji_stay_as_they_are():
    text = "na\u00efve \u05e9\u05dc\u05d5\u05dd \U0001f468\u200d\U0001f469\u200d\U0001f467 a\n\tb"
    assert escape_control_characters(text) == text


def test_untrusted_text_is_isolated_and_escaped():
    assert untrusted("<b>\u202e&") == "<bdi>&lt;b&gt;[U+202E]&amp;</bdi>"


def test_how_questions_are_put_in_chat_is_one_sentence():
    chat = {
        "items": 3, "template": "own", "args": {"enable_thinking": False}, "day": "2024-07-26", "system": "user turn",
        "answer_begins": "assistant turn", "opening": " [/INST] ", "warnings": ["it thinks first"],
    }  # fmt: skip
    assert chat_message(chat, 3) == (
        "Questions are put through the model's chat template (enable_thinking=false, date 2024-07-26), the system text before "
        'the question; the answer is read after " [/INST] " (assistant turn).'
    )
    assert chat_message({**chat, "template": "replaced"}, 8).startswith(
        "3 of 8 questions are put through a chat template given"
    )
    assert chat_warnings(chat) == ["it thinks first."]
    assert chat_warnings(None) == []


def test_both_intervals_are_shown_where_there_are_two():
    two = {
        "value": 0.5,
        "low": 0.2,
        "high": 0.8,
        "low_point": 0.3,
        "high_point": 0.7,
        "low_cluster": 0.2,
        "high_cluster": 0.8,
    }
    shown = str(both_intervals(two, "share", "topic <b>"))
    assert "by knowledge point [30, 70]" in shown
    assert "by topic &lt;b&gt; [20, 80]" in shown
    assert str(both_intervals({"value": 0.5, "low": 0.2, "high": 0.8})) == ""
    assert str(both_intervals({**two, "low_cluster": None})) == ""
