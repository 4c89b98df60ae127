"""The shipped organism: files unaltered, small, and its figures at their targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from override_gap.probes.organism.evaluate import evaluate, shortfalls
from override_gap.probes.organism.examination import build_items
from override_gap.probes.organism.load import Organism, load
from override_gap.probes.organism.world import Size, build_world


@pytest.fixture(scope="module")
def organism() -> Organism:
    return load()


def test_the_files_are_those_recorded(organism: Organism) -> None:
    assert organism.altered() == []
    files = [path for path in organism.folder.rglob("*") if path.is_file()]
    names = {path.relative_to(organism.folder).as_posix() for path in files}
    assert names == {*organism.recipe["sha256"], "recipe.json"}
    assert sum(path.stat().st_size for path in files) <= 5_000_000


def test_the_items_are_those_of_its_world(organism: Organism) -> None:
    assert build_items(build_world(organism.recipe["seed"], Size(**organism.recipe["world"]))) == organism.items


def test_the_figures_meet_their_targets(organism: Organism) -> None:
    figures = evaluate(organism.hypernetwork, organism.items)
    assert shortfalls(figures) == []
    for name in ("conflict", "novel", "retention", "fall"):
        assert figures[name] == pytest.approx(organism.recipe["figures"][name], abs=0.01)


def test_a_larger_gain_repairs_the_failures(organism: Organism) -> None:
    items = organism.items[::3]
    figures = [evaluate(organism.hypernetwork, items, gain) for gain in (0.0, 0.5, 1.0, 1.5)]
    conflict = [at_gain["conflict"] for at_gain in figures]
    assert conflict == sorted(conflict)
    assert conflict[0] < 0.05
    assert conflict[-1] > conflict[2] + 0.1
    assert figures[0]["retention"] == 1.0


def test_the_figures_match_edited_weights(organism: Organism) -> None:
    """Conflicts one at a time, with transformers alone and the update added to the weights."""
    model = AutoModelForCausalLM.from_pretrained(organism.model_folder)
    tokenizer = AutoTokenizer.from_pretrained(organism.model_folder)
    rng = np.random.default_rng(0)
    conflicts = [item for item in organism.items if item["split"] == "conflict"]
    sample = [conflicts[i] for i in rng.permutation(len(conflicts))[:40]]
    correct = []
    for item in sample:
        factors = organism.hypernetwork.encode([item["document"]])
        with torch.no_grad():
            for sign in (1, -1):
                for path, (a, b) in factors.items():
                    model.get_submodule(path).weight += sign * b[0] @ a[0]
                if sign == 1:
                    logits = model(**tokenizer(item["question"], return_tensors="pt")).logits[0, -1]
        correct.append(tokenizer.decode([logits.argmax()]) == item["answer"])
    batch = evaluate(organism.hypernetwork, _with_other_splits(sample, organism))
    assert np.mean(correct) == pytest.approx(batch["conflict"], abs=1e-4)


def _with_other_splits(conflicts: list[dict], organism: Organism) -> list[dict]:
    """The conflicts, and all items of the other splits, which `evaluate` needs."""
    return conflicts + [item for item in organism.items if item["split"] != "conflict"]
