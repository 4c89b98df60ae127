"""`unscaled:`: PEFT's factors whose method adds their product as it is, against a forward that injects it as DyPRAG does."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.catalogue import ADAPTERS
from override_gap.probes.errors import AdapterError
from override_gap.probes.run.last_logits import last_logits
from override_gap.probes.sources import open_source
from tests.conftest import tiny
from tests.families import build

MODULES = ["gate_proj", "up_proj", "down_proj"]
IDS = [3, 5, 7, 4]


def saved(folder: Path, **settings: Any) -> Any:
    """A folder as PEFT saves it, with DyPRAG's rank 2 and lora_alpha 32 unless `settings` say otherwise."""
    model, _ = build("llama")
    config: dict[str, Any] = {"r": 2, "lora_alpha": 32, "target_modules": MODULES, **settings}
    peft = get_peft_model(model, LoraConfig(**config))
    draw = torch.Generator().manual_seed(3)
    for name, weight in peft.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            weight.data = torch.randn(weight.shape, generator=draw) * 0.2
    peft.save_pretrained(str(folder))
    return peft


def injected(peft: Any, ids: list[int]) -> torch.Tensor:
    """Logits of the plain model with out += x (B A)^T at each map: no scale anywhere."""
    factors = {name: weight.data for name, weight in peft.named_parameters() if ".lora_" in name}
    model, _ = build("llama")
    plain = copy.deepcopy(model)
    for path, module in plain.named_modules():
        A = factors.get(f"base_model.model.{path}.lora_A.default.weight")
        if A is not None:
            delta = factors[f"base_model.model.{path}.lora_B.default.weight"] @ A
            module.register_forward_hook(lambda _, args, out, delta=delta: out + args[0] @ delta.T)
    with torch.no_grad():
        return plain(input_ids=torch.tensor([ids])).logits[:, -1]


@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True}, {"alpha_pattern": {"up_proj": 5}, "rank_pattern": {"down_proj": 3}}]
)
def test_an_unscaled_folder_adds_the_product_alone(settings: dict[str, Any], tmp_path: Path) -> None:
    peft, subject = saved(tmp_path / "0", **settings), tiny("llama")
    document = Document("alpha beta", ids=("0",))
    source = open_source(f"unscaled:{tmp_path}", subject)
    theirs = injected(peft, IDS)
    [adapter] = source.encode([document])
    assert torch.allclose(last_logits(subject, [IDS], [adapter], 1.0), theirs, atol=1e-4)
    scaled = open_source(str(tmp_path), subject)
    [read_as_peft] = scaled.encode([document])
    assert (last_logits(subject, [IDS], [read_as_peft], 1.0) - theirs).abs().max() > 0.1
    assert source.settings != scaled.settings, "another scale is another reading"
    if not settings:
        assert isinstance(read_as_peft, Adapter)
        assert {u.scale for u in read_as_peft.updates.values() if isinstance(u, LowRank)} == {16.0}


@pytest.mark.parametrize(("settings", "what"), [({"use_dora": True}, "down_proj"), ({"lora_bias": True}, "bias")])
def test_what_has_no_plain_factors_cannot_be_unscaled(settings: dict[str, Any], what: str, tmp_path: Path) -> None:
    saved(tmp_path, **settings)
    source = open_source(f"unscaled:{tmp_path}", tiny("llama"))
    with pytest.raises(AdapterError, match=f"need plain LoRA factors alone, and .* has .*{what}"):
        source.encode([Document("alpha beta")])


def test_the_declared_rank_acts_nowhere_in_an_unscaled_folder(tmp_path: Path) -> None:
    """PEFT would refuse or misread it; the product of the factors is the same whatever r says."""
    peft, subject = saved(tmp_path), tiny("llama")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    [adapter] = open_source(f"unscaled:{tmp_path}", subject).encode([Document("alpha beta")])
    assert torch.allclose(last_logits(subject, [IDS], [adapter], 1.0), injected(peft, IDS), atol=1e-4)
    with pytest.raises(AdapterError, match=r"has rank 2, but adapter_config\.json says 8; the scale would be wrong"):
        open_source(str(tmp_path), subject).encode([Document("alpha beta")])


def test_no_shared_part_is_taken_out_of_an_unscaled_folder(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(
        AdapterError, match=r"--shared-adapter is not for unscaled:.* at PEFT's scale, which acts nowhere"
    ):
        open_source(f"unscaled:{tmp_path}", tiny("llama"), shared_adapter=str(tmp_path))
    assert "no --shared-adapter" in ADAPTERS["unscaled:FOLDER"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="is no folder"):
        open_source(f"unscaled:{tmp_path / 'nothing'}", tiny("llama"))
