"""A user's code and files that fail in odd ways: one error that says where, never a wrong number and never success."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from override_gap.margins.items.item import Document
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources import open_source
from override_gap.probes.sources.custom import encode_updates
from tests.conftest import tiny

PATH = "model.layers.1.mlp.down_proj"
A, B, W = torch.ones(2, 48), torch.ones(32, 2), torch.ones(32, 48)


@pytest.fixture
def module(tmp_path: Path, monkeypatch, request) -> str:
    """The name of a module with the parameter as its code; no other module has this name."""
    name = f"failing_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(request.param)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "module",
    ["import sys; sys.exit(0)", "raise RuntimeError('at import')", "def f(:", "def f(x): raise KeyError('x')",
     "import sys\ndef f(x): sys.exit(0)"],
    indirect=True,
)  # fmt: skip
@pytest.mark.parametrize("word", ["", "callable:"])
def test_code_that_fails_or_leaves_is_named(module: str, word: str) -> None:
    with pytest.raises(AdapterError, match=module):
        open_source(f"{word}{module}:f", tiny("llama")).encode([Document("a text")])


@pytest.mark.parametrize(
    "module", ["def f(x): return None", "def f(x): return [1]", "def f(x): return {1: 2}",
               "def f(x): return {'a': (1, 2, 3)}"], indirect=True
)  # fmt: skip
def test_a_function_that_returns_no_factors(module: str) -> None:
    with pytest.raises(AdapterError, match="need"):
        open_source(f"callable:{module}:f", tiny("llama")).encode([Document("a text")])


@pytest.mark.parametrize("returned", [None, [], [1, 1], "ab"])
def test_a_source_that_returns_no_adapters(returned) -> None:
    class Odd:
        name, settings = "odd", {}

        def encode(self, documents):
            return returned

    with pytest.raises(AdapterError, match="encode needs to return 2 adapters"):
        encode_updates(Odd(), [Document("a"), Document("b")])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": W, "A": A, "B": B}, "both a .weight and"),
        ({"weight": W.long()}, "floating-point"),
        ({"weight": torch.ones(())}, "need a matrix or a vector"),
        ({"weight": torch.ones(2, 32, 48)}, "need a matrix or a vector"),
        ({"A": torch.ones(3, 48), "B": B}, "down_proj"),
    ],
)
def test_a_dense_file_that_is_no_edit(tensors, message: str, tmp_path: Path) -> None:
    save_file({f"{PATH}.{kind}": tensor for kind, tensor in tensors.items()}, tmp_path / "t.safetensors")
    with pytest.raises(AdapterError, match=message):
        open_source(f"dense:{tmp_path / 't.safetensors'}", tiny("llama")).encode([Document("a text")])


@pytest.mark.parametrize("index", [None, "{", "[]", "{}", json.dumps({"method": "m", "documents": [{"key": "k"}]})])
def test_a_compact_file_without_an_index(index: str | None, tmp_path: Path) -> None:
    metadata = {"format": "override-gap compact 1", **({"index": index} if index else {})}
    save_file({"x": A}, tmp_path / "c.safetensors", metadata=metadata)
    with pytest.raises(AdapterError, match=r"c\.safetensors: its index"):
        open_source(f"compact:{tmp_path / 'c.safetensors'}", tiny("llama"))
