"""A method that fits documents together: its logits are those of adapters encoded alone, and what is no rounding still fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.sources.merged import merged
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, tiny

ITEMS = [conflict(1), conflict(2, "zeta eta theta")]
PATH = "model.layers.1.mlp.down_proj"


@dataclass
class Together:
    """Adapters that differ by `apart` of their norm where several documents are encoded at once, or are another document's."""

    subject: Subject
    apart: float = 0.0
    exchanged: bool = False
    scope: str = "document"
    wrong_scale: float = 1.0
    name: str = "together"

    @property
    def settings(self) -> dict:
        return {}

    def adapter(self, text: str, apart: float) -> Adapter:
        site, draw = self.subject.sites[PATH], torch.Generator().manual_seed(sum(text.encode()))
        A, B = torch.randn(2, site.d_in, generator=draw), torch.randn(site.d_out, 2, generator=draw)
        return Adapter(text, {PATH: LowRank(A, B, 0.1 * (1 + apart))})

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        texts = [document.text for document in documents]
        if self.exchanged and len(texts) > 1:
            texts = texts[1:] + texts[:1]
        return [self.adapter(text, self.apart if len(texts) > 1 else 0.0) for text in texts]

    def native_logits(self, document: Document, text: str) -> Float[Tensor, " vocab"]:
        own = self.adapter(document.text, 0.0)
        update = own.updates[PATH]
        assert isinstance(update, LowRank)
        whole = Adapter("own", {PATH: LowRank(update.A, update.B * self.wrong_scale, update.scale)})
        with torch.no_grad(), merged(self.subject, whole):
            ids = torch.tensor([self.subject.tokenize(text)])
            return self.subject.model(input_ids=ids).logits[0, -1].float()


def native(source: Together):
    found = check_adapters(source.subject, source, ITEMS)
    return next(check for check in found.checks if check.name == "native"), found.scale


def test_what_a_batch_changes_by_rounding_is_compared_alone_and_said() -> None:
    subject = tiny("llama")
    check, scale = native(Together(subject, apart=0.01))
    assert check.passed is True
    assert scale.verified is True
    assert "encoded alone, which differ by 0.01 of their norm" in check.says
    assert "encoded alone" in scale.says
    plain, _ = native(Together(subject))
    assert plain.passed is True
    assert "alone" not in plain.says


@pytest.mark.parametrize(
    "planted",
    [{"apart": 0.2}, {"exchanged": True}, {"apart": 0.01, "wrong_scale": 2.0}, {"apart": 0.01, "scope": "batch"}],
    ids=["another adapter", "exchanged", "wrong scale", "depends on the batch"],
)
def test_what_is_no_rounding_still_fails(planted: dict) -> None:
    check, scale = native(Together(tiny("llama"), **planted))
    assert check.passed is False
    assert scale.verified is False
