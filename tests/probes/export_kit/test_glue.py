"""The kit's scripts: each turns its method's form into factors that make the method's own update, worked out here another way."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from override_gap.probes.export_kit import kit

FOLDER = Path(kit.__file__).parent


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script of the kit, imported as it is run: with kit.py beside it."""
    monkeypatch.syspath_prepend(FOLDER)
    for module in ("kit", "script", name):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return importlib.import_module(name)


def test_generative_adapters_factors_have_their_true_rank_and_the_same_product(
    rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_rank = script("generative_adapter", monkeypatch).true_rank
    a = torch.randn(40, 3, generator=rng) @ torch.randn(3, 24, generator=rng)
    b = torch.randn(16, 40, generator=rng)
    A, B = true_rank(a, b)
    assert A.shape == (3, 24)
    assert B.shape == (16, 3)
    assert (B @ A - b @ a).abs().max() < 1e-4 * (b @ a).abs().max()
    full = torch.randn(5, 24, generator=rng)
    assert true_rank(full, b[:, :5])[0].shape[0] == 5


def test_generative_adapters_paths_are_those_of_the_plain_base(monkeypatch: pytest.MonkeyPatch) -> None:
    path = script("generative_adapter", monkeypatch).path
    assert path("model.layers.12.base_layer.self_attn.o_proj") == "model.layers.12.self_attn.o_proj"


def test_shines_nested_factors_add_what_its_layer_adds(rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    updates = script("shine", monkeypatch).updates
    q = {name: torch.randn(1, *shape, generator=rng) for name, shape in (("A", (6, 2)), ("B", (2, 5)), ("C", (5,)))}
    down = {"A": torch.randn(1, 7, 2, generator=rng), "B": torch.randn(1, 2, 6, generator=rng), "C": None}
    found = updates({3: {"attention": {"q": q}, "mlp": {"down": down}}})
    paths = ["model.layers.3.self_attn.q_proj", "model.layers.3.self_attn.q_proj.bias", "model.layers.3.mlp.down_proj"]
    assert list(found) == paths
    x = torch.randn(1, 4, 6, generator=rng)
    A, B = found[paths[0]]
    ours = x[0] @ (B @ A).T + found[paths[1]]
    theirs = torch.einsum("bsi,bir,bro->bso", x, q["A"], q["B"]) + q["C"][:, None]
    assert torch.allclose(ours, theirs[0], atol=1e-5)
    assert found[paths[2]][0].shape == (2, 7)


def test_dyprags_sizes_are_read_from_its_projectors_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = script("dyprag", monkeypatch).sizes
    state = {}
    for module in ("down_proj", "up_proj"):
        for layer in (0, 1):
            inner = f"projector.{module}_{layer}.projector"
            d_in = 48 if module == "down_proj" else 32
            state[f"{inner}.pre_A_linear.weight"] = torch.zeros(8, 33)
            state[f"{inner}.post_A_linear.weight"] = torch.zeros(d_in * 2, 8)
    wanted = {"module_list": ["down_proj", "up_proj"], "layer_idx": [0, 1], "lora_rank": 2, "hidden_dim": 8}
    assert sizes(state, 32) == wanted
    with pytest.raises(ValueError, match="its rank is unknown"):
        sizes({key: value for key, value in state.items() if "down" in key}, 32)


def test_a_cache_is_found_by_the_best_of_its_documents_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_file = script("cartridges", monkeypatch).cache_file
    document = {"key": "k", "ids": ["a", "b"], "points": ["p"]}
    with pytest.raises(ValueError, match=r"no cache for document k; name it k\.pt"):
        cache_file(tmp_path, document)
    (tmp_path / "p.pt").touch()
    assert cache_file(tmp_path, document).name == "p.pt"
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "cache_last.pt").touch()
    with pytest.raises(ValueError, match="keep one"):
        cache_file(tmp_path, document)
    (tmp_path / "k.pt").touch()
    assert cache_file(tmp_path, document).name == "k.pt"


@pytest.mark.parametrize("name", ["cartridges", "dyprag", "generative_adapter", "shine"])
def test_a_scripts_error_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    module = script(name, monkeypatch)
    more = {"cartridges": ["--base", "x"], "dyprag": ["--base", "x"], "shine": ["--base", "x", "--config", "c"]}.get(
        name, []
    )
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "c", str(tmp_path / "none.jsonl"), "out", "--repo", ".", *more])
    with pytest.raises(SystemExit) as left:
        module.script.run(module.main)
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
