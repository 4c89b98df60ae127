"""Words that a tokenizer does not know are told once, before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.run.audit import audit
from override_gap.probes.subject.unknown_words import unknown_words
from tests.conftest import tiny
from tests.families import words

KNOWN = Item.conflict("alpha beta red .", "alpha beta", answer="red", prior_answer="blue")
QUESTION = Item.conflict("alpha beta red .", "alpha Ostravene", answer="red", prior_answer="blue")
STRANGE = Item.conflict("Ostravene is governed from Tamsel .", "alpha", answer="Tamsel", prior_answer="Quellbrook")


def test_items_with_unknown_words_are_counted_and_some_words_named() -> None:
    assert unknown_words(words(), [KNOWN]) is None
    found = unknown_words(words(), [KNOWN, QUESTION, STRANGE])
    assert found is not None
    assert (found.n, found.in_items, found.in_answers) == (3, 2, 1)
    assert found.words == ("Ostravene", "Tamsel", "Quellbrook")


def test_a_run_says_it_once_and_does_not_begin_where_no_answer_is_known(tmp_path: Path) -> None:
    subject, told = tiny("llama"), []
    settings = {"policies": "as-delivered", "probes": "margins", "say": told.append}
    audit(subject, "fitted:steps=1", [KNOWN, QUESTION, STRANGE], out=tmp_path / "run", **settings)
    assert [line for line in told if "does not know words of 2 of 3 items" in line] == told[:1]
    with pytest.raises(ItemError, match=r"does not know words of 1 of 1 item .*'Tamsel', 'Quellbrook'"):
        audit(subject, "fitted:steps=1", [STRANGE], out=tmp_path / "other", **settings)
    assert not (tmp_path / "other" / "manifest.json").exists()
