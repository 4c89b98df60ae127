"""Items and documents beyond a model's positions: an error row each, with the reason, and every other item as without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from override_gap.margins.items.item import Document, Item
from override_gap.probes.errors import DocumentError
from override_gap.probes.run.audit import audit
from override_gap.probes.sources import open_source
from tests.conftest import tiny

WORDS = "alpha beta gamma delta epsilon".split() * 500


def item(name: str, document: int = 20, question: int = 3, split: str = "conflict") -> Item:
    """An item of so many words; the tiny models have 64 positions."""
    text = f"{' '.join(WORDS[:document])} {name[-1]}"
    prior = None if split == "retention" else "epsilon"
    return Item(name, name, split, text, " ".join(WORDS[:question]), "delta", prior)


LONG_DOCUMENT, LONG_QUESTION, ALMOST = item("i0", document=100), item("i1", question=70), item("i2", question=60)
OTHERS = [item("i3"), item("i4", document=12), item("i5", split="retention")]


def audited(items: list[Item], out: Path) -> pd.DataFrame:
    """An audit of GPT-2, whose positions are a table: beyond it, its forward pass ends in an IndexError."""
    subject = tiny("gpt2")
    settings = {"policies": "as-delivered,in-context,combined", "probes": "margins,answers", "batch_size": 1}
    audit(subject, open_source("fitted", subject), items, out=out, **settings)
    return pd.read_parquet(out / "readings").set_index(["item", "condition"]).sort_index()


def test_what_does_not_fit_is_an_error_row_and_nothing_else_changes(tmp_path: Path) -> None:
    """The document that does not fit is the first, which the handshake looks at; the run ended in an IndexError."""
    rows = audited([LONG_DOCUMENT, LONG_QUESTION, ALMOST, *OTHERS], tmp_path / "with")
    alone = audited(OTHERS, tmp_path / "without")
    long = rows.loc["i0"]
    assert (long.status == "error").all()
    assert long.error.str.contains("has 101 tokens, more than the model's 64 positions").all()
    assert (rows.loc["i1"].status == "error").all()
    assert rows.loc["i1"].error.str.fullmatch(r"\d+ tokens, more than the model's 64 positions").all()
    almost = rows.loc["i2"]
    assert almost.status.to_dict() == {
        "base": "ok", "as-delivered": "ok", "in-context": "error", "combined": "error"
    }  # fmt: skip
    # no room for an answer is no answer, and no failure
    assert almost.success_answer.isna().all()
    assert almost.success_answer_substring.isna().all()
    assert almost.loc["base"].net_margin < 99
    for name in alone.index:
        assert rows.loc[name].net_margin == alone.loc[name].net_margin, name
        if name[0] != "i5":  # a retention question is not answered in words
            assert rows.loc[name].answer_text == alone.loc[name].answer_text, name
            assert rows.loc[name].success_answer in (True, False)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("source", ["fitted", "rank-one"])
def test_a_document_as_long_as_the_positions_is_encoded_and_one_token_more_is_not(family: str, source: str) -> None:
    """Learned positions and relative ones alike; a relative model runs beyond them, and gives numbers."""
    subject = tiny(family)
    most = subject.max_positions
    assert most is not None
    made = open_source(source, subject)
    assert made.encode([Document(" ".join(WORDS[:most]))])
    with pytest.raises(DocumentError, match=f"has {most + 1:,} tokens, more than the model's {most:,} positions"):
        made.encode([Document(" ".join(WORDS[:most])), Document(" ".join(WORDS[: most + 1]))])


def test_mpt_states_its_positions_in_a_word_of_its_own() -> None:
    """MptConfig has neither max_position_embeddings nor n_positions."""
    from transformers import MptConfig

    subject = tiny("gpt2")
    model = SimpleNamespace(config=MptConfig(max_seq_len=48))
    assert replace(subject, model=model).max_positions == 48
