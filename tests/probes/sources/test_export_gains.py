"""Adapters exported at gains: PEFT's own logits are the original's under these gains, and so are readings of every form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float
from peft import OFTConfig
from safetensors import safe_open
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.at_gains import at_gains
from override_gap.margins.gain_policies import PolicyInputs
from override_gap.margins.items.item import Document, documents_of
from override_gap.margins.named_policy import NamedPolicy, named_policy
from override_gap.margins.updates import Dense, LowRank, Vector
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.sources import open_source
from override_gap.probes.sources.adapter_tree import WEIGHTS
from override_gap.probes.sources.export import export, gains_copy
from override_gap.probes.sources.peft_config import CONFIG
from override_gap.probes.sources.peft_folder import PeftFolder
from override_gap.probes.sources.peft_gains import NotInPlace, dora_at_gain
from override_gap.probes.sources.peft_whole import dora_update
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, random_adapter, tiny
from tests.probes.sources.peft_models import IDS, opened, pefts, saved

ITEMS = [conflict(1), conflict(2, "zeta eta theta")]
DOCUMENT = documents_of(ITEMS)[:1]


@dataclass(frozen=True)
class ByLayer:
    """Other gains at every layer, one of them below 1."""

    def __call__(self, inputs: PolicyInputs) -> Float[Tensor, " layer"]:
        return torch.linspace(0.5, 2.0, len(inputs.norms), dtype=torch.float64)


POLICIES = [named_policy("uniform-1.5"), named_policy("slb"), NamedPolicy(None, ByLayer())]


@torch.no_grad()
def scaled_logits(subject: Subject, adapter: Adapter, gains: tuple[float, ...]) -> Tensor:
    """Logits of the audit's route: the adapter's hooks at one gain per layer."""
    per_row = torch.tensor(gains)[None].expand(2, -1)
    with attached(subject, stack(subject, [adapter] * 2), per_row):
        return subject.model(input_ids=IDS).logits.float()


DOWN = "model.layers.1.mlp.down_proj"
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {}),
    "rslora": ("llama", {"use_rslora": True, "target_modules": ["q_proj", "down_proj"]}),
    "patterns": (
        "llama",
        {"target_modules": ["q_proj", "down_proj"], "rank_pattern": {DOWN: 2}, "alpha_pattern": {"q_proj": 3}},
    ),
    "lora_bias": ("gpt2", {"lora_bias": True, "target_modules": ["c_proj"]}),
    "dora": ("llama", {"use_dora": True, "target_modules": ["q_proj", "down_proj"]}),
    "dora of Conv1D": ("gpt2", {"use_dora": True, "use_rslora": True, "target_modules": ["c_proj"]}),
    "biases": ("qwen2", {"bias": "all", "target_modules": ["q_proj"]}),
    "saved modules": ("gpt2", {"modules_to_save": ["c_fc", "ln_1"], "target_modules": ["c_attn"]}),
    "experts": ("mixtral", {"target_parameters": ["gate_up_proj", "down_proj"], "target_modules": ["q_proj"]}),
    "vision": ("vision", {"target_modules": r".*\.(q_proj|down_proj|fc2)"}),
}
ANEW = ("dora", "dora of Conv1D", "biases", "saved modules")


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_peft_alone_gives_the_logits_of_the_original_at_these_gains(layout: str, tmp_path: Path) -> None:
    family, settings = LAYOUTS[layout]
    original = saved(tmp_path / "original", family, **settings)
    subject = opened(family)
    source = PeftFolder(subject, original)
    adapter = source.encode(DOCUMENT)[0]
    assert isinstance(adapter, Adapter)
    as_delivered = scaled_logits(subject, adapter, (1.0,) * subject.n_layers)
    for n, policy in enumerate((POLICIES[0], POLICIES[2])):
        said: list[str] = []
        assert export(subject, source, DOCUMENT, "peft", tmp_path / f"{n}", policy, say=said.append) == 1
        folder = tmp_path / f"{n}" / DOCUMENT[0].key
        gains = policy.gains(adapter, subject.n_layers)
        wanted = scaled_logits(subject, adapter, gains)
        assert (wanted - as_delivered).abs().max() > 0.01
        assert (pefts(folder, family) - wanted).abs().max() < 1e-4
        read = PeftFolder(subject, tmp_path / f"{n}").encode(DOCUMENT)[0]
        assert isinstance(read, Adapter)
        assert (scaled_logits(subject, read, (1.0,) * subject.n_layers) - wanted).abs().max() < 1e-4
        # what users see: the weights are the same file, or they are told that they are not
        same = (folder / WEIGHTS).read_bytes() == (original / WEIGHTS).read_bytes()
        assert same == (layout not in ANEW)
        assert ("the file of weights as it was" in said[0]) == same
        before, after = (json.loads((where / CONFIG).read_text()) for where in (original, folder))
        changed = {key for key in before if before[key] != after.get(key)}
        assert changed <= {"lora_alpha", "alpha_pattern", "rank_pattern"}
        index = json.loads((tmp_path / f"{n}" / "override_gap.json").read_text())
        assert index["policy"] == policy.title
        assert index["documents"][0]["gains"] == list(gains)


def test_a_uniform_gain_shows_as_lora_alpha_alone(tmp_path: Path) -> None:
    source = PeftFolder(opened("llama"), saved(tmp_path / "original", "llama"))
    export(source.subject, source, DOCUMENT, "peft", tmp_path / "out", named_policy("uniform-1.5"))
    config = json.loads((tmp_path / "out" / DOCUMENT[0].key / CONFIG).read_text())
    assert (config["lora_alpha"], config["alpha_pattern"]) == (12, {})  # 8 as saved
    export(source.subject, source, DOCUMENT, "peft", tmp_path / "by-layer", NamedPolicy(None, ByLayer()))
    config = json.loads((tmp_path / "by-layer" / DOCUMENT[0].key / CONFIG).read_text())
    assert config["lora_alpha"] == 8
    assert config["alpha_pattern"]["model.layers.0.self_attn.q_proj"] == 4
    assert config["alpha_pattern"]["model.layers.1.self_attn.q_proj"] == 10
    assert config["alpha_pattern"]["model.layers.2.self_attn.q_proj"] == 16


def test_other_tuners_are_written_as_plain_lora_and_said_so(tmp_path: Path) -> None:
    config = OFTConfig(oft_block_size=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    source = PeftFolder(opened("llama"), saved(tmp_path / "original", "llama", config))
    said: list[str] = []
    export(source.subject, source, DOCUMENT, "peft", tmp_path / "out", named_policy("uniform-1.5"), say=said.append)
    assert "written as plain LoRA" in said[0]
    assert "peft_type OFT has no scale" in said[0]
    adapter = source.encode(DOCUMENT)[0]
    assert isinstance(adapter, Adapter)
    wanted = scaled_logits(source.subject, adapter, (1.5, 1.5, 1.5))
    assert (pefts(tmp_path / "out" / DOCUMENT[0].key, "llama") - wanted).abs().max() < 1e-4


class Given:
    """A source of one stated adapter for every document."""

    name, settings = "given", {}

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    def native_logits(self, document: Document, text: str) -> Tensor:
        """Of the method as delivered."""
        return torch.zeros(64)

    def encode(self, documents: list[Document]) -> list[Adapter]:
        return [self.adapter for _ in documents]


def everything(subject: Subject, rng: torch.Generator) -> Adapter:
    """Factors of several ranks with a shared part, a dense update, and biases."""
    own = random_adapter(subject, rng, ("down_proj",), rank=2).updates
    site = subject.sites["model.layers.0.self_attn.q_proj"]
    more = {
        site.path: Dense(torch.randn(site.d_out, site.d_in, generator=rng) * 0.1),
        f"{site.path}.bias": Vector(torch.randn(site.d_out, generator=rng)),
    }
    return Adapter("given", {**own, **more}, random_adapter(subject, rng, ("layers.1.mlp.down_proj",), rank=1).updates)


@pytest.mark.parametrize("form", ["peft", "compact"])
@pytest.mark.parametrize("n", range(len(POLICIES)))
def test_any_sources_adapters_at_gains_in_either_form(form: str, n: int, rng: torch.Generator, tmp_path: Path) -> None:
    subject, policy = tiny("llama"), POLICIES[n]
    source, out = Given(everything(subject, rng)), tmp_path / ("out" if form == "peft" else "out.safetensors")
    export(subject, source, DOCUMENT, form, out, policy)
    gains = policy.gains(source.adapter, subject.n_layers)
    read = open_source(str(out) if form == "peft" else f"compact:{out}", subject)
    wanted = scaled_logits(subject, source.adapter, gains)
    adapter = read.encode(DOCUMENT)[0]
    assert isinstance(adapter, Adapter)
    assert (scaled_logits(subject, adapter, (1.0, 1.0, 1.0)) - wanted).abs().max() < 1e-4
    assert "at the gains of" in read.notes_on(DOCUMENT)[0]  # type: ignore[attr-defined]
    if form == "compact":
        with safe_open(out, "pt") as stream:
            index = json.loads(stream.metadata()["index"])
        assert "native" not in index  # those of the source are of the method as delivered
        assert index["policy"] == policy.title
        assert index["documents"][0]["gains"] == list(gains)


def test_an_adapter_at_gains_is_the_gain_times_every_dense_update(rng: torch.Generator) -> None:
    subject = tiny("llama")
    adapter = everything(subject, rng)
    tuned = at_gains(adapter, (0.5, 2.0, 3.0))
    for part, ours in ((adapter.updates, tuned.updates), (adapter.shared, tuned.shared)):
        for path, update in part.items():
            gain = {"0": 0.5, "1": 2.0, "2": 3.0}[path.split(".")[2]]
            assert torch.allclose(ours[path].dense(), gain * update.dense())


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.75, -1.0])
def test_a_dora_at_a_gain_is_again_a_dora(gain: float, rng: torch.Generator) -> None:
    W, A, B = (torch.randn(*shape, generator=rng) for shape in ((6, 5), (2, 5), (6, 2)))
    magnitude = W.norm(dim=1) * (1 + 0.3 * torch.randn(6, generator=rng))
    once = dora_update(W, LowRank(A, B, 1.3), magnitude).delta
    b, m = dora_at_gain(W, A, B, 1.3, magnitude, gain)
    again = dora_update(W, LowRank(A, b, 1.3), m).delta
    assert torch.allclose(again, gain * once, atol=1e-5)


def test_a_dora_whose_row_has_vanished_is_refused() -> None:
    W, A, B = torch.eye(2), torch.zeros(1, 2), torch.zeros(2, 1)
    with pytest.raises(NotInPlace, match="at gain 2 a row of the base's weight has vanished"):
        dora_at_gain(W, A, B, 1.0, torch.tensor([0.5, 1.0]), 2.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [("ca", r"og\.applied"), ("relevance-gate", r"og\.applied"), ("uniform-0", "nothing to write")],
)
def test_what_no_file_can_hold_is_refused(name: str, message: str, rng: torch.Generator, tmp_path: Path) -> None:
    subject = tiny("llama")
    with pytest.raises(AdapterError, match=message):
        export(subject, Given(everything(subject, rng)), DOCUMENT, "compact", tmp_path / "out", named_policy(name))
    assert not list(tmp_path.iterdir())


def test_copies_of_gains_beside_files_whose_names_have_dots_are_two(tmp_path: Path) -> None:
    """`tuned-1.0` and `tuned-1.5` had one copy, tuned-1.gains.json, which the second export wrote over."""
    chosen = tmp_path / "gains.json"
    chosen.write_text("{}")
    policy = NamedPolicy("uniform-1.5", named_policy("uniform-1.5").policy, chosen)
    copies = [gains_copy(policy, "compact", tmp_path / name) for name in ("tuned-1.0", "tuned-1.5", "a.safetensors")]
    assert [copy and copy.name for copy in copies] == ["tuned-1.0.gains.json", "tuned-1.5.gains.json", "a.gains.json"]
