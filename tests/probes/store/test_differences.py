"""A run that is not resumed says what differs: which setting, what the folder holds, what was asked for."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from override_gap.probes.plan import Plan
from override_gap.probes.store.differences import LONGEST, MOST, OF_PROBES, PLACES, SETTINGS, differences

MANY = ",".join(f"uniform-1.{n}" for n in range(1, 20))


def manifest_of(value: str, *places: str) -> dict:
    """A manifest with one value at every place, and another at some."""
    manifest: dict = {}
    for place in PLACES:
        *owners, last = place.split(".")
        owner = manifest
        for name in owners:
            owner = owner.setdefault(name, {})
        owner[last] = value if place in places else "same"
    return manifest


def test_every_place_is_named_by_its_words_and_both_values() -> None:
    for place, words in PLACES.items():
        said = differences(manifest_of("a", place), manifest_of("b", place))
        assert said == f"what differs: {words}, there a, asked for b"


def test_many_are_counted_and_none_is_said_in_general() -> None:
    said = differences(manifest_of("a", *PLACES), manifest_of("b", *PLACES))
    assert said.startswith(f"what differs: {next(iter(PLACES.values()))}, there a, asked for b; also ")
    assert said.endswith(f"and {len(PLACES) - 2 - MOST} more")  # but for the first, and the tokens of other items
    assert differences({}, {}) == "other settings, model, adapters, items or code"
    assert differences({"subject": None, "computing": []}, {}) == "other settings, model, adapters, items or code"


def test_what_the_old_manifest_does_not_hold_is_not_called_different() -> None:
    old, new = manifest_of("a"), manifest_of("b", "seed")
    del old["computing"]["prompts"], old["code"]
    said = differences(old, new)
    assert said == (
        "what differs: the seed, there same, asked for b; not recorded by the version that measured it: the tokens in which "
        "questions and answers are read, the version of override-gap"
    )


def of_plan(value: str, places: tuple[str, ...] = (), **settings) -> dict:
    return {**manifest_of(value, *places), "plan": {**Plan().as_json(), **settings}}


@pytest.mark.parametrize(
    ("places", "there", "asked", "said"),
    [
        (("items.sha256",), {"limit": 40}, {"limit": None}, "--limit, there 40, asked for none"),
        (("items.sha256",), {"items": "starter"}, {"items": "mine.jsonl"}, "--items, there starter, asked for mine.jsonl"),
        (("subject.fingerprint",), {"subject": "x"}, {"subject": "y"}, "--subject, there x, asked for y"),
        (("conditions",), {"policies": "as-delivered,slb"}, {"policies": "as-delivered,ca"},
         "--policies, there as-delivered, slb, asked for as-delivered, ca"),
        ((), {"probes": ["margins", "layers"]}, {"probes": ["margins"]}, "--probes, there margins, layers, asked for margins"),
        (("conditions",), {"policies": f"{MANY},slb"}, {"policies": f"{MANY},ca"},
         "--policies, there alone slb; asked for alone ca"),
        ((), {"answers": 32}, {"answers": 64}, "--answers, there 32, asked for 64"),
        ((), {"template_args": {"a": 1}}, {"template_args": {"a": 2}}, "--template-arg, a: there 1, asked for 2"),
        (("adapters.settings",), {"adapters": "fitted"}, {"adapters": "fitted:steps=4"},
         "--adapters, there fitted, asked for fitted:steps=4"),
        ((), {"probes": ["sampled"], "draws": 4}, {"probes": ["sampled"], "draws": 8}, "--draws, there 4, asked for 8"),
    ],
)  # fmt: skip
def test_the_first_setting_that_differs_is_named_with_both_values(places, there, asked, said) -> None:
    assert differences(of_plan("a", places, **there), of_plan("b", places, **asked)).startswith(f"what differs: {said}")


def test_a_setting_that_changes_nothing_is_not_the_one_that_is_named() -> None:
    """Another spelling of the same model, another batch size, draws that nothing draws: the seed it is."""
    old = of_plan("a", ("seed",), subject="./x", batch_size=4, draws=4, seed=0)
    new = of_plan("b", ("seed",), subject="x", batch_size=8, draws=5, seed=1)
    assert differences(old, new) == "what differs: --seed, there 0, asked for 1"


def test_other_items_are_no_second_difference_of_the_tokens_that_they_are_read_in() -> None:
    changed = ("items.sha256", "computing.prompts")
    said = differences(of_plan("a", changed, limit=40), of_plan("b", changed))
    assert said == "what differs: --limit, there 40, asked for none"
    alone = differences(of_plan("a", changed[1:], limit=40), of_plan("b", changed[1:]))
    assert alone.startswith("what differs: the tokens in which")


def test_what_a_setting_does_not_explain_is_named_by_itself() -> None:
    old, new = (of_plan(letter * 64, ("items.sha256", "code")) for letter in "ab")
    said = f"what differs: the version of override-gap, there {'a' * 12}, asked for {'b' * 12}; also the items"
    assert differences(old, new) == said


def test_long_and_odd_values_of_a_strangers_manifest_are_cut() -> None:
    odd = {"plan": {**Plan().as_json(), "seed": {"x" * 9000: ["y" * 9000]}, "answers": 10**50, "probes": 7}}
    said = differences(odd, of_plan("b"))
    assert len(said) < 8 * LONGEST
    assert "there" in said


def test_every_setting_of_a_plan_is_one_that_can_be_named_or_decides_no_number() -> None:
    named = set(SETTINGS) | set(OF_PROBES)
    assert {field.name for field in fields(Plan)} - named == {"batch_size", "references"}
    assert named <= set(replace(Plan()).as_json())
