"""Folders of adapters at any depth: whose is which, twins, maps, and the part that all share, against PEFT's own forward."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from override_gap.margins.items.item import Document
from override_gap.probes.errors import AdapterChanged, AdapterError
from override_gap.probes.sources import open_source
from override_gap.probes.sources.adapter_map import read_map
from override_gap.probes.sources.peft_folder import WEIGHTS, PeftFolder
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.subject.model import Subject
from tests.conftest import random_adapter, tiny

DOCUMENTS = [Document(f"text {n}", (f"c{n}", f"d{n}"), (f"p{n}",)) for n in range(3)]


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny("llama")


def made(subject: Subject, rng: torch.Generator, *folders: Path, scale: float = 1.0):
    """An adapter of the gate, up and down maps as Parametric RAG has them (rank 2, alpha 32), written to each folder."""
    adapter = random_adapter(subject, rng, ("gate_proj", "up_proj", "down_proj"), rank=2)
    for folder in folders:
        write_adapter(adapter, folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 32 * scale}))
    return adapter


def updates(subject: Subject, path: Path, document: Document, **settings):
    return PeftFolder(subject, path, **settings).encode([document])[0]


def test_adapters_lie_at_any_depth_and_are_found_by_the_end_of_their_path(subject, tmp_path, rng) -> None:
    tree = tmp_path / "rank=2_alpha=32" / "popqa" / "total"
    deep = [made(subject, rng, tree / f"data_{n}" / "passage_0") for n in range(3)]
    for n in range(3):
        document = Document("text", (f"data_{n}/passage_0",), ("p",))
        adapter = updates(subject, tmp_path, document)
        assert adapter.name == f"rank=2_alpha=32/popqa/total/data_{n}/passage_0"
        for path, update in adapter.updates.items():
            torch.testing.assert_close(update.dense(), 16 * deep[n].updates[path].dense())
    by_folder_above = updates(subject, tmp_path, Document("text", ("x",), ("data_1",)))
    assert by_folder_above.name.endswith("data_1/passage_0")
    made(subject, rng, tree / "data_1" / "passage_1")
    with pytest.raises(AdapterError, match=r"data_1/passage_0 and .*data_1/passage_1, which differ"):
        updates(subject, tmp_path, Document("text", ("x",), ("data_1",)))
    with pytest.raises(AdapterError, match="nothing for document 'text'"):
        updates(subject, tmp_path, Document("text", ("assage_0",), ("data_",)))


def test_checkpoints_below_an_adapters_folder_are_not_looked_at(subject, tmp_path, rng) -> None:
    for n in range(2):
        made(subject, rng, tmp_path / "c0" / f"checkpoint-{n}")
    made(subject, rng, tmp_path / "c0")
    assert updates(subject, tmp_path, DOCUMENTS[0]).name == "c0"
    assert set(PeftFolder(subject, tmp_path).tree.adapters) == {"c0"}


def test_links_that_lead_round_in_circles_have_an_end(subject, tmp_path, rng) -> None:
    made(subject, rng, tmp_path / "a" / "c0")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    (tmp_path / "other").symlink_to(tmp_path / "a")
    assert set(PeftFolder(subject, tmp_path).tree.adapters) == {"a/c0", "other/c0"}
    assert updates(subject, tmp_path, DOCUMENTS[0]).name == "a/c0"


def test_folders_without_end_are_refused(subject, tmp_path) -> None:
    (tmp_path / "/".join("d" * 40)).mkdir(parents=True)
    with pytest.raises(AdapterError, match="folders 32 deep; give the one that holds the adapters"):
        open_source(str(tmp_path), subject)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "it is empty"),
        (["a/b/adapter_model.safetensors"], "holds 1 file: a/b/adapter_model.safetensors .weights without"),
        (
            ["a/adapter_model.bin", "a/x", "b", "c"],
            r"holds 4 files: a/adapter_model.bin, a/x, b, ... \(weights without",
        ),
        (["factors.safetensors"], "named with its form"),
        (["config.json", "model.safetensors"], "a whole model's folder"),
    ],
)
def test_a_folder_without_an_adapter_says_what_it_holds(files, message, subject, tmp_path) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(AdapterError, match=message):
        updates(subject, tmp_path, DOCUMENTS[0])


def test_two_names_of_one_document_with_equal_tensors_are_one(subject, tmp_path, rng) -> None:
    adapter = made(subject, rng, tmp_path / "c0", tmp_path / "d0")
    source = PeftFolder(subject, tmp_path)
    assert source.encode(DOCUMENTS[:1])[0].updates.keys() == adapter.updates.keys()
    assert "1 document filed under more than one name (c0 and d0" in source.notes_on(DOCUMENTS)[0]
    config = json.loads((tmp_path / "d0" / "adapter_config.json").read_text())
    (tmp_path / "d0" / "adapter_config.json").write_text(json.dumps(config | {"revision": "other"}))
    assert updates(subject, tmp_path, DOCUMENTS[0]).name == "c0", "other bytes, the same update"
    (tmp_path / "d0" / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 33}))
    with pytest.raises(AdapterError, match="matches both c0 and d0, which differ"):
        updates(subject, tmp_path, DOCUMENTS[0])


@pytest.mark.parametrize("form", ["dense", "generative-adapter"])
def test_two_entries_of_one_document_in_a_file(form: str, subject, tmp_path, rng) -> None:
    file, prefix = tmp_path / "factors.safetensors", "" if form == "dense" else "documents/"
    keys = (
        ("model.layers.0.mlp.up_proj.A", "model.layers.0.mlp.up_proj.B")
        if form == "dense"
        else ("mlp.up_proj/A", "mlp.up_proj/B")
    )
    site = subject.sites["model.layers.0.mlp.up_proj"]
    shapes = [(2, site.d_in), (site.d_out, 2)] if form == "dense" else [(1, 2, site.d_in), (1, site.d_out, 2)]
    one = [torch.randn(shape, generator=rng) for shape in shapes]
    tensors = {f"{prefix}{name}/{key}": t.clone() for name in ("c0", "d0") for key, t in zip(keys, one, strict=True)}
    save_file(tensors, file, metadata={"lora_alpha": "2"})
    source = open_source(f"{form}:{file}", subject)
    update = source.encode(DOCUMENTS[:1])[0].updates["model.layers.0.mlp.up_proj"]
    torch.testing.assert_close(update.dense(), one[1].reshape(-1, 2) @ one[0].reshape(2, -1))
    assert "c0 and d0" in source.notes_on(DOCUMENTS)[0]
    save_file({**tensors, f"{prefix}d0/{keys[0]}": one[0] + 1}, file, metadata={"lora_alpha": "2"})
    with pytest.raises(AdapterError, match="matches both c0 and d0, which differ"):
        open_source(f"{form}:{file}", subject).encode(DOCUMENTS[:1])


@pytest.mark.parametrize("form", ["json", "csv", "csv without a head"])
def test_a_map_says_which_folder_is_whose(form: str, subject, tmp_path, rng) -> None:
    rows = {"c0": "run/a", "p1": "run/b/", DOCUMENTS[2].key: "run/a/kept", "c2": "run/b", "c9": "run/b"}
    for folder in ("run/a", "run/b", "run/a/kept"):
        made(subject, rng, tmp_path / folder)
    file = tmp_path / "map"
    csv = "".join(f"{name},{path}\n" for name, path in rows.items())
    file.write_text({"json": json.dumps(rows), "csv": f"document,path\n{csv}"}.get(form, csv))
    source = open_source(str(tmp_path), subject, adapter_map=str(file))
    assert [a.name for a in source.encode(DOCUMENTS)] == ["run/a", "run/b", "run/a/kept"]
    assert source.notes_on(DOCUMENTS) == [f"{file}: 1 of 5 rows is for no document of these items (c9)"]
    unscaled = open_source(f"unscaled:{tmp_path}", subject, adapter_map=str(file)).encode(DOCUMENTS)
    assert [a.name.rsplit(":")[-1] for a in unscaled] == ["run/a", "run/b", "run/a/kept"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(rows | {"c0": "run/b"}))
    assert open_source(str(tmp_path), subject, adapter_map=str(other)).settings != source.settings


@pytest.mark.parametrize("form", ["folder", "unscaled", "dense"])
def test_a_document_without_a_row_is_told_of_the_map_that_was_given(form: str, subject, tmp_path, rng) -> None:
    made(subject, rng, tmp_path / "tree" / "a", tmp_path / "tree" / "b")
    edit = torch.ones(subject.sites["model.layers.0.mlp.up_proj"].d_out, subject.d_model)
    save_file({"a/model.layers.0.mlp.up_proj.weight": edit}, tmp_path / "e.safetensors")
    (tmp_path / "map.csv").write_text("c0,a\n")
    spec = {
        "folder": f"{tmp_path}/tree",
        "unscaled": f"unscaled:{tmp_path}/tree",
        "dense": f"dense:{tmp_path}/e.safetensors",
    }
    source = open_source(spec[form], subject, adapter_map=str(tmp_path / "map.csv"))
    assert len(source.encode(DOCUMENTS[:1])) == 1
    message = rf"no row for it in .*map\.csv; add one for {DOCUMENTS[1].key} \(its key\)"
    with pytest.raises(AdapterError, match=message) as fault:
        source.encode(DOCUMENTS[1:2])
    assert "give --adapter-map" not in str(fault.value)
    with pytest.raises(AdapterError, match="or give --adapter-map"):
        open_source(spec[form], subject).encode(DOCUMENTS[1:2])


def test_a_map_names_the_entries_of_a_file(subject, tmp_path, rng) -> None:
    edits = [
        torch.randn(subject.sites["model.layers.0.mlp.up_proj"].d_out, subject.d_model, generator=rng) for _ in "01"
    ]
    save_file(
        {f"edit-{n}/model.layers.0.mlp.up_proj.weight": e for n, e in enumerate(edits)}, tmp_path / "e.safetensors"
    )
    (tmp_path / "map.json").write_text(json.dumps({"c0": "edit-1", "p1": "edit-0", "c2": "edit-7"}))
    source = open_source(f"dense:{tmp_path / 'e.safetensors'}", subject, adapter_map=str(tmp_path / "map.json"))
    for adapter, edit in zip(source.encode(DOCUMENTS[:2]), reversed(edits), strict=True):
        assert torch.equal(adapter.updates["model.layers.0.mlp.up_proj"].dense(), edit)
    with pytest.raises(AdapterError, match="--adapter-map names entry 'edit-7', which is not among its 2"):
        source.encode(DOCUMENTS)


HOSTILE = ["../outside", "/etc", "a/../../outside", "C:/x", "..", "a\\..\\b", "", " ", "a\0b"]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_path_out_of_the_folder_is_refused(path: str, tmp_path) -> None:
    (tmp_path / "map.json").write_text(json.dumps({"c0": path}))
    with pytest.raises(AdapterError, match="inside it, with / between folders"):
        read_map(tmp_path / "map.json")


def test_a_link_out_of_the_folder_is_refused(subject, tmp_path, rng) -> None:
    made(subject, rng, tmp_path / "outside" / "secret", tmp_path / "in" / "c1")
    (tmp_path / "in" / ".hidden").symlink_to(tmp_path / "outside")
    (tmp_path / "map.json").write_text(json.dumps({"c0": ".hidden/secret"}))
    with pytest.raises(AdapterError, match="a link out of the folder"):
        open_source(str(tmp_path / "in"), subject, adapter_map=str(tmp_path / "map.json")).encode(DOCUMENTS[:1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("[]", "need one JSON object"),
        ('{"c0": 1}', "need one JSON object"),
        ('{"c0": "a", "c0": "b"}', "given twice"),
        ('{"c0": ', "cannot be read as JSON"),
        ("c0,a\nc0,b\n", "row 2: 'c0' is given twice"),
        ("c0\n", "row 1 has 1 cell"),
        ("c0,a,b\n", "row 1 has 3 cells"),
        ('c0,"a\n', "cannot be read as CSV"),
        ("c0;a\nc1;b\n", "row 1 has 1 cell; need two, .* with a comma between them, not semicolons"),
        ("document\tpath\nc0\ta\n", "row 1 has 1 cell; need two, .* with a comma between them, not tabs"),
        (b"\xff\xfe", r"map: not UTF-8 \(byte 1\); save it as UTF-8"),
        ("c0,caf\xe9\n".encode("latin-1"), r"map: not UTF-8 \(byte 7\)"),
    ],
)
def test_what_is_no_map_is_an_error_of_one_line(text, message: str, tmp_path) -> None:
    file = tmp_path / "map"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AdapterError, match=message) as fault:
        read_map(file)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("spec", ["compact:x.safetensors", "fitted", "my_method:source"])
def test_a_map_or_a_shared_adapter_without_a_folder_is_refused(spec: str, subject, tmp_path) -> None:
    for flag in ("adapter_map", "shared_adapter"):
        with pytest.raises(AdapterError, match=f"--{flag.replace('_', '-')} is"):
            open_source(spec, subject, **{flag: str(tmp_path)})


def test_own_and_shared_part_together_are_the_full_adapter_in_pefts_own_forward(subject, tmp_path, rng) -> None:
    """Parametric RAG: every passage's adapter begins as the warm start, which is then in all of them."""
    from peft import PeftModel

    from override_gap.probes.attach.hooks import attached
    from override_gap.probes.attach.stack import stack
    from tests.families import build

    made(subject, rng, tmp_path / "warm")
    warm = load_file(tmp_path / "warm" / WEIGHTS)
    for n in range(2):
        made(subject, rng, tmp_path / "tree" / f"data_{n}" / "passage_0")
        trained = {key: t + 0.1 * torch.randn(t.shape, generator=rng) for key, t in warm.items()}
        save_file(trained, tmp_path / "tree" / f"data_{n}" / "passage_0" / WEIGHTS)
    source = open_source(str(tmp_path / "tree"), subject, shared_adapter=str(tmp_path / "warm"))
    documents = [Document(f"t{n}", (f"data_{n}/passage_0",), ("p",)) for n in range(2)]
    ids = torch.tensor([[5, 6, 7, 8]])
    for n, adapter in enumerate(source.encode(documents)):
        assert 0 < adapter.norm("document") < 0.9 * adapter.norm("shared")
        model, _ = build("llama")
        with torch.no_grad():
            theirs = PeftModel.from_pretrained(model, tmp_path / "tree" / f"data_{n}" / "passage_0")(
                input_ids=ids
            ).logits
            with attached(subject, stack(subject, [adapter]), torch.ones(1, subject.n_layers)):
                ours = subject.model(input_ids=ids).logits
        assert (ours - theirs).abs().max() < 1e-4
    one, other = source.encode(documents)
    assert all(torch.equal(one.shared[path].dense(), other.shared[path].dense()) for path in one.shared)
    assert "shared" in source.settings


def test_a_shared_adapter_is_one_folder(subject, tmp_path, rng) -> None:
    made(subject, rng, tmp_path / "tree" / "c0")
    with pytest.raises(
        AdapterError, match=r"need one adapter's folder, with adapter_config\.json in it; found 1 adapter below"
    ):
        open_source(str(tmp_path / "tree"), subject, shared_adapter=str(tmp_path / "tree")).encode(DOCUMENTS[:1])


def test_an_adapter_that_changed_after_it_was_hashed_is_not_read(subject, tmp_path, rng) -> None:
    made(subject, rng, tmp_path / "c0")
    source = PeftFolder(subject, tmp_path)
    before = source.settings
    made(subject, rng, tmp_path / "c0")
    assert source.settings == before, "the identity is of what was there when the folder was opened"
    with pytest.raises(AdapterChanged, match=r"c0/adapter_model\.safetensors has changed since it was opened"):
        source.encode(DOCUMENTS[:1])
    (tmp_path / "c0" / WEIGHTS).unlink()
    with pytest.raises(AdapterChanged):
        source.encode(DOCUMENTS[:1])
