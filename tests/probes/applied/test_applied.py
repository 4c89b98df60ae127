"""Under `applied`, a plain model's own `generate` gives the strings of an audit, at its gains; and nothing of it stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

import override_gap as og
from override_gap.margins.adapter import Adapter
from override_gap.margins.gain_policies import looks_at_question, probe_gain
from override_gap.margins.items.item import Document
from override_gap.margins.named_policy import named_policy
from override_gap.probes.applied.applied import applied
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, random_adapter, tiny
from tests.families import build, many

QUESTIONS = ["alpha beta gamma", "one", "red green blue one two three", "pi rho", "zeta eta theta iota kappa"]
POLICIES = ["uniform-1.5", "slb", "ca", "effect-gated"]
ITEMS = [
    conflict(n, question, WORD)
    for n, (question, WORD) in enumerate(zip(QUESTIONS, ["delta", "mu", "nu", "xi", "phi"], strict=True))
]


class ByText:
    """A source of stated adapters by a document's text."""

    name, settings = "stated", {}

    def __init__(self, subject: Subject, rng: torch.Generator, suffixes: tuple[str, ...]) -> None:
        self.adapters = {i.document: random_adapter(subject, rng, suffixes, rank=2, size=0.2) for i in ITEMS}

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        return [self.adapters[document.text] for document in documents]


def asked(tokenizer: Any, questions: Sequence[str] = QUESTIONS, side: str = "left") -> dict[str, Tensor]:
    """The questions as a padded batch."""
    tokenizer.padding_side = side
    batch = tokenizer(list(questions), return_tensors="pt", padding=True)
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def texts(tokenizer: Any, output: Tensor, inputs: dict[str, Tensor]) -> list[str]:
    return tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def audited(subject: Subject, source: Any) -> pd.DataFrame:
    """What an audit reads of these items under every policy, answers included."""
    return og.measure(subject, source, ITEMS, policies=POLICIES, answers=True).set_index(["condition", "item"])


def check_policies(model: Any, tokenizer: Any, source: Any, table: pd.DataFrame) -> None:
    """Every policy's strings and gains are the audit's."""
    inputs = asked(tokenizer)
    short = getattr(model.config, "n_positions", None) is not None
    seen = set()
    for policy in POLICIES:
        rows = table.loc[policy].loc[[item.id for item in ITEMS]]
        with applied(model, source, policy, documents=ITEMS, tokenizer=tokenizer) as m:
            out = m.generate(**inputs, **{**m.as_audited, "max_new_tokens": 40 if short else 64})
            means = m.gains.mean(1).tolist()
            one = probe_gain(named_policy(policy).policy) is None
            assert m.cost.passes == (0 if not looks_at_question(named_policy(policy).policy) else 1 if one else 2)
        assert means == pytest.approx(rows["gain_mean"].tolist(), abs=1e-5)
        ours, wanted = texts(tokenizer, out, inputs), rows["answer_text"].tolist()
        # 64 positions have no room for an audit's 64 tokens behind the longest question of a padded batch
        assert ours == [text[: len(mine)] if short else text for text, mine in zip(wanted, ours, strict=True)]
        seen.add(str(ours))
    assert len(seen) >= 3, "the policies must give different answers for this to mean anything"


def test_generate_gives_the_audits_strings_at_its_gains(family: str, rng: torch.Generator) -> None:
    subject = tiny(family)
    source = ByText(subject, rng, many(family))
    model, tokenizer = build(family)
    check_policies(model, tokenizer, source, audited(subject, source))
