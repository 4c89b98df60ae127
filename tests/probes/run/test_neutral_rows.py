"""Rows of the table `neutral` on the organism, against the merged model on texts chosen by hand."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from override_gap.margins.items.files import read_items
from override_gap.margins.items.item import Document
from override_gap.margins.runtime import Prefix
from override_gap.probes.organism.load import load
from override_gap.probes.readings.prior import locate
from override_gap.probes.run.encode import EncodedDocuments, encode
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.neutral import RAISED, TEXTS, neutral_rows
from override_gap.probes.sources.open import open_source
from override_gap.probes.store.schema import NEUTRAL
from override_gap.probes.subject.load import open_subject
from tests.probes.readings.test_neutral import merged, run


def test_rows_are_those_of_the_merged_model_on_the_texts_that_share_least_with_the_document() -> None:
    subject = open_subject("organism")
    items = [i for i in read_items(load().folder / "items.jsonl") if i.split == "conflict"][:60:3]
    documents = [Document(text) for text in dict.fromkeys(item.document for item in items)]
    encoded = encode(open_source("hypernetwork", subject), documents)
    setup = MeasurementSetup(subject, (), frozenset({"neutral"}), 0, 0)
    rows, unread = neutral_rows(setup, [(item, locate(subject, item)) for item in items], encoded)
    NEUTRAL.from_rows(rows)
    assert unread == ()
    assert len(rows) == len(documents) * (1 + subject.n_layers)
    document = documents[3]
    [output] = [row for row in rows if row["document"] == document.key and row["layer"] == -1]

    texts = setup.read_comparisons.neutral
    # every word of the organism's language is a token of its own, and its stop words are English ones
    stated = set(document.text.casefold().split())
    shares = []
    for text in texts.words:
        words = {word for word in text.casefold().split() if word.isalnum()} - {
            "is",
            "of",
            "the",
            "has",
            "in",
            "as",
            "we",
        }
        shares.append(len(words & stated) / len(words))
    chosen = sorted(range(len(shares)), key=lambda n: shares[n])[:TEXTS]
    adapter = encoded.adapters[document.text]
    changed = merged(subject, cast(Any, adapter))
    rises = []
    for n in chosen:
        f, g = run(subject.model, texts.ids[n])[0], run(changed, texts.ids[n])[0]
        rises.append((g - f).mean(0))
    rise = torch.stack(rises).mean(0)
    rise = rise - rise.mean()
    best = rise.topk(RAISED)
    assert output["rises"] == pytest.approx(best.values.tolist(), abs=1e-3)
    assert output["raised"][0] == subject.tokenizer.decode([best.indices[0]])

    vocab = subject.tokenizer.get_vocab()
    first = {item.document: vocab[item.answer] for item in items}
    own = first[document.text]
    others = sorted(set(first.values()) - {own})
    assert output["other_answers"] == len(others)
    assert output["answer_rise"] == pytest.approx(rise[own].item(), abs=1e-3)
    assert output["answer_rank"] == pytest.approx((rise[others] < rise[own]).double().mean().item(), abs=1e-6)


def test_a_method_that_is_no_weight_update_is_refused_in_words() -> None:
    subject = open_subject("organism")
    item = next(i for i in read_items(load().folder / "items.jsonl") if i.split == "conflict")
    keys = torch.zeros(2, 1, 4)
    prefix = Prefix("a prefix", (keys,), (keys,))
    setup = MeasurementSetup(subject, (), frozenset({"neutral"}), 0, 0)
    rows, [reason] = neutral_rows(setup, [(item, locate(subject, item))], EncodedDocuments({item.document: prefix}))
    assert rows == []
    assert reason["probe"] == "neutral"
    assert "no weight update" in reason["reason"]
