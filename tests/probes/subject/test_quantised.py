"""Maps that do not store their weight as it multiplies: read by what they compute, or refused by name."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from override_gap.margins.updates import Dense, Rescaled
from override_gap.probes.errors import AdapterError
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.sources.peft_folder import PeftFolder, read_adapter
from override_gap.probes.subject.model import Subject, wrap
from override_gap.probes.subject.quantised import holds_its_weight
from override_gap.probes.subject.sites import base_weight
from tests.conftest import conflict
from tests.families import GROUPED, words
from tests.probes.sources.peft_models import IDS, build, ours, saved

DOWN = "model.layers.1.mlp.down_proj"


class Codes(nn.Linear):
    """A linear map whose parameter holds whole numbers, as 8-bit libraries store them, with a scale per row."""

    def __init__(self, linear: nn.Linear, rounding: bool = False) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        self.bias = linear.bias
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.weight = nn.Parameter((linear.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        self.register_buffer("scale", scale)
        self.rounding = rounding

    def true(self) -> Tensor:
        """The weight that it multiplies by."""
        return self.weight.float() * self.scale

    def forward(self, x: Tensor) -> Tensor:
        if self.rounding:  # inputs of 8 bits, one scale per position
            step = x.abs().amax(-1, keepdim=True).clamp_min(1e-9) / 127
            x = (x / step).round() * step
        return nn.functional.linear(x, self.true(), self.bias)


class Scaled(Codes):
    """Its parameter is of 16-bit floats, but the scales are kept beside it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self.weight = nn.Parameter(self.weight.to(torch.bfloat16), requires_grad=False)


class Crooked(Codes):
    """No linear map at all."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sin()


class Broken(Codes):
    """Runs on no input here, as kernels that need a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("needs a GPU")


def with_maps(kind: Callable[[nn.Linear], nn.Module]) -> Any:
    model = build("llama")
    for block in model.model.layers:
        block.mlp.down_proj = kind(block.mlp.down_proj)
        block.self_attn.q_proj = kind(block.self_attn.q_proj)
    return model.eval()


def quantised(kind: Callable[[nn.Linear], nn.Module]) -> Subject:
    return wrap(with_maps(kind), words(), "quantised")


@pytest.mark.parametrize("kind", [Codes, Scaled, lambda linear: Codes(linear, rounding=True)])
def test_a_stored_weight_is_read_as_what_the_map_computes(kind: Any) -> None:
    subject = quantised(kind)
    site = subject.sites[DOWN]
    assert not holds_its_weight(site.module)
    true = site.module.true()  # type: ignore[operator]
    assert (base_weight(site) - true).abs().max() < 1e-5
    assert (site.module.get_parameter("weight").float() - true).abs().max() > 1
    assert holds_its_weight(subject.sites["model.layers.1.mlp.up_proj"].module)


def dora_by_hand(folder: Path, kind: Any) -> Tensor:
    """Logits of the quantised model where every adapted map gives m / ||W + s B A|| * (its own output + s B A x)."""
    from safetensors.torch import load_file

    model, tensors = with_maps(kind), load_file(folder / "adapter_model.safetensors")
    for name, module in model.named_modules():
        A = tensors.get(f"base_model.model.{name}.lora_A.weight")
        if A is None:
            continue
        B = tensors[f"base_model.model.{name}.lora_B.weight"]
        update, magnitude = 2 * B @ A, tensors[f"base_model.model.{name}.lora_magnitude_vector"]
        rows = magnitude / (module.true() + update).norm(dim=1)
        module.register_forward_hook(lambda _, args, out, u=update, r=rows: r * (out + args[0] @ u.T))
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("kind", [Codes, Scaled, lambda linear: Codes(linear, rounding=True)])
def test_dora_on_a_quantised_base_equals_it_by_hand(kind: Any, tmp_path: Path) -> None:
    saved(tmp_path, "llama", target_modules=["q_proj", "down_proj"], use_dora=True)
    subject = quantised(kind)
    adapter = read_adapter(tmp_path, subject)
    assert all(isinstance(update, Rescaled) for update in adapter.updates.values())
    wanted, base = dora_by_hand(tmp_path, kind), subject.model(input_ids=IDS).logits
    assert (ours(subject, adapter) - wanted).abs().max() < 1e-4
    assert (wanted - base).abs().max() > 0.1
    assert torch.equal(ours(subject, adapter, (0.0, 0.0)), base)
    # as on the unquantised base, whose weights are nearly the same
    assert adapter.norm() == pytest.approx(
        read_adapter(tmp_path, wrap(build("llama"), words(), "plain")).norm(), rel=0.05
    )


def test_whole_modules_are_the_difference_from_the_dequantised_weight(tmp_path: Path) -> None:
    saved(tmp_path, "llama", target_modules=["q_proj"], modules_to_save=["down_proj"])
    adapter = read_adapter(tmp_path, quantised(Codes))
    plain = read_adapter(tmp_path, wrap(build("llama"), words(), "plain"))
    left, right = adapter.updates[DOWN], plain.updates[DOWN]
    assert isinstance(left, Dense)
    assert isinstance(right, Dense)
    assert (left.delta - right.delta).abs().max() < 0.01
    assert right.delta.abs().max() > 0.1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Crooked, "Crooked, .*no linear function of its input"),
        (Broken, "Broken, .*does not run on unit vectors .*needs a GPU"),
    ],
)
def test_a_weight_that_cannot_be_read_is_refused_by_the_name_of_its_class(
    kind: Any, message: str, tmp_path: Path
) -> None:
    saved(tmp_path, "llama", target_modules=["down_proj"], use_dora=True)
    subject = wrap(build("llama"), words(), "late")
    for path in list(subject.sites):
        if path.endswith("down_proj"):
            site = subject.sites[path]
            subject.sites[path] = type(site)(path, site.d_in, site.d_out, kind(site.module))  # type: ignore[index]
    with pytest.raises(AdapterError, match=message):
        read_adapter(tmp_path, subject)


class Together(Codes):
    """Rounds a whole batch by its largest input, so that examples see each other."""

    def forward(self, x: Tensor) -> Tensor:
        step = x.abs().max() / 127
        return super().forward((x / step).round() * step)


def test_a_quantised_base_that_rounds_a_batch_together_is_said_and_not_called_passed(tmp_path: Path) -> None:
    saved(tmp_path, "llama", target_modules=["q_proj"])
    subject = quantised(Together)
    items = [conflict(n, question) for n, question in enumerate(("alpha beta gamma", "one two"))]
    checks = {c.name: c for c in check_adapters(subject, PeftFolder(subject, tmp_path), items).checks}
    assert checks["batch"].passed is None
    assert "the base itself by" in checks["batch"].says
    assert "--batch-size 1" in checks["batch"].says


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("bits", [8, 4])
def test_a_dora_on_bitsandbytes_equals_pefts_own_forward_or_is_refused(bits: int, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    wide: dict[str, Any] = {**GROUPED, "hidden_size": 64, "intermediate_size": 128}  # its 4-bit blocks hold 64 numbers
    LlamaForCausalLM(LlamaConfig(**wide)).save_pretrained(str(tmp_path / "plain"))
    settings = BitsAndBytesConfig(load_in_8bit=bits == 8, load_in_4bit=bits == 4, bnb_4bit_quant_type="nf4")

    def base() -> Any:
        return AutoModelForCausalLM.from_pretrained(
            str(tmp_path / "plain"), quantization_config=settings, device_map="cpu"
        ).eval()

    peft = get_peft_model(base(), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], use_dora=True))
    torch.manual_seed(1)
    for weight in peft.parameters():
        if weight.requires_grad:
            weight.data.add_(torch.randn_like(weight) * 0.1)
    peft.save_pretrained(str(tmp_path / "dora"))
    subject = wrap(base(), words(), "bits")
    if bits == 4:
        with pytest.raises(AdapterError, match=r"Linear4bit, .*repacks 4-bit weights on the CPU"):
            read_adapter(tmp_path / "dora", subject)
        return
    adapter = read_adapter(tmp_path / "dora", subject)
    with torch.no_grad():
        wanted = PeftModel.from_pretrained(base(), tmp_path / "dora").eval()(input_ids=IDS).logits.float()
    assert (ours(subject, adapter) - wanted).abs().max() < 1e-3
    assert (wanted - subject.model(input_ids=IDS).logits.float()).abs().max() > 0.05
    assert json.loads((tmp_path / "dora" / "adapter_config.json").read_text())["use_dora"]
