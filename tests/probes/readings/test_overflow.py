"""An adapter that leaves float16's range at a larger gain: those rows say so, and the others are read as in float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.run.audit import measure
from override_gap.probes.subject.model import Subject, wrap
from tests.conftest import conflict
from tests.families import build

PATH = "model.layers.2.mlp.down_proj"


@dataclass(frozen=True)
class Loud:
    """Adds as much to every channel of the stream as float16 holds twice, but not three times."""

    subject: Subject
    name = "loud"
    settings: Mapping[str, Any]

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """The same update for every document, on the map's mean input."""
        inputs: list[torch.Tensor] = []
        module = self.subject.sites[PATH].module
        hook = module.register_forward_pre_hook(lambda _, args: inputs.append(args[0][0, -1].float()))
        ids = torch.tensor([self.subject.prompt_ids(conflict(0, "alpha beta"))])
        with torch.no_grad():
            self.subject.model(input_ids=ids)
        hook.remove()
        A = inputs[0] / inputs[0].square().sum()
        sign = torch.tensor([1.0, -1.0]).repeat(16)
        return [Adapter("loud", {PATH: LowRank(A[None], 25_000 * sign[:, None])}) for _ in documents]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_rows_that_leave_the_format_are_named_and_the_others_read(dtype: torch.dtype) -> None:
    model, tokenizer = build("llama")
    subject = wrap(model.to(dtype), tokenizer, "llama")
    frame = measure(
        subject,
        Loud(subject, {}),
        [conflict(0, "alpha beta")],
        policies="as-delivered,uniform-3",
        probes=("margins", "critical"),
        answers=True,
    ).set_index("condition")
    assert [str(frame.loc[name, "status"]) for name in ("base", "as-delivered")] == ["ok", "ok"]
    if dtype == torch.float32:
        assert str(frame.loc["uniform-3", "status"]) == "ok"
        assert str(frame.loc["as-delivered", "critical_gain"]) == "inf"
        return
    assert str(frame.loc["uniform-3", "status"]) == "error"
    assert str(frame.loc["uniform-3", "error"]) == "the model's logits are not finite in float16"
    assert "critical_gain" not in frame, "whether a larger gain flips the item was not seen"
