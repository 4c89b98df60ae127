"""Exported adapters: read by PEFT they are the same model, read here the same adapters; what a form cannot hold is refused."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from override_gap.margins.adapter import Adapter, traits_of
from override_gap.margins.items.files import write_items
from override_gap.margins.items.item import Document, documents_of
from override_gap.margins.updates import Dense, LowRank, Vector
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.sources import open_source
from override_gap.probes.sources.compact_index import write_compact
from override_gap.probes.sources.export import export
from override_gap.probes.sources.peft_write import factored
from override_gap.probes.subject.model import Subject
from override_gap.reports.cli.main import main
from tests.conftest import conflict, random_adapter, tiny
from tests.families import build

ITEMS = [conflict(1), conflict(2, "zeta eta theta")]
DOCUMENTS = documents_of(ITEMS)
IDS = torch.tensor([[3, 4, 5, 6]])
MAPS = {
    "llama": ("model.layers.1.mlp.down_proj", "model.layers.0.self_attn.q_proj", "model.layers.2.mlp.up_proj"),
    "gpt2": ("transformer.h.1.mlp.c_proj", "transformer.h.0.attn.c_attn", "transformer.h.2.mlp.c_fc"),
}


class FixedSource:
    """A source that returns stated adapters, by document key."""

    name, settings, reads_questions = "given", {}, False

    def __init__(self, adapters: dict[str, Adapter]) -> None:
        self.adapters = adapters

    def encode(self, documents):
        return [self.adapters[document.key] for document in documents]


def mixed(subject: Subject, family: str, rng: torch.Generator) -> FixedSource:
    """Low-rank factors of two scales with a shared part, a dense update with its bias, and a bias alone."""
    low, dense, biased = MAPS[family]
    adapters = {}
    for n, document in enumerate(DOCUMENTS):
        factors = random_adapter(subject, rng, (low,), rank=n + 1).updates
        site = subject.sites[dense]
        more = {
            dense: Dense(torch.randn(site.d_out, site.d_in, generator=rng) * 0.2),
            f"{dense}.bias": Vector(torch.randn(site.d_out, generator=rng)),
            f"{biased}.bias": Vector(torch.randn(subject.sites[biased].d_out, generator=rng)),
        }
        shared = random_adapter(subject, rng, (low,), rank=1).updates
        adapters[document.key] = Adapter(f"given:{n}", {**factors, **more}, shared)
    return FixedSource(adapters)


@pytest.mark.parametrize("family", sorted(MAPS))
def test_peft_gives_the_same_logits_from_exported_folders(family: str, rng: torch.Generator, tmp_path: Path) -> None:
    subject = tiny(family)
    source = mixed(subject, family, rng)
    assert export(subject, source, DOCUMENTS, "peft", tmp_path / "out") == 2
    read = open_source(str(tmp_path / "out"), subject)
    assert traits_of(read).base_fingerprint == subject.fingerprint
    for document, ours in zip(DOCUMENTS, read.encode(DOCUMENTS), strict=True):
        with torch.no_grad():
            theirs = PeftModel.from_pretrained(build(family)[0], tmp_path / "out" / document.key)(input_ids=IDS).logits
            base = subject.model(input_ids=IDS).logits
            for adapter in (source.adapters[document.key], ours):
                with attached(subject, stack(subject, [adapter]), torch.ones(1, subject.n_layers)):
                    assert (subject.model(input_ids=IDS).logits - theirs).abs().max() < 1e-4
        assert (theirs - base).abs().max() > 0.1
    index = json.loads((tmp_path / "out" / "override_gap.json").read_text())
    wanted = {d.key: (list(d.ids), list(d.points), source.adapters[d.key].hash()) for d in DOCUMENTS}
    assert {e["key"]: (e["ids"], e["points"], e["sha256"]) for e in index["documents"]} == wanted


def test_a_compact_file_gives_the_same_adapters_for_the_same_base_only(rng: torch.Generator, tmp_path: Path) -> None:
    subject = tiny("llama")
    source = mixed(subject, "llama", rng)
    export(subject, source, DOCUMENTS, "compact", tmp_path / "c.safetensors")
    read = open_source(f"compact:{tmp_path / 'c.safetensors'}", subject)
    assert [a.hash() for a in read.encode(DOCUMENTS)] == [source.adapters[d.key].hash() for d in DOCUMENTS]
    assert read.name == "given"
    assert [c.name for c in check_adapters(subject, read, ITEMS).failed] == []
    assert [c.name for c in check_adapters(tiny("mistral"), read, ITEMS).failed] == ["base"]


def test_a_compact_file_of_an_editor_says_that_it_was_told_the_questions(rng: torch.Generator, tmp_path: Path) -> None:
    subject = tiny("llama")
    source = mixed(subject, "llama", rng)
    for told in (False, True):
        source.reads_questions = told
        export(subject, source, DOCUMENTS, "compact", tmp_path / f"{told}.safetensors")
        assert traits_of(open_source(f"compact:{tmp_path / f'{told}.safetensors'}", subject)).reads_questions is told


def test_a_dense_update_is_its_factors_at_its_own_rank(rng: torch.Generator) -> None:
    full = torch.randn(7, 5, generator=rng)
    thin = torch.randn(7, 2, generator=rng) @ torch.randn(2, 5, generator=rng)
    assert [factored(delta).rank for delta in (full, thin)] == [5, 2]
    for delta in (full, thin):
        assert (factored(delta).dense() - delta).abs().max() < 1e-5


def test_what_a_form_cannot_hold_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    subject = tiny("llama")
    norm = Adapter("n", {"model.layers.1.input_layernorm.weight": Vector(torch.ones(32))})
    bad = Adapter("b", {"model.layers.1.mlp.nothing": LowRank(torch.ones(1, 2), torch.ones(2, 1))})
    for adapter, message in ((norm, "is a vector but not the bias of a linear map"), (bad, "no linear map")):
        source = FixedSource({d.key: adapter for d in DOCUMENTS})
        with pytest.raises(AdapterError, match=message):
            export(subject, source, DOCUMENTS, "peft", tmp_path / "out")
        assert not list(tmp_path.iterdir())
    export(subject, FixedSource({d.key: norm for d in DOCUMENTS}), DOCUMENTS, "compact", tmp_path / "out")
    with pytest.raises(AdapterError, match="exists"):
        export(subject, FixedSource({}), DOCUMENTS, "compact", tmp_path / "out")


@pytest.mark.parametrize("form", ["peft", "compact"])
def test_an_export_holds_the_adapters_of_a_few_documents(
    form: str, rng: torch.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, alive, most = tiny("llama"), [], []
    monkeypatch.setattr("override_gap.probes.sources.export.AT_ONCE", 3)

    class Counted:
        name, settings = "counted", {}

        def encode(self, documents):
            made = [random_adapter(subject, rng, ("down_proj",)) for _ in documents]
            alive.extend(map(weakref.ref, made))
            most.append(sum(ref() is not None for ref in alive))
            return made

    documents = [Document(f"text {n}") for n in range(10)]
    assert export(subject, Counted(), documents, form, tmp_path / "out") == 10
    # the last of one group is still held while the next is made
    assert len(most) == 4
    assert max(most) <= 3 + 1
    assert (
        len(open_source(f"{'compact:' if form == 'compact' else ''}{tmp_path / 'out'}", subject).encode(documents))
        == 10
    )


def test_a_compact_entry_of_another_text_is_not_used(rng: torch.Generator, tmp_path: Path) -> None:
    subject, file = tiny("llama"), tmp_path / "c.safetensors"
    adapter = random_adapter(subject, rng, ("down_proj",))
    write_compact(file, DOCUMENTS, [adapter, adapter], method="m")
    changed = Document("another text", DOCUMENTS[0].ids)
    with pytest.raises(AdapterError, match="for another text"):
        open_source(f"compact:{file}", subject).encode([changed])


@pytest.mark.parametrize("equal", [True, False])
def test_two_entries_of_one_key_are_one_where_their_adapters_are_equal(
    equal: bool, rng: torch.Generator, tmp_path: Path
) -> None:
    subject, file = tiny("llama"), tmp_path / "c.safetensors"
    first, second = (random_adapter(subject, rng, ("down_proj",)) for _ in range(2))
    write_compact(file, DOCUMENTS, [first, first if equal else second], method="m")
    with safe_open(file, framework="pt") as stream:
        metadata = stream.metadata()
    index = json.loads(metadata["index"])
    index["documents"][1]["key"] = DOCUMENTS[0].key
    save_file(load_file(file), file, metadata={**metadata, "index": json.dumps(index)})
    source = open_source(f"compact:{file}", subject)
    if equal:
        assert source.encode(DOCUMENTS[:1])[0].hash() == first.hash()
    else:
        with pytest.raises(AdapterError, match="2 entries match"):
            source.encode(DOCUMENTS[:1])


@pytest.mark.parametrize("form", ["dense", "generative-adapter"])
def test_a_files_fingerprint_is_checked(form: str, tmp_path: Path) -> None:
    subject = tiny("llama")
    tensors = {
        "dense": {"c1/model.layers.1.mlp.down_proj.weight": torch.ones(32, 48)},
        "generative-adapter": {
            "documents/c1/down_proj/A": torch.ones(3, 1, 48), "documents/c1/down_proj/B": torch.ones(3, 32, 1)
        },
    }[form]  # fmt: skip
    for fingerprint, failed in ((subject.fingerprint, []), ("0" * 64, ["base"])):
        metadata = {"lora_alpha": "1", "base_fingerprint": fingerprint}
        save_file(tensors, tmp_path / "f.safetensors", metadata=metadata)
        source = open_source(f"{form}:{tmp_path / 'f.safetensors'}", subject)
        assert [c.name for c in check_adapters(subject, source, ITEMS[:1]).failed] == failed


@pytest.mark.parametrize("form", ["peft", "compact"])
def test_the_command_line_exports_what_it_then_reads(form: str, tmp_path: Path, capsys) -> None:
    lm, tokenizer = build("llama")
    lm.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    write_items(ITEMS, tmp_path / "items.jsonl")
    words = ["--subject", str(tmp_path / "model"), "--items", str(tmp_path / "items.jsonl")]
    method = ["--adapters", "fitted:steps=3,lr=3e-2"]
    out = ["--form", form, "--out", str(tmp_path / "out")]
    assert main(["adapters", "export", *words, *method, *out]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed.startswith("2 adapters: --adapters ")
    assert main(["handshake", *words, "--adapters", printed.split("--adapters ")[1]]) == 0
    assert "FAILED" not in capsys.readouterr().out
    assert main(["adapters", "export", *words, *method, *out]) == 2
    assert "exists; name a new" in capsys.readouterr().err
