"""Items under a tokenizer alone: read where a subject reads them; answers that cannot be told apart are faults."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.readings.prior import locate
from override_gap.probes.subject.load import open_tokenizer
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.tokens import divergence_of, token_ids, tokenize_items
from tests.conftest import conflict

ITEMS = [
    conflict(0, "alpha beta gamma", "delta", "epsilon"),
    conflict(1, "one two three", "eight nine", "eight ten"),
    conflict(2, "red", "green", "green blue"),
    conflict(3, "red", "unheard", "unseen"),
    Item("n", "p", "novel", "d", "pi rho", "sigma tau"),
    Item("t", "p", "novel", "d", "pi rho", "sigma", chat=True),
]


def test_answers_that_share_tokens_are_long_or_are_equal(subject: Subject) -> None:
    plain, shared, prefix, same, novel, chat = tokenize_items(subject.tokenizer, ITEMS)
    assert (plain.n_shared, plain.n_answer, plain.fault) == (0, 1, None)
    assert (shared.n_shared, shared.n_answer) == (1, 2)
    assert prefix.fault is not None
    assert "prefix" in prefix.fault
    assert same.fault is not None  # two words that this tokenizer does not know are one token to it
    assert (novel.n_shared, novel.n_answer) == (0, 2)
    assert chat.fault is not None
    assert "no chat template" in chat.fault


def test_divergences_are_those_of_the_subject(subject: Subject) -> None:
    for item in ITEMS[:2]:
        assert divergence_of(subject.tokenizer, item) == locate(subject, item)


def test_a_tokenizer_opens_without_its_model(subject: Subject, tmp_path: Path) -> None:
    subject.tokenizer.save_pretrained(tmp_path)
    assert [tokens.n_answer for tokens in tokenize_items(open_tokenizer(str(tmp_path)), ITEMS[:2])] == [1, 2]


def test_a_missing_tokenizer_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=r"no such folder; did you mean 'smollm2'"):
        open_tokenizer("smolm2")
    with pytest.raises(ItemError, match=r"no tokenizer can be read") as caught:
        open_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_text_beyond_the_positions_is_said_in_its_row_and_not_by_the_library(
    tmp_path: Path, subject: Subject
) -> None:
    from transformers.utils import logging as library

    subject.tokenizer.save_pretrained(str(tmp_path))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 4}))
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    library.add_handler(handler)
    try:
        assert len(token_ids(open_tokenizer(str(tmp_path)), "red " * 8)) > 4
    finally:
        library.remove_handler(handler)
    assert said == []
