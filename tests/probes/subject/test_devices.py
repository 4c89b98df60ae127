"""A model spread over memory and disk gives the readings of one that is not; over two pretend devices tensors meet on one."""

from __future__ import annotations

import gc
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import MixtralConfig, MixtralForCausalLM

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import Dense, Vector
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import SubjectError
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.generation import generate
from override_gap.probes.readings.layers import read_causal, read_direct, read_layers
from override_gap.probes.readings.prior import Prior, locate, read_prior
from override_gap.probes.readings.reuse import ReusedPasses
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.subject.devices import DeviceMap, DevicesError, runs_on, spread_over_devices
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.partial_forward import ResumePoint
from override_gap.probes.subject.sites import base_bias, base_weight
from override_gap.probes.subject.stream_paths import StreamPath
from tests.conftest import conflict, random_adapter
from tests.families import GROUPED, build, down, many, words
from tests.probes.pretend import FIRST, SECOND, hooked, on, pretended

ITEMS = [conflict(0), conflict(1, "alpha beta", answer="red blue"), conflict(2, "mu nu xi omicron", prior="gamma")]
CPU = torch.device("cpu")
GAINS = (0.0, 0.5, 1.0, 2.0)
NORM = {"gpt2": "transformer.h.2.ln_1.weight"}


@pytest.fixture
def folder(family: str, tmp_path: Path) -> Path:
    model, tokenizer = build(family)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def opened(folder: Path, device: str, dtype: str = "auto") -> Subject:
    """A saved model with the tokenizer of whole words; a library may read the saved one as another kind."""
    return replace(open_subject(str(folder), device=device, dtype=dtype), tokenizer=words())


def partial_memory(folder: Path, share: float = 0.85) -> str:
    """A --device with memory for this share of a model: by accelerate's count some of its blocks; the rest goes to disk."""
    return f"map:cpu={share * (folder / 'model.safetensors').stat().st_size / 2**10:.1f}KiB"


def prior_of(subject: Subject) -> Prior:
    return read_prior(subject, ITEMS, [locate(subject, item) for item in ITEMS], layers=True)


def all_readings(subject: Subject, adapters: list[Adapter]) -> list[torch.Tensor]:
    """Prior, then margins, logits, attribution, lens and direct writing at every gain, and each layer alone and removed."""
    prior, stacked = prior_of(subject), stack(subject, adapters)
    assert prior.residual is not None
    readings = [prior.strength, prior.logits, prior.residual]
    for gain in GAINS:
        state = read_adapted(subject, prior, stacked, torch.full((len(ITEMS), subject.n_layers), gain), layers=True)
        profile, direct = read_layers(subject, prior, state), read_direct(subject, prior, state)
        readings += [state.margins.adapter, state.margins.prior, state.logits, profile.attribution, profile.lens]
        readings += [] if direct is None else [direct]
    shared = ReusedPasses(subject, prior, stacked, layers=True)
    readings.append(shared.run_delivered().margins.adapter)
    return readings + list(read_causal(subject, prior, stacked, [0, 1, 2], shared))


def test_readings_with_weights_on_disk_equal_those_in_memory(family: str, folder: Path, rng: torch.Generator) -> None:
    plain, spread = opened(folder, "cpu"), opened(folder, partial_memory(folder))
    offloaded = {name for name, weight in spread.model.named_parameters() if weight.is_meta}
    assert any(".1." in name for name in offloaded), "layers are on disk"
    assert spread.describe()["device"] == "cpu+disk"
    assert spread.fingerprint == plain.fingerprint
    adapters = [random_adapter(plain, rng, many(family)) for _ in ITEMS]
    paths = [path for path in plain.sites if path.endswith(down(family))]
    dense = torch.randn(base_weight(plain.sites[paths[2]]).shape, generator=rng) * 0.1
    norm = torch.randn(plain.d_model, generator=rng)
    adapters.append(Adapter("dense", {paths[2]: Dense(dense)}))
    adapters.append(Adapter("norm", {NORM.get(family, "model.layers.2.input_layernorm.weight"): Vector(norm)}))
    for batch in (adapters[:3], [adapters[3]] * 3, [adapters[4]] * 3):
        wanted, ours = all_readings(plain, batch), all_readings(spread, batch)
        assert wanted[-3].abs().max() > 0.01, "the adapter must matter for this test to mean anything"
        for one, other in zip(wanted, ours, strict=True):
            assert (one - other).abs().max() < 1e-5
    assert {name for name, weight in spread.model.named_parameters() if weight.is_meta} == offloaded, (
        "nothing stays behind"
    )
    assert spread.how_changed() is None


def test_offloaded_weights_read_outside_a_pass_equal_those_in_memory(family: str, folder: Path) -> None:
    plain, spread = opened(folder, "cpu"), opened(folder, partial_memory(folder))
    for path, site in plain.sites.items():
        assert torch.equal(base_weight(spread.sites[path]), base_weight(site)), path
        assert torch.equal(base_bias(spread.sites[path]), base_bias(site)), path


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_answers_and_fitted_adapters_with_weights_on_disk(family: str, folder: Path, rng: torch.Generator) -> None:
    from override_gap.margins.items.item import documents_of

    plain, spread = opened(folder, "cpu"), opened(folder, partial_memory(folder))
    documents = documents_of(ITEMS)
    wanted, ours = (FittedAdapters(s, steps=2).encode(documents) for s in (plain, spread))
    for one, other in zip(wanted, ours, strict=True):
        for path, update in one.updates.items():
            assert (update.dense() - other.updates[path].dense()).abs().max() < 1e-6
    ones = torch.ones(len(ITEMS), plain.n_layers)
    texts = [generate(s, ITEMS, stack(s, wanted), ones) for s in (plain, spread)]
    assert texts[0] == texts[1]
    assert any(texts[0])


def test_weights_are_converted_to_the_dtype_asked_for(tmp_path: Path) -> None:
    model, tokenizer = build("llama")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    plain, spread = (opened(tmp_path, d, "bfloat16") for d in ("cpu", partial_memory(tmp_path, 0.42)))
    assert any(weight.is_meta for weight in spread.model.parameters())
    assert spread.fingerprint == plain.fingerprint
    assert torch.equal(prior_of(plain).logits, prior_of(spread).logits)


def test_scratch_files_of_experts_are_removed_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a folder of its own: other tests write theirs at the same time
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    torch.manual_seed(0)
    MixtralForCausalLM(MixtralConfig(**GROUPED, num_local_experts=4)).eval().save_pretrained(tmp_path)
    words().save_pretrained(tmp_path)
    plain, spread = (opened(tmp_path, d) for d in ("cpu", partial_memory(tmp_path)))
    assert any(weight.is_meta for weight in spread.model.parameters())
    assert (prior_of(plain).logits - prior_of(spread).logits).abs().max() < 1e-5
    assert len(list(scratch.glob("override-gap-*"))) == 1
    del spread
    gc.collect()
    assert list(scratch.glob("override-gap-*")) == []


@pytest.mark.parametrize("bad", [None, "not finite"])
def test_offloaded_weights_that_are_not_finite_are_refused(bad: str | None, tmp_path: Path) -> None:
    model, tokenizer = build("llama")
    if bad:
        with torch.no_grad():
            model.model.layers[2].mlp.up_proj.weight[0, 0] = float("inf")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    if bad is None:
        assert any(
            weight.is_meta for weight in open_subject(str(tmp_path), device=partial_memory(tmp_path)).model.parameters()
        )
        return
    with pytest.raises(SubjectError, match="not all finite"):
        open_subject(str(tmp_path), device=partial_memory(tmp_path))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("map:", "need map, map:cpu=8GiB"),
        ("map:cpu", "need map, map:cpu=8GiB"),
        ("map:cpu=eight", "need map, map:cpu=8GiB"),
        ("map:cpu=infGiB", "need map, map:cpu=8GiB"),
        ("map:cpu=1GiB,cpu=2GiB", "need map, map:cpu=8GiB"),
        ("map:disk=1GiB", "need map, map:cpu=8GiB"),
        ("map:99=1GiB", "torch sees"),
        ("map:0=1GiB,cpu=1GiB", "cannot run a mixture"),
        ("map:cpu=20KiB", "cpu needs 4[0-9],[0-9]+ bytes"),
    ],
)
def test_impossible_device_maps_are_refused_in_one_line(device: str, message: str, tmp_path: Path) -> None:
    model, tokenizer = build("llama")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(SubjectError, match=message) as fault:
        open_subject(str(tmp_path), device=device)
    assert "\n" not in str(fault.value)


def test_blocks_are_spread_over_gpus_and_all_else_is_on_the_first(family: str) -> None:
    skeleton, _ = build(family)
    size = 4 * sum(p.numel() for p in skeleton.parameters())
    skeleton = skeleton.to("meta")
    placed = spread_over_devices(skeleton, DeviceMap({0: int(0.9 * size), 1: size}), torch.float32)
    blocks = {name: device for name, device in placed.items() if name.endswith((".0", ".1", ".2"))}
    assert set(blocks.values()) == {0, 1}
    assert list(blocks.values()) == sorted(blocks.values()), "the stream crosses to the second device once"
    assert {device for name, device in placed.items() if name not in blocks} == {0}
    for name, _ in skeleton.named_parameters():
        assert sum(name.startswith(f"{key}.") for key in placed) == 1, f"{name} is on one device"
    with pytest.raises(DevicesError, match="cannot hold the model"):
        spread_over_devices(skeleton, DeviceMap({0: int(0.7 * size), 1: size // 20}), torch.float32)


@torch.no_grad()
def test_every_tensor_is_on_its_device_over_two_pretend_ones(
    family: str, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fake tensors refuse to meet one of another device; they hold no numbers, so what reads numbers is left out."""
    subject = hooked(family)
    adapters = [random_adapter(subject, rng, many(family)) for _ in ITEMS]
    path = next(path for path in reversed(subject.sites) if path.endswith(down(family)))
    site = subject.sites[path]
    adapters.append(Adapter("dense", {path: Dense(torch.zeros(site.d_out, site.d_in))}))
    prior = prior_of(subject)
    monkeypatch.setattr("override_gap.probes.attach.stack.check", lambda *_: None)  # it reads numbers
    straight = {path: StreamPath(1.0 if path.endswith(down(family)) else None) for path in subject.sites}
    monkeypatch.setattr(subject.stream, "of", lambda paths: {path: straight[path] for path in paths})  # so does this
    monkeypatch.setattr(subject.rows, "of", lambda paths: dict.fromkeys(paths, "rows"))  # and this
    with pretended(subject, [1, 2]) as mode:
        sites = {path: replace(site, module=on(site.module, CPU)) for path, site in subject.sites.items()}
        subject, prior = replace(subject, norm=on(subject.norm, FIRST), sites=sites), on(prior, FIRST)
        assert [runs_on(block) for block in subject.blocks] == [FIRST, SECOND, SECOND]
        with pytest.raises(RuntimeError, match="at least two devices"):
            prior.logits + prior.logits.to(SECOND)
        plain = [replace(a, updates={p: on(u, CPU) for p, u in a.updates.items()}) for a in adapters]
        assert isinstance(mode, FakeTensorMode)
        for batch in (plain[:3], [plain[3]] * 3):
            stacked, ones = stack(subject, batch), torch.ones(3, subject.n_layers)
            state = read_adapted(subject, prior, stacked, ones, layers=True, keep_blocks=True)
            blocks = state.block_outputs
            assert blocks is not None
            assert {_tensor(output).device for output in blocks.outputs} == {FIRST, SECOND}
            for layer in (1, 2):
                point = ResumePoint(blocks, layer, state.residual, state.written)
                state = read_adapted(subject, prior, stacked, ones, layers=True, resume=point)
                assert state.margins.adapter.device == FIRST
                assert read_layers(subject, prior, state).lens.device == FIRST
                read_direct(subject, prior, state)


def _tensor(output: object) -> torch.Tensor:
    tensor = output[0] if isinstance(output, tuple) else output
    assert isinstance(tensor, torch.Tensor)
    return tensor
