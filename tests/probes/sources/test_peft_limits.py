"""Limits of one adapter's folder: patterns, tensors, and two things under one key."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from override_gap.probes.errors import AdapterError
from override_gap.probes.sources import peft_patterns
from override_gap.probes.sources.peft_adapter import read_adapter
from override_gap.probes.sources.peft_patterns import by_pattern
from tests.conftest import tiny

P = "base_model.model."
DOWN = "model.layers.1.mlp.down_proj"
MAPS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj")
PATHS = [f"model.layers.{layer}.{name}" for layer in range(12) for name in (*MAPS, "mlp.down_proj", "mlp.experts.3.w1")]


@pytest.mark.parametrize(
    "patterns",
    [
        ["q_proj", "layers.1.mlp.down_proj", "proj"],
        [r"model\.layers\.[0-4]\..*q_proj", r"layers\.1[01]?\.(?:self_attn|mlp)\.\w+", r"(?!x).*\.experts\.\d+\.w[12]"],
        [
            r"(\w+\.){2,4}(?:q|k)_proj",
            r"mlp.(up|gate).proj",
            "v.proj",
            "model.layers.1",
            r"layers.(?P<n>\d).mlp.down_proj",
        ],
        PATHS[::-1],
    ],
)
def test_a_value_is_that_of_the_first_pattern_that_pefts_own_rule_matches(patterns: list[str]) -> None:
    """`re.match(rf"(.*\\.)?({key})$", path)`, as PEFT has it (peft.utils.other.get_pattern_key)."""
    from peft.utils.other import get_pattern_key

    values = {pattern: n for n, pattern in enumerate(patterns)}
    for path in PATHS:
        key = get_pattern_key(patterns, path)
        assert by_pattern(values, path, -1) == values.get(key, -1), path


@pytest.mark.parametrize(
    ("pattern", "elements"), [("ab", 2), ("(?:ab){1000}", 2002), ("(ab)+", 6 + 1), ("[a-z]{3}", 5), ("a|b", 3)]
)
def test_elements_are_counted_with_the_repeats_written_out(pattern: str, elements: int) -> None:
    assert abs(peft_patterns._expanded(re._parser.parse(pattern)) - elements) <= 2  # type: ignore[attr-defined]


def test_the_time_is_that_of_all_paths_together(monkeypatch) -> None:
    """Each path alone is within the limit; what was matched before is kept and costs nothing again."""
    monkeypatch.setattr(peft_patterns, "SECONDS", 0.3)
    matcher = peft_patterns._Matcher((r"(.*?,?){4}\d",))
    assert matcher.first(f"{DOWN}.x") is None
    spent = matcher.spent
    assert [matcher.first(f"{DOWN}.x") for _ in range(1000)] == [None] * 1000
    assert matcher.spent == spent < 0.3
    with pytest.raises(AdapterError, match=r"patterns take over 0\.3 s"):
        [matcher.first(f"{DOWN}.{n}.x") for n in range(1000)]


def saved(folder: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    save_file({f"{P}{key}": tensor.clone() for key, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    stated = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", **config}
    (folder / "adapter_config.json").write_text(json.dumps(stated))
    return folder


def factors(path: str, size: float = 1.0, name: str = "") -> dict[str, torch.Tensor]:
    return {f"{path}.lora_A{name}.weight": torch.ones(2, 48) * size, f"{path}.lora_B{name}.weight": torch.ones(32, 2)}


LOHA = {f"{DOWN}.hada_w{n}_{s}": torch.ones(*shape) for n in (1, 2) for s, shape in (("a", (32, 2)), ("b", (2, 48)))}
TWICE = {
    "weight and default.weight": (factors(DOWN) | factors(DOWN, 3, ".default"), {}),
    "with and without a wrapper": (factors(DOWN) | factors(f"_orig_mod.{DOWN}", 3), {}),
    "under this model's prefix and another's": (factors(DOWN) | factors(f"language_model.{DOWN}", 3), {}),
    "under two other prefixes": (
        factors("transformer.layers.1.mlp.down_proj") | factors("language_model.model.layers.1.mlp.down_proj", 3),
        {},
    ),
    "a whole weight under two prefixes": (
        {f"{DOWN}.weight": torch.ones(32, 48), f"language_model.{DOWN}.weight": torch.ones(32, 48) * 2},
        {"modules_to_save": ["down_proj"]},
    ),
    "a whole weight and its trained copy": (
        {f"{DOWN}.weight": torch.ones(32, 48), f"{DOWN}.modules_to_save.default.weight": torch.ones(32, 48) * 2},
        {"modules_to_save": ["down_proj"]},
    ),
    "magnitudes": (
        factors(DOWN)
        | {f"{DOWN}.lora_magnitude_vector": torch.ones(32), f"{DOWN}.lora_magnitude_vector.weight": torch.ones(32) * 2},
        {"use_dora": True},
    ),
    "IA3": (
        {f"{DOWN}.ia3_l": torch.ones(1, 48) * 2, f"{DOWN}.ia3_l.default": torch.ones(1, 48) * 3},
        {"peft_type": "IA3", "target_modules": ["down_proj"], "feedforward_modules": ["down_proj"]},
    ),
    "LoHa": (
        LOHA | {f"{key}.default": tensor * 2 for key, tensor in LOHA.items()},
        {"peft_type": "LOHA", "alpha": 4, "target_modules": ["down_proj"]},
    ),
    "PiSSA": (factors(DOWN) | factors(DOWN, 3, ".default"), {"init_lora_weights": "pissa"}),
}


@pytest.mark.parametrize("name", TWICE)
def test_two_tensors_for_one_place_are_refused(name: str, tmp_path: Path) -> None:
    """Four of these were read, and one of the two was dropped in silence."""
    tensors, config = TWICE[name]
    with pytest.raises(
        AdapterError, match=r"two tensors are stored under|stored twice|one place in this model|one tensor of"
    ):
        read_adapter(saved(tmp_path, tensors, **config), tiny("llama"))


def test_an_adapter_under_another_prefix_alone_is_still_read(tmp_path: Path) -> None:
    """The refusal is of two, not of the prefix."""
    adapter = read_adapter(saved(tmp_path, factors(f"language_model.{DOWN}", 3)), tiny("llama"))
    assert list(adapter.updates) == [DOWN]
