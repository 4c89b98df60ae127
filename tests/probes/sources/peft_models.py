"""Tiny models for adapters of other layouts, adapters saved for them by PEFT, and gaps to PEFT's own logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from benchmarks.families.configs import HEADS
from benchmarks.families.configs import build as build_family
from override_gap.margins.adapter import Adapter
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.sources.peft_folder import WEIGHTS, read_adapter
from override_gap.probes.subject.model import Subject, wrap
from tests import families
from tests.families import words

IDS = torch.tensor([[3, 4, 5, 6], [9, 10, 11, 12]])


def build(family: str) -> Any:
    """A tiny random model: of tests.families, of benchmarks.families, or `vision`, a Gemma-3 with a vision tower."""
    if family in families.FAMILIES:
        return families.build(family)[0]
    if family != "vision":
        return build_family(family)
    torch.manual_seed(0)
    tower = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    config = Gemma3Config(
        text_config={**HEADS, "sliding_window": 8},
        vision_config=tower,
        mm_tokens_per_image=4,
        image_token_index=60,
        boi_token_index=61,
        eoi_token_index=62,
    )
    model = Gemma3ForConditionalGeneration(config).eval()
    model.config.architectures = [type(model).__name__]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * (0.15 if weight.ndim > 1 else 0.3))
    return model


def opened(family: str) -> Subject:
    """The same model, wrapped."""
    return wrap(build(family), words(), family)


def saved(folder: Path, family: str, config: Any = None, *, size: float = 0.1, **settings: Any) -> Path:
    """A folder in which PEFT saved an adapter, all of its trained parameters moved at random."""
    peft = get_peft_model(build(family), config or LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **settings))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in peft.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * size)
    peft.save_pretrained(str(folder))
    return folder


def renamed(folder: Path, change: Callable[[str], str]) -> None:
    """Change the keys of a saved adapter."""
    tensors = load_file(folder / WEIGHTS)
    save_file({change(key): tensor for key, tensor in tensors.items()}, folder / WEIGHTS, metadata={"format": "pt"})


@torch.no_grad()
def pefts(folder: Path, family: str) -> torch.Tensor:
    """PEFT's own logits after it has read the folder."""
    return PeftModel.from_pretrained(build(family), folder).eval()(input_ids=IDS).logits.float()


@torch.no_grad()
def ours(subject: Subject, adapter: Adapter, gains: tuple[float, float] = (1.0, 1.0)) -> torch.Tensor:
    """Logits with an adapter at a gain per example."""
    with attached(subject, stack(subject, [adapter] * 2), torch.tensor(gains)[:, None].expand(2, subject.n_layers)):
        return subject.model(input_ids=IDS).logits.float()


def gap(folder: Path, family: str) -> tuple[float, Adapter]:
    """(largest difference from PEFT's logits, adapter); the adapter must matter for the gap to mean anything."""
    subject = opened(family)
    adapter = read_adapter(folder, subject)
    wanted, base = pefts(folder, family), subject.model(input_ids=IDS).logits
    assert (wanted - base).abs().max() > 0.05
    return (ours(subject, adapter) - wanted).abs().max().item(), adapter
