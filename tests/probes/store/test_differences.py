"""A run that is not resumed says what differs."""

from __future__ import annotations

from override_gap.probes.store.differences import MOST, PLACES, differences


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


def test_every_place_is_named_by_its_words() -> None:
    for place, words in PLACES.items():
        assert differences(manifest_of("a", place), manifest_of("b", place)) == f"what differs: {words}"


def test_many_are_counted_and_none_is_said_in_general() -> None:
    assert differences(manifest_of("a", *PLACES), manifest_of("b", *PLACES)).endswith(f"and {len(PLACES) - MOST} more")
    assert differences({}, {}) == "other settings, model, adapters, items or code"
    assert differences({"subject": None, "computing": []}, {}) == "other settings, model, adapters, items or code"


def test_what_the_old_manifest_does_not_hold_is_not_called_different() -> None:
    old, new = manifest_of("a"), manifest_of("b", "seed")
    del old["computing"]["prompts"], old["code"]
    said = differences(old, new)
    assert said == (
        "what differs: the seed; not recorded by the version that measured it: the tokens in which questions "
        "and answers are read, the version of override-gap"
    )
