"""The first screen's words for every outcome an audit can have, each number bound to its key of the summary."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from markupsafe import Markup

from override_gap.reports.page.drawings import PageFigure
from override_gap.reports.page.first_screen import first_screen
from override_gap.reports.page.headline import first_numbers
from override_gap.reports.page.sections import columns
from override_gap.reports.page.sentences import RECALLS_NOTHING


def share(value: float, n: int, points: int, half: float = 0.1) -> dict[str, Any]:
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half), "n": n, "points": points}


def outcome(split: str, value: float, n: int, points: int, population: str = "all") -> dict[str, Any]:
    place = {"condition": "as-delivered", "split": split, "tier": None, "measure": "top1", "population": population}
    return {**place, **share(value, n, points)}


SUMMARY: dict[str, Any] = {
    "subject": {"name": "a-model"},
    "adapters": {"name": "a-method"},
    "items": {"n": 300, "points": 100},
    "outcomes": [
        outcome("conflict", 0.6, 120, 40),
        outcome("conflict", 0.4, 80, 30, "known"),
        outcome("novel", 0.9, 90, 30),
        outcome("retention", 1.0, 70, 25),
    ],
    "verdict": {
        "label": "magnitude",
        "failing": share(0.6, 80, 30),
        "held": share(0.9, 48, 20),
        "causes": [{"cause": "too weak", "count": 43}, {"cause": "no content", "count": 5}],
        "sentences": ["A sentence of the verdict with 48 failures."],
        "more": None,
    },
    "tuning": {
        "policy": "uniform-1.5",
        "recommendation": "scale",
        "says": "Use uniform-1.5.",
        "budget": {"keep": 0.95, "kl": None},
        "expected": {
            "conflict": share(0.85, 120, 40),
            "conflict_as_delivered": share(0.6, 120, 40),
            "difference": share(0.25, 120, 40, 0.05),
            "retention": share(0.96, 70, 25),
        },
        "candidates": [{"condition": "base"}, {"condition": "uniform-1.5", "gain": 1.5, "kept_at_least": 0.9512}],
    },
    "handshake": {"scale": {"verified": True, "says": "verified"}},
    "notes": {},
}


def plain(markup: Markup) -> str:
    """The words that are seen before anything is pointed at."""
    bare = re.sub(r'<span class="meaning".*?</span>', "", markup)
    return Markup(re.sub(r"<[^>]+>", "", bare)).unescape()


def texts(summary: dict[str, Any]) -> dict[str, str]:
    return {
        part.name: " ".join([plain(part.lead), *map(plain, part.sentences)]).strip() for part in first_screen(summary)
    }


def changed(**sections: Any) -> dict[str, Any]:
    summary = copy.deepcopy(SUMMARY)
    for name, value in sections.items():
        summary[name] = {**summary[name], **value} if isinstance(value, dict) else value
    return summary


def test_one_breath_says_what_was_tested_what_came_out_and_what_to_do():
    said = texts(SUMMARY)
    assert said["tested"] == (
        "Do the adapters of a-method make the model a-model answer as a document says, where the model believes something "
        "else? Asked: 120 conflicts over 40 facts, 90 questions on new facts and 70 unrelated questions."
    )
    assert said["found"] == (
        "Right direction, too weak. As delivered, the adapters override 60% [50, 70] of conflicts, and 40% [30, 50] of known "
        "ones, those whose old answer the model itself gives. Of the 48 known conflicts that fail, 90% [80, 100] have a "
        "larger gain of their own that repairs them and leaves the model intact: there the adapters are too weak, not wrong."
    )
    assert said["next"] == (
        "Scale the adapters up, to gain 1.5. Conflicts overridden: 60% \u2192 85% (+25 pp [20, 30], on facts held out of the "
        "choice); unrelated answers kept: 100% \u2192 96%, at least 95.1% by its one-sided 95% limit by fact "
        "(the budget asks for 95%)."
    )


@pytest.mark.parametrize(
    ("label", "lead", "words"),
    [
        (
            "representational",
            "The adapters do not carry the answer.",
            "only 90% [80, 100] have a gain of their own",
        ),
        ("mixed", "Partly a matter of size.", "leaves the model intact; for the others none was found."),
        ("no-failure", "Known conflicts are overridden.", "Only 60% [50, 70] of the 80 known conflicts fail"),
        (
            "inconclusive",
            "Why some known conflicts fail is not decided.",
            "A sentence of the verdict with 48 failures.",
        ),
    ],
)
def test_each_label_has_its_own_words(label, lead, words):
    said = texts(changed(verdict={"label": label}))["found"]
    assert said.startswith(lead)
    assert words in said
    assert "too weak" not in said


@pytest.mark.parametrize(
    ("recommendation", "lead"),
    [
        ("as-delivered", "Leave it as delivered."),
        ("no-gain", "Scaling does not help."),
        ("undecided", "Measure more."),
    ],
)
def test_without_another_gain_the_reason_stands_in_its_place(recommendation, lead):
    said = texts(changed(tuning={"recommendation": recommendation, "says": "Undecided: the reason is 3 of 4."}))["next"]
    assert said.startswith(f"{lead} The reason is 3 of 4.")


def test_a_policy_that_is_no_single_gain_is_named_and_a_smaller_gain_weakens():
    candidates = [{"condition": "slb", "gain": None}]
    assert texts(changed(tuning={"policy": "slb", "candidates": candidates}))["next"].startswith("Use the policy slb.")
    candidates = [{"condition": "uniform-0.5", "gain": 0.5}]
    weaker = texts(changed(tuning={"policy": "uniform-0.5", "candidates": candidates}))["next"]
    assert weaker.startswith("Scale the adapters down, to gain 0.5.")


def test_without_causes_the_size_is_not_called_weak():
    said = texts(changed(verdict={"causes": []}))["found"]
    assert said.startswith("Right direction, wrong size.")
    assert "have a gain of their own that repairs them" in said
    assert "there the adapters are of the wrong size, not wrong" in said


def test_too_strong_adapters_are_not_called_too_weak():
    said = texts(changed(verdict={"causes": [{"cause": "too strong", "count": 48}]}))["found"]
    assert said.startswith("Right direction, too strong.")
    assert "have a smaller gain of their own" in said
    assert "there the adapters are too strong, not wrong" in said


def test_a_method_that_recalls_nothing_says_that_first():
    rows = [*SUMMARY["outcomes"][:2], {**outcome("novel", 0.05, 90, 30), "high": RECALLS_NOTHING - 0.01}]
    said = texts(changed(outcomes=rows))
    assert said["found"].startswith("The adapters recall almost nothing. Of 90 questions on new facts")
    assert said["next"].startswith(
        "Check the delivery first. The scale is verified: look whether these are the adapters"
    )
    rows[2]["high"] = RECALLS_NOTHING
    assert "almost nothing" not in texts(changed(outcomes=rows))["found"]


def test_what_was_not_measured_is_said_with_what_it_means():
    summary = changed(outcomes=SUMMARY["outcomes"][:2], tuning={"recommendation": "undecided", "says": "No price."})
    assert "Measure unrelated questions too" in texts(summary)["next"]
    cards = {card.label: card for card in first_numbers(summary)}
    assert plain(cards["Unrelated answers kept"].shown) == "not measured"
    assert "what the adapters damage is unknown" in cards["Unrelated answers kept"].below
    assert plain(cards["New facts recalled"].shown) == "not measured"
    assert plain(cards["Conflicts overridden"].shown) == "60% [50, 70]"


def test_an_inconclusive_verdict_says_how_many_more_conflicts_would_decide():
    more = {"label": "inconclusive", "more": {"known_conflicts": 65, "at_least": False}}
    assert (
        "About 65 more known conflicts on further facts would decide the verdict, if they are like these."
        in texts(changed(verdict=more))["next"]
    )
    few = {"label": "inconclusive", "more": {"known_conflicts": 1, "at_least": True}}
    assert (
        "The verdict's rule asks for at least 1 more known conflict before it reads any."
        in texts(changed(verdict=few))["next"]
    )
    unknown = {"label": "inconclusive", "failing": None, "more": {"known_conflicts": None, "at_least": False}}
    assert "The verdict needs known conflicts" in texts(changed(verdict=unknown))["next"]


def test_where_no_gain_repairs_anything_the_answer_itself_is_missing():
    none = changed(verdict={"label": "representational", "held": share(0.0, 126, 49)})
    none["tuning"] |= {"recommendation": "no-gain", "says": "No gain helps: the reason."}
    assert "Of the 126 known conflicts that fail, 0% [0, 10] have a gain" in texts(none)["found"]
    assert texts(none)["next"].startswith("Change how the adapters are made. The reason.")
    none["handshake"] = None
    unverified = texts(none)["next"]
    assert unverified.startswith(
        "Check the delivery, then change how the adapters are made. First see that the adapters are applied"
    )


def test_repairs_that_cost_much_are_told_from_cheap_ones():
    dear = changed(verdict={"affordable": share(0.0, 48, 20)})
    assert "(0% one that costs little)" in texts(dear)["found"]


def test_below_the_budget_something_may_lie_that_is_no_better_than_the_base():
    says = "No gain helps within this budget: as delivered keeps 60%, and what is within it overrides no more than the base."
    assert (
        texts(changed(tuning={"recommendation": "no-gain", "says": says}))["next"] == f"Scaling does not help. {says}"
    )


def test_where_nothing_is_recalled_the_recommendation_waits_for_the_check():
    rows = [*SUMMARY["outcomes"][:2], {**outcome("novel", 0.05, 90, 30), "high": 0.1}, SUMMARY["outcomes"][3]]
    said = texts(changed(outcomes=rows))["next"]
    assert said.endswith("applied as their method applies them. If all of that is right: use uniform-1.5.")
    assert "Conflicts overridden" not in said


def test_control_characters_of_names_in_sentences_are_written_out():
    said = first_screen(changed(tuning={"recommendation": "undecided", "says": "Undecided: \u202ename\x00 is open."}))[
        2
    ]
    assert not set("\u202e\x00") & set("".join(said.sentences))


def test_damage_is_part_of_what_came_out():
    rows = [*SUMMARY["outcomes"][:3], outcome("retention", 0.6, 70, 25)]
    assert (
        "The adapters also damage the model: only 60% [50, 70] of unrelated answers are kept."
        in texts(changed(outcomes=rows))["found"]
    )
    assert "damage" not in texts(SUMMARY)["found"]


def test_too_wide_an_interval_and_too_few_failures_are_told_apart():
    more = {"label": "inconclusive", "more": {"known_conflicts": 65, "at_least": False}}
    wide = texts(changed(verdict={**more, "held": share(0.5, 19, 13, 0.3)}))["found"]
    assert "Of the 19 known conflicts that fail, 50% [20, 80] have a gain of their own" in wide
    few = texts(changed(verdict={**more, "held": share(1.0, 3, 1)}))["found"]
    assert few.startswith("Too few known conflicts fail to say why.")
    assert few.endswith("Only 3 known conflicts fail, on 1 fact; a verdict needs 10 failures on 5 facts.")


def test_where_every_gain_costs_too_much_the_budget_is_named():
    says = "No gain helps within this budget: even uniform-0.5, the cheapest that was measured, keeps 80% of unrelated answers."
    said = texts(changed(tuning={"recommendation": "no-gain", "says": says}))["next"]
    assert said == (
        "Use none of the gains measured here: each costs too much. The budget asks for 95% of unrelated answers kept. Even "
        "uniform-0.5, the cheapest that was measured, keeps 80% of unrelated answers."
    )


def test_names_are_text_and_cut_where_they_are_long():
    said = first_screen(changed(subject={"name": "<b>" + "x" * 200}))[0].sentences[0]
    assert "<b>x" not in said
    assert "x" * 100 not in said


def test_an_empty_summary_has_a_first_screen():
    said = texts({"schema": 1, "outcomes": [], "notes": {}})
    assert said["found"].startswith("No verdict.")
    assert said["next"] == "Nothing can be recommended."


def test_the_open_figures_stand_in_two_columns_of_like_height():
    def figure(name: str, height: float) -> PageFigure:
        return PageFigure(name, name, Markup('<svg viewBox="0 0 100 {}"></svg>').format(height), None, ())

    drawn = [figure("a", 200), figure("b", 150), figure("c", 120), figure("d", 100)]
    assert [[own.name for own in column] for column in columns(drawn)] == [["a", "d"], ["b", "c"]]
    assert columns([]) == [[]]
    assert columns(drawn[:1]) == [drawn[:1]]
