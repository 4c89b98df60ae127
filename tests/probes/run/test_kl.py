"""The column `kl` of a run against plain transformers, PEFT and torch.nn.functional.kl_div, one text at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from override_gap.margins.items.item import Document, Item
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, tiny
from tests.families import build

ITEMS = [
    conflict(0, "alpha beta gamma", "delta", "epsilon"),
    conflict(1, "one two three", "eight nine", "eight ten"),
    Item("n0", "p9", "novel", "pi rho sigma .", "pi rho", "sigma"),
    Item("r0", "p8", "retention", "one two three eight nine .", "phi chi", "psi"),
]
#: What stands before the position that is read.
READ = {"c0": "alpha beta gamma", "c1": "one two three eight", "n0": "pi rho", "r0": "phi chi"}
PLAN = Plan(
    "tiny", "fitted", "own", "as-delivered,uniform-0.5,uniform-3,slb,logit-fusion-1.5,in-context",
    ("margins", "hedged", "joined"),
)  # fmt: skip


def source(subject: Subject) -> FittedAdapters:
    return FittedAdapters(subject, steps=8, lr=5e-2)


def adapted(family: str, folder: Path, document: str, gain: Callable[[list[float]], list[float]]) -> Any:
    """PEFT's own model under the adapter fitted to a text, each layer's scaling times its gain; gains from the norms."""
    adapter = source(tiny(family)).encode([Document(document)])[0]
    write_adapter(adapter, folder)
    model = PeftModel.from_pretrained(build(family)[0], str(folder)).eval()
    maps: dict[str, Any] = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    layer_of = {name: int(name.split(".layers.")[1].split(".")[0]) for name in maps}
    squares = [0.0] * 3
    for name, module in maps.items():
        squares[layer_of[name]] += module.get_delta_weight("default").square().sum().item()
    gains = gain([s**0.5 for s in squares])
    for name, module in maps.items():
        module.scaling["default"] *= gains[layer_of[name]]
    return model


def next_logits(model: Any, text: str) -> torch.Tensor:
    tokenizer = build("llama")[1]
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1].double()


def pytorch_kl(base: torch.Tensor, other: torch.Tensor) -> float:
    return torch.nn.functional.kl_div(
        other.log_softmax(-1), base.log_softmax(-1), reduction="sum", log_target=True
    ).item()


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pd.DataFrame]:
    subject, out = tiny(request.param), tmp_path_factory.mktemp("runs") / "run"
    run(PLAN, subject, source(subject), ITEMS, out)
    return request.param, pd.read_parquet(out / "readings").set_index(["item", "condition"])


def largest(norms: list[float], boosted: float) -> list[float]:
    return [boosted if norm == max(norms) else 1.0 for norm in norms]


@pytest.mark.parametrize(
    ("condition", "gain"),
    [
        ("as-delivered", lambda norms: [1.0] * 3),
        ("uniform-0.5", lambda norms: [0.5] * 3),
        ("uniform-3", lambda norms: [3.0] * 3),
        ("slb", lambda norms: largest(norms, 1.75)),
        ("hedged", lambda norms: [1.0] * 3),
    ],
)
def test_under_an_adapter_it_is_that_of_pefts_own_logits(measured, condition: str, gain, tmp_path: Path) -> None:
    family, rows = measured
    for item in ITEMS:
        row = rows.loc[(item.id, condition)]
        document = f"It is rumoured that {item.document}" if condition == "hedged" else item.document
        model = adapted(family, tmp_path / item.id, document, gain)
        wanted = pytorch_kl(next_logits(build(family)[0], READ[item.id]), next_logits(model, READ[item.id]))
        assert row.kl == pytest.approx(wanted, rel=2e-3, abs=1e-5)
    assert rows.xs(condition, level="condition").kl.max() > 1e-3, "a KL that rounding could explain tests nothing"


def test_the_base_has_none_and_logit_fusion_and_the_prompt_have_their_own(measured, tmp_path: Path) -> None:
    family, rows = measured
    assert rows.xs("base", level="condition").kl.tolist() == [0.0] * len(ITEMS)
    base = build(family)[0]
    for item in ITEMS:
        plain = next_logits(base, READ[item.id])
        delivered = next_logits(
            adapted(family, tmp_path / item.id, item.document, lambda norms: [1.0] * 3), READ[item.id]
        )
        fused = pytorch_kl(plain, plain + 1.5 * (delivered - plain))
        assert rows.loc[(item.id, "logit-fusion-1.5"), "kl"] == pytest.approx(fused, rel=2e-3, abs=1e-5)
        prompted = pytorch_kl(plain, next_logits(base, f"{item.document}\n{READ[item.id]}"))
        assert rows.loc[(item.id, "in-context"), "kl"] == pytest.approx(prompted, rel=2e-3, abs=1e-5)


def test_every_row_that_was_read_has_one(measured) -> None:
    _, rows = measured
    read = rows[rows.status == "ok"]
    assert set(read.index.get_level_values("condition")) >= {"joined-2", "hedged", "slb"}
    assert read.kl.notna().all()
    assert (read.kl >= 0).all()
    assert rows[rows.status == "error"].kl.isna().all()
