"""Prefix files: what stands before the question is what the plain model's own cache holds, fixed positions first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import DynamicCache

from override_gap.margins.adapter import traits_of
from override_gap.margins.items.item import documents_of
from override_gap.probes.errors import AdapterError
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.sources import open_source
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, tiny
from tests.families import build

ITEMS = [conflict(1, "alpha beta gamma"), conflict(2, "zeta eta theta iota")]
DOCUMENTS = documents_of(ITEMS)
FIXED = {DOCUMENTS[0].key: 1, DOCUMENTS[1].key: 0}


def caches(subject: Subject, family: str) -> dict[str, DynamicCache]:
    """Per document key the plain model's cache after some tokens, moved a little, as training moves it."""
    model, _ = build(family)
    made = {}
    for n, document in enumerate(DOCUMENTS):
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            model(input_ids=torch.tensor([[5, 9, 3, 7][: 3 + n]]), past_key_values=cache, use_cache=True)
        draw = torch.Generator().manual_seed(n)
        for layer in cache.layers:
            layer.keys = layer.keys + 0.3 * torch.randn(layer.keys.shape, generator=draw)
            layer.values = layer.values + 0.3 * torch.randn(layer.values.shape, generator=draw)
        made[document.key] = cache
    return made


def tensors(made: dict[str, DynamicCache]) -> dict[str, torch.Tensor]:
    """The caches as the method stores them: fixed positions apart from those behind them."""
    found = {}
    for key, cache in made.items():
        for n, layer in enumerate(cache.layers):
            for side, tensor in (("keys", layer.keys), ("values", layer.values)):
                at = FIXED[key]
                found[f"documents/{key}/trainable_{side}/{n}"] = tensor[:, :, at:].contiguous()
                if at:
                    found[f"documents/{key}/fixed_{side}/{n}"] = tensor[:, :, :at].contiguous()
    return found


def native(made: dict[str, DynamicCache], family: str, ids: list[int]) -> dict[str, torch.Tensor]:
    """The plain model's logits behind each cache, at the last of these tokens."""
    model, _ = build(family)
    with torch.no_grad():
        return {
            key: model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True).logits[0, -1]
            for key, cache in made.items()
        }


def test_a_prefix_file_is_the_plain_models_own_cache(tmp_path: Path) -> None:
    subject, file, ids = tiny("llama"), tmp_path / "p.safetensors", [4, 8, 6]
    made = caches(subject, "llama")
    stored = tensors(made)
    rows = []
    for n, (key, logits) in enumerate(native(made, "llama", ids).items()):
        stored[f"native/{n}"] = logits
        rows.append({"document": key, "text": "q", "ids": ids, "logits": f"native/{n}"})
    save_file(
        stored, file, {"method": "cartridges", "native": json.dumps(rows), "base_fingerprint": subject.fingerprint}
    )
    source = open_source(f"prefix:{file}", subject)
    assert source.name == "cartridges"
    assert [prefix.positions for prefix in source.encode(DOCUMENTS)] == [3, 4]
    checks = {check.name: check for check in check_adapters(subject, source, ITEMS).checks}
    assert [name for name, check in checks.items() if check.passed is False] == []
    assert checks["native"].passed


def test_fixed_positions_stand_before_the_others(tmp_path: Path) -> None:
    subject, made = tiny("llama"), caches(tiny("llama"), "llama")
    save_file(tensors(made), tmp_path / "p.safetensors")
    for document, prefix in zip(
        DOCUMENTS, open_source(f"prefix:{tmp_path / 'p.safetensors'}", subject).encode(DOCUMENTS), strict=True
    ):
        for n, layer in enumerate(made[document.key].layers):
            assert torch.equal(prefix.keys[n], layer.keys[0])
            assert torch.equal(prefix.values[n], layer.values[0])


def test_keys_and_values_exchanged_are_caught_by_native_logits(tmp_path: Path) -> None:
    subject, file, ids = tiny("llama"), tmp_path / "p.safetensors", [4, 8, 6]
    made, key = caches(subject, "llama"), DOCUMENTS[0].key
    stored = {
        name.replace("keys", "@").replace("values", "keys").replace("@", "values"): tensor
        for name, tensor in tensors(made).items()
    }
    stored["native/0"] = native(made, "llama", ids)[key]
    rows = [{"document": key, "text": "q", "ids": ids, "logits": "native/0"}]
    save_file(stored, file, {"native": json.dumps(rows)})
    failed = check_adapters(subject, open_source(f"prefix:{file}", subject), ITEMS).failed
    assert [check.name for check in failed] == ["native"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, k: t.pop(f"documents/{k}/trainable_keys/1"), "needs keys and values for layers 0, 1, 2"),
        (lambda t, k: [t.pop(f"documents/{k}/fixed_values/{n}") for n in range(3)], "fixed keys or fixed values alone"),
        (lambda t, k: t.update({f"documents/{k}/trainable_keys/0": torch.ones(2, 3)}), r"needs \[1, kv_head, position"),
        (lambda t, k: t.update({"model.layers.0.weight": torch.ones(2)}), "need documents/NAME/KIND/LAYER"),
        (lambda t, k: t.update({f"documents/{k}/trainable_keys/0": torch.ones(1, 2, 7, 8)}), "of one length"),
    ],
)
def test_a_prefix_file_that_is_incomplete_is_one_line(change, message: str, tmp_path: Path) -> None:
    stored = tensors(caches(tiny("llama"), "llama"))
    change(stored, DOCUMENTS[0].key)
    save_file(stored, tmp_path / "p.safetensors")
    with pytest.raises(AdapterError, match=message) as error:
        open_source(f"prefix:{tmp_path / 'p.safetensors'}", tiny("llama")).encode(DOCUMENTS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("native", ["{", "[{}]", '[{"document": "none", "text": "q", "ids": [1], "logits": "x"}]'])
def test_native_logits_that_are_not_there_are_one_line(native: str, tmp_path: Path) -> None:
    save_file(tensors(caches(tiny("llama"), "llama")), tmp_path / "p.safetensors", {"native": native})
    source = open_source(f"prefix:{tmp_path / 'p.safetensors'}", tiny("llama"))
    with pytest.raises((AdapterError, ValueError), match="native") as error:
        traits_of(source).native_examples()
    assert "\n" not in str(error.value)
