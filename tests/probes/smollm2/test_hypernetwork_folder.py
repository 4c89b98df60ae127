"""A trained hypernetwork: its folder, its base, and the adapters of its source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from override_gap.margins.items.item import Document, Item, documents_of
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.smollm2.evaluate import accuracies
from override_gap.probes.smollm2.hypernetwork import applied
from override_gap.probes.smollm2.hypernetwork_folder import FILE, load
from override_gap.probes.smollm2.train import main, train
from override_gap.probes.smollm2.training import TrainingRecipe
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject
from tests.conftest import tiny
from tests.families import build

RECIPE = TrainingRecipe(steps=2, documents=2, rank=2, width=24, first_layer=1, warmup=1)
ITEMS = [
    Item(name, name, "novel", document, "alpha beta gamma", "delta")
    for name, document in {"a": "alpha beta gamma delta .", "b": "red green blue one two three ."}.items()
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    llama, tokenizer = build("llama")
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    lines: list[str] = []
    train(model, folder, RECIPE, lines.append, every=1, size=4)
    assert [line.split(" ")[1] for line in lines if line.startswith("step ")] == ["1/2", "2/2"]
    return folder


def test_the_folder_records_settings_and_figures(trained: Path) -> None:
    hypernetwork = load(trained)
    assert hypernetwork.intact()
    assert hypernetwork.recipe["training"]["steps_taken"] == 2
    marks = hypernetwork.recipe["marks"].items()
    successes = {kind: [mark == "+" for mark in outcomes] for kind, outcomes in marks}
    assert len(successes["novel"]) == 4
    assert accuracies(successes) == pytest.approx(hypernetwork.recipe["figures"])


def test_the_sources_adapters_match_the_hypernetworks_updates(model: Path, trained: Path) -> None:
    """The same logits by two routes: the toolkit's hooks on the wrapped model, and those of training on the bare one."""
    subject = open_subject(str(model), device="cpu", dtype="float32")
    source = open_source(f"hypernetwork:folder={trained}", subject)
    assert source.settings["sha256"] == load(trained).digest
    adapters = source.encode(documents_of(ITEMS))
    questions = torch.tensor([[3, 4, 5], [3, 4, 5]])
    hypernetwork = source.hypernetwork
    factors = hypernetwork.encode([item.document for item in ITEMS])
    with torch.no_grad():
        before = hypernetwork.base(input_ids=questions).logits
        with applied(hypernetwork.base, factors, torch.tensor([[0], [1]]).expand(2, 3)):
            expected = hypernetwork.base(input_ids=questions).logits
        with attached(subject, stack(subject, adapters), torch.ones(2, subject.n_layers)):
            adapted = subject.model(input_ids=questions).logits
    assert (expected - before).abs().max() > 1e-3
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    assert (adapted - expected).abs().max() < 1e-4


def test_shipped_weights_are_chosen_by_the_bases_fingerprint(
    model: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`hypernetwork` without a folder, where the package ships this one."""
    monkeypatch.setattr("override_gap.probes.sources.hypernetwork.WEIGHTS", trained)
    source = open_source("hypernetwork", open_subject(str(model), device="cpu", dtype="float32"))
    assert source.settings["sha256"] == load(trained).digest
    with pytest.raises(AdapterError, match="trained on these weights"):
        open_source("hypernetwork", tiny("llama"))


def test_another_base_is_refused(model: Path, trained: Path) -> None:
    with pytest.raises(AdapterError, match="has other weights"):
        open_source(f"hypernetwork:folder={trained}", tiny("llama"))
    altered = open_subject(str(model), device="cpu", dtype="bfloat16")
    altered.model.model.layers[1].mlp.down_proj.weight[0, 0] += 1
    with pytest.raises(AdapterError, match="has other weights"):
        open_source(f"hypernetwork:folder={trained}", altered)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_same_base_in_fewer_digits_gets_the_same_adapters(model: Path, trained: Path, dtype: str) -> None:
    """The base is that in float32 whose weights round to the subject's; documents are read with that one."""
    exact, rounded = (
        open_source(f"hypernetwork:folder={trained}", open_subject(str(model), device="cpu", dtype=name)).encode(
            [Document("The gate of Orm moved to Vell.")]
        )[0]
        for name in ("float32", dtype)
    )
    assert exact.hash() == rounded.hash()


def test_an_altered_file_is_refused(model: Path, trained: Path, tmp_path: Path) -> None:
    for name in (FILE, "recipe.json"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    data = bytearray((tmp_path / FILE).read_bytes())
    data[-1] ^= 1
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(AdapterError, match=r"not those that recipe\.json records"):
        open_source(f"hypernetwork:folder={tmp_path}", open_subject(str(model), device="cpu", dtype="float32"))


def test_a_folder_without_a_hypernetwork_is_told(model: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no hypernetwork here"):
        open_source(f"hypernetwork:folder={tmp_path}", open_subject(str(model), device="cpu", dtype="float32"))


def test_a_fault_is_refused(model: Path, trained: Path) -> None:
    with pytest.raises(AdapterError, match="organism's hypernetwork alone"):
        open_source(
            f"hypernetwork:folder={trained},fault=wrong-content",
            open_subject(str(model), device="cpu", dtype="float32"),
        )


def test_a_checkpoint_is_written_out_as_it_is(model: Path, trained: Path, tmp_path: Path) -> None:
    for name in ("checkpoint.pt", "beliefs.json"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    rewritten = train(model, tmp_path, RECIPE, lambda _: None, write=True, size=4)
    assert rewritten.digest == load(trained).digest
    assert rewritten.recipe["figures"] == load(trained).recipe["figures"]


def test_training_does_not_overwrite_a_checkpoint(trained: Path, model: Path, tmp_path: Path, capsys) -> None:
    assert main(["--out", str(trained), "--model", str(model)]) == 2
    assert "give --resume" in capsys.readouterr().err
    assert main(["--out", str(tmp_path), "--model", str(model), "--write"]) == 2
    assert "no checkpoint to write out" in capsys.readouterr().err
    assert json.loads((trained / "beliefs.json").read_text()).keys() == {"weak", "known"}
