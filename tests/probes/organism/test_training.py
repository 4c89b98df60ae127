"""Training a tiny organism, and reading it back from its folder."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from override_gap.probes.organism.base import BaseRecipe
from override_gap.probes.organism.evaluate import evaluate, shortfalls
from override_gap.probes.organism.load import Organism, load
from override_gap.probes.organism.train import OrganismRecipe, train
from override_gap.probes.organism.training import HypernetworkRecipe
from override_gap.probes.organism.world import Size

TINY = OrganismRecipe(
    Size(
        entities=30, objects=6, lands=3, seen=120, top_frequency=60, readings=300, hop_readings=50, land_statements=5,
        novel_points=6, combination_points=4, conflict_points=9, retention_documents=6,
    ),
    BaseRecipe(layers=2, d_model=32, d_ff=48, width=36, batch=16, warmup=10),
    HypernetworkRecipe(
        steps=200, documents=12, learning_rate=6e-3, warmup=5, rise=4.0, keep=1.0, rank=2, width=32, blocks=1
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Organism, list[str]]:
    lines: list[str] = []
    return train(5, tmp_path_factory.mktemp("organism") / "one", TINY, log=lines.append), lines


def test_both_losses_fall(trained: tuple[Organism, list[str]]) -> None:
    words = [line.split() for line in trained[1]]
    answer_loss = [float(line[line.index("answer") + 2]) for line in words if "answer" in line]
    assert answer_loss[-1] < answer_loss[0] - 0.3
    base = [float(line[-1]) for line in words if line[:2] == ["base:", "step"]]
    assert base[0] == pytest.approx(5.0, abs=0.7)  # log of a vocabulary of 138 words, before the first step


def test_the_seed_decides_every_weight(trained: tuple[Organism, list[str]], tmp_path: Path) -> None:
    again = train(5, tmp_path / "two", TINY, log=lambda _: None)
    assert again.recipe["sha256"] == trained[0].recipe["sha256"]


def test_the_recorded_figures_are_those_of_the_folder(trained: tuple[Organism, list[str]]) -> None:
    organism = load(folder=trained[0].folder)
    figures = evaluate(organism.hypernetwork, organism.items)
    assert json.dumps(figures) == json.dumps(organism.recipe["figures"])  # as text, in which NaN equals NaN
    assert organism.hypernetwork.settings == organism.recipe["hypernetwork"]["shape"]


def test_transformers_loads_the_model(trained: tuple[Organism, list[str]]) -> None:
    organism = trained[0]
    model = AutoModelForCausalLM.from_pretrained(organism.model_folder)
    tokenizer = AutoTokenizer.from_pretrained(organism.model_folder)
    question = str(organism.items[0]["question"])
    ids = tokenizer(question, return_tensors="pt")
    assert model.dtype == torch.float32
    assert ids["input_ids"][0, 0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids["input_ids"][0], skip_special_tokens=True) == question
    from_folder, in_organism = model(**ids).logits, organism.hypernetwork.base(**ids).logits
    torch.testing.assert_close(from_folder, in_organism, atol=1e-5, rtol=1e-5)


def test_a_changed_file_is_noticed(trained: tuple[Organism, list[str]], tmp_path: Path) -> None:
    copy = Organism(Path(shutil.copytree(trained[0].folder, tmp_path / "copy")))
    assert copy.altered() == []
    recorded = copy.recipe["sha256"]["items.jsonl"]
    assert recorded == sha256((copy.folder / "items.jsonl").read_bytes()).hexdigest()
    (copy.folder / "items.jsonl").write_text("{}\n")
    assert copy.altered() == ["items.jsonl"]


def test_a_folder_without_an_organism_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no organism here"):
        load(folder=tmp_path)
    with pytest.raises(ValueError, match="seed 7 is not shipped"):
        load(seed=7)


def test_shortfalls_name_the_figures_below_target() -> None:
    good = {"fall": 0.6, "novel": 0.95, "retention": 0.98, "spearman_frequency_prior": 0.8, "auc_failure": 0.8}
    assert shortfalls(good) == []
    assert len(shortfalls(good | {"novel": 0.94, "auc_failure": float("nan")})) == 2
