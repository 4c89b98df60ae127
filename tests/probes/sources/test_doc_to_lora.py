"""Doc-to-LoRA in process: a stand-in package with the calls and shapes of the method's own, and harmful pickles."""

from __future__ import annotations

import enum
import os
import pickle
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig

from override_gap.margins.items.item import Document
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources import export_doc_to_lora, open_source
from override_gap.reports.cli.main import main
from tests.conftest import tiny

ALPHA, RANK, LAYERS = 45.25, 2, (0, 2)
DOCUMENTS = [Document("alpha beta .", ids=("a",)), Document("gamma delta epsilon .", ids=("b",))]


def defined_in(module: str):
    """A decorator that sets the module by which pickles name a class."""

    def set_module(cls: type) -> type:
        cls.__module__ = module
        return cls

    return set_module


@defined_in("ctx_to_lora.modeling.ctx_encoder")
class CTX_ENCODER_TYPE(enum.StrEnum):
    PER_LAYER = "per-layer"


@defined_in("ctx_to_lora.modeling.hypernet")
@dataclass
class HypernetConfig:
    lora_config: LoraConfig
    layer_indices: torch.Tensor


@defined_in("ctx_to_lora.configs")
@dataclass
class CtxEncoderArguments:
    ctx_encoder_type: CTX_ENCODER_TYPE


@defined_in("ctx_to_lora.modeling")
class Unlisted:
    """A class of the package that no checkpoint needs."""


class Model:
    """The method's model as far as a reader of documents sees it: internalize, generated_loras, head bias."""

    device = torch.device("cpu")

    def __init__(self, state: dict[str, Any]) -> None:
        config = state["hypernet_config"]
        bias = {"down_proj": {"A": state["bias_A.down_proj"], "B": state["bias_B.down_proj"]}}
        self.peft_config, self.generated_loras = config.lora_config, None
        self.hypernet = SimpleNamespace(get_head_bias=lambda: bias, layer_indices=config.layer_indices)

    @classmethod
    def from_state_dict(cls, state_dict, train=True, use_flash_attn=True, **kwargs):
        assert (train, use_flash_attn, kwargs) == (False, False, {"use_sequence_packing": False})
        return cls(state_dict)

    def internalize(self, text: str) -> None:
        draw = torch.Generator().manual_seed(sum(text.encode()))
        sides = {side: torch.randn(1, len(LAYERS), RANK, d, generator=draw) for side, d in (("A", 48), ("B", 32))}
        self.generated_loras = {"down_proj": sides}


def combine_lora(generated_loras, n_chunks, lora_bias=None):
    """One document of one chunk: its ranks, then those of the bias."""
    assert n_chunks.tolist() == [1]
    if lora_bias is None:
        return generated_loras
    return {
        module: {s: torch.cat([sides[s], lora_bias[module][s][None]], dim=2) for s in ("A", "B")}
        for module, sides in generated_loras.items()
    }


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`ctx_to_lora` with the modules that the toolkit and its checkpoints name."""
    contents: dict[str, Any] = {
        "ctx_to_lora": {},
        "ctx_to_lora.configs": {"CtxEncoderArguments": CtxEncoderArguments},
        "ctx_to_lora.modeling": {"Unlisted": Unlisted},
        "ctx_to_lora.modeling.ctx_encoder": {"CTX_ENCODER_TYPE": CTX_ENCODER_TYPE},
        "ctx_to_lora.modeling.hypernet": {"HypernetConfig": HypernetConfig, "ModulatedPretrainedModel": Model},
        "ctx_to_lora.modeling.lora_merger": {"combine_lora": combine_lora},
    }
    modules: dict[str, Any] = {}
    for name, classes in contents.items():
        modules[name] = ModuleType(name)
        modules[name].__spec__ = ModuleSpec(name, None)
        vars(modules[name]).update(classes)
        monkeypatch.setitem(sys.modules, name, modules[name])
    return modules


def checkpoint(file: Path, **more: Any) -> str:
    """Save a checkpoint as the method does; returns the words for --adapters."""
    draw = torch.Generator().manual_seed(7)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["down_proj"], task_type="CAUSAL_LM")
    state = {
        "bias_A.down_proj": torch.randn(len(LAYERS), RANK, 48, generator=draw),
        "bias_B.down_proj": torch.randn(len(LAYERS), RANK, 32, generator=draw),
        "base_model_name_or_path": "tiny",
        "hypernet_config": HypernetConfig(config, torch.tensor(LAYERS)),
        "ctx_encoder_args": CtxEncoderArguments(CTX_ENCODER_TYPE.PER_LAYER),
        **more,
    }
    torch.save(state, file)
    return f"doc-to-lora:{file}"


class Harm:
    """Runs a command where it is opened without a guard."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_adapters_in_process_are_the_methods_own_update(package, tmp_path: Path) -> None:
    subject = tiny("llama")
    source = open_source(checkpoint(tmp_path / "d2l.pt"), subject, allow_pickle=True)
    model = Model(torch.load(tmp_path / "d2l.pt", weights_only=False))
    bias = model.hypernet.get_head_bias()["down_proj"]
    for document, adapter in zip(DOCUMENTS, source.encode(DOCUMENTS), strict=True):
        model.internalize(document.text)
        factors = model.generated_loras["down_proj"]
        assert set(adapter.updates) == set(adapter.shared) == {f"model.layers.{n}.mlp.down_proj" for n in LAYERS}
        for n, layer in enumerate(LAYERS):
            path = f"model.layers.{layer}.mlp.down_proj"
            # the method's forward: x A^T B, times raw lora_alpha
            wanted = ALPHA * torch.einsum("ro,ri->oi", factors["B"][0, n], factors["A"][0, n])
            assert torch.allclose(adapter.updates[path].dense(), wanted, atol=1e-4)
            wanted = ALPHA * torch.einsum("ro,ri->oi", bias["B"][n], bias["A"][n])
            assert torch.allclose(adapter.shared[path].dense(), wanted, atol=1e-4)


def test_a_model_that_is_set_to_add_no_bias_gets_no_shared_part(package, tmp_path: Path) -> None:
    source: Any = open_source(checkpoint(tmp_path / "d2l.pt"), tiny("llama"), allow_pickle=True)
    [whole] = source.encode(DOCUMENTS[:1])
    source.model.hypernet.config = SimpleNamespace(use_bias=False)
    [bare] = source.encode(DOCUMENTS[:1])
    assert bare.shared == {}
    assert bare.norm("document") == whole.norm("document")


def test_adapters_in_process_are_those_of_the_exported_file(package, tmp_path: Path) -> None:
    subject, spec = tiny("llama"), checkpoint(tmp_path / "d2l.pt")
    (tmp_path / "d.jsonl").write_text("".join(f'{{"id": "{d.ids[0]}", "document": "{d.text}"}}\n' for d in DOCUMENTS))
    out = tmp_path / "adapters.safetensors"
    export_doc_to_lora.main([str(tmp_path / "d2l.pt"), str(tmp_path / "d.jsonl"), str(out)])
    here = open_source(spec, subject, allow_pickle=True).encode(DOCUMENTS)
    there = open_source(f"doc-to-lora:{out}", subject).encode(DOCUMENTS)
    assert [a.hash() for a in here] == [a.hash() for a in there]
    assert here[0].hash() != here[1].hash()


def test_a_checkpoint_is_not_opened_without_the_flag(package, tmp_path: Path, monkeypatch) -> None:
    spec = checkpoint(tmp_path / "d2l.pt")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(AdapterError, match=r"is a pickle.*export_doc_to_lora\.py.*--allow-pickle") as error:
        open_source(spec, tiny("llama"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("allow_pickle", [False, True])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_a_command_is_refused(package, allow_pickle: bool, zipped: bool, tmp_path: Path) -> None:
    file, mark = tmp_path / "d2l.pt", tmp_path / "mark"
    spec = checkpoint(file, harm=Harm(f"touch {mark}"))
    if not zipped:
        file.write_bytes(pickle.dumps({"harm": Harm(f"touch {mark}")}, protocol=2))
    with pytest.raises(AdapterError, match=r"system.* was not opened" if allow_pickle else "is a pickle"):
        open_source(spec, tiny("llama"), allow_pickle=allow_pickle)
    assert not mark.exists()
    torch.load(file, weights_only=False) if zipped else pickle.loads(file.read_bytes())
    assert mark.exists(), "the pickle must do harm for this test to mean anything"


def test_a_class_that_is_not_on_the_list_is_refused_even_where_its_package_calls_it_safe(package, tmp_path) -> None:
    spec = checkpoint(tmp_path / "d2l.pt", more=Unlisted())
    with torch.serialization.safe_globals([Unlisted]):
        torch.load(tmp_path / "d2l.pt", weights_only=False)
        before = set(torch.serialization.get_safe_globals())
        with pytest.raises(AdapterError, match=r"names ctx_to_lora\.modeling\.Unlisted"):
            open_source(spec, tiny("llama"), allow_pickle=True)
        assert set(torch.serialization.get_safe_globals()) == before


def test_a_bias_that_is_not_where_it_should_be_is_an_error(package, tmp_path: Path, monkeypatch) -> None:
    source = open_source(checkpoint(tmp_path / "d2l.pt"), tiny("llama"), allow_pickle=True)

    def other(*args, **more):
        return {m: {s: t.flip(2) for s, t in sides.items()} for m, sides in combine_lora(*args, **more).items()}

    monkeypatch.setattr(package["ctx_to_lora.modeling.lora_merger"], "combine_lora", other)
    with pytest.raises(ValueError, match="are not the head bias"):
        source.encode(DOCUMENTS)


def test_without_the_package_the_message_names_the_export_script(tmp_path: Path, capsys) -> None:
    (tmp_path / "d2l.pt").write_bytes(b"")
    with pytest.raises(AdapterError, match=r"ctx_to_lora is not installed.*export_doc_to_lora\.py"):
        open_source(f"doc-to-lora:{tmp_path / 'd2l.pt'}", tiny("llama"), allow_pickle=True)
    with pytest.raises(AdapterError, match="no such file"):
        open_source(f"doc-to-lora:{tmp_path / 'none.pt'}", tiny("llama"))
    words = ["handshake", "--subject", "organism", "--adapters", f"doc-to-lora:{tmp_path / 'd2l.pt'}"]
    assert main(words) == 2
    assert "--allow-pickle" in capsys.readouterr().err
    assert main([*words, "--allow-pickle"]) == 2
    assert "is not installed" in capsys.readouterr().err
