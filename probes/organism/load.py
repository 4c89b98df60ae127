"""Reading and writing an organism's folder.

FOLDER/model/                      the base, as any Hugging Face folder (weights in fp16, computed with in float32)
FOLDER/hypernetwork.safetensors    the perceiver, fp16
FOLDER/items.jsonl                 the examination
FOLDER/recipe.json                 every setting, the sha256 of each file, the figures measured after training
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from override_gap.margins.strict_json import read_json
from override_gap.margins.whole_files import make_folder, whole_folder, write_text
from override_gap.probes.organism.examination import ItemRecord
from override_gap.probes.organism.hypernetwork import OrganismHypernetwork, Perceiver, PerceiverShape

HYPERNETWORK = "hypernetwork.safetensors"
WEIGHTS = Path(__file__).parent / "weights"
"""The shipped organism: the default world, seed 0."""


@dataclass(frozen=True)
class Organism:
    """A trained organism on disk; its model and hypernetwork are loaded at first use."""

    folder: Path

    @property
    def model_folder(self) -> Path:
        """The base, for `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`."""
        return self.folder / "model"

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Settings, file hashes and figures, as recorded by training. Raises ValueError where parts are missing."""
        file = self.folder / "recipe.json"
        recipe = read_json(file)
        try:
            sizes, digests = recipe["hypernetwork"]["shape"].values(), recipe["sha256"]
        except (KeyError, TypeError, AttributeError):
            sizes, digests = (None,), None
        if not isinstance(digests, dict) or not all(type(size) is int and 0 < size < 2**16 for size in sizes):
            raise ValueError(f"{file}: the hypernetwork's shape or the files' sha256 are missing; train it again")
        return recipe

    @cached_property
    def items(self) -> list[ItemRecord]:
        """The examination, in the fields of an item file."""
        return [json.loads(line) for line in (self.folder / "items.jsonl").read_text().splitlines()]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The word-level tokenizer of the base."""
        return AutoTokenizer.from_pretrained(self.model_folder)

    @cached_property
    def hypernetwork(self) -> OrganismHypernetwork:
        """The trained hypernetwork with its own copy of the base, in float32 on the CPU."""
        from override_gap.probes.environment import quietly

        with quietly():
            base = LlamaForCausalLM.from_pretrained(self.model_folder, dtype=torch.float32).eval().requires_grad_(False)
        perceiver = Perceiver(PerceiverShape(**self.recipe["hypernetwork"]["shape"]))
        state = load_tensors(self._hypernetwork_bytes)
        perceiver.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        return OrganismHypernetwork(base, self.tokenizer, perceiver.eval().requires_grad_(False))

    @cached_property
    def hypernetwork_sha256(self) -> str:
        """SHA-256 of the hypernetwork's file as it is read, once, for the hash and for the weights."""
        return sha256(self._hypernetwork_bytes).hexdigest()

    @cached_property
    def _hypernetwork_bytes(self) -> bytes:
        return (self.folder / HYPERNETWORK).read_bytes()

    def altered(self) -> list[str]:
        """Files whose sha256 differs from the recipe's; empty if the folder is intact."""
        recorded = self.recipe["sha256"]
        return [name for name, digest in recorded.items() if _digest(self.folder / name) != digest]


def load(seed: int = 0, folder: Path | str | None = None) -> Organism:
    """The shipped organism of a seed, or one that was trained into `folder`.

    Raises ValueError where the folder holds no organism, and for any seed but 0, the only one shipped.
    """
    path = Path(folder) if folder is not None else WEIGHTS
    organism = Organism(path)
    if not (path / "recipe.json").is_file():
        raise ValueError(
            f"{path}: no organism here (no recipe.json); train one: python -m override_gap.probes.organism.train --out {path}"
        )
    if folder is None and organism.recipe["seed"] != seed:
        raise ValueError(
            f"seed {seed} is not shipped, only seed {organism.recipe['seed']}; "
            f"train it with python -m override_gap.probes.organism.train --seed {seed} --out FOLDER and pass folder=FOLDER"
        )
    return organism


def save(folder: Path, hypernetwork: OrganismHypernetwork, items: list[ItemRecord], recipe: dict[str, Any]) -> Organism:
    """Write an organism's folder, whole or not at all; recipe.json has the sha256 of every other file. Raises WriteError."""
    make_folder(folder.parent)
    with whole_folder(folder) as unfinished:
        _fill(unfinished, hypernetwork, items, recipe)
    return Organism(folder)


def _fill(folder: Path, hypernetwork: OrganismHypernetwork, items: list[ItemRecord], recipe: dict[str, Any]) -> None:
    model = folder / "model"
    hypernetwork.tokenizer.save_pretrained(model)
    base = LlamaForCausalLM(hypernetwork.base.config).half()
    base.load_state_dict(hypernetwork.base.state_dict())
    # an answer ends with its sentence; what this small model writes after that is not part of it
    stops = [hypernetwork.tokenizer.eos_token_id, hypernetwork.tokenizer.convert_tokens_to_ids(".")]
    assert base.generation_config is not None
    base.generation_config.eos_token_id = stops
    base.save_pretrained(model)
    _compute_in_float32(model / "config.json")
    perceiver = hypernetwork.perceiver.state_dict()
    save_file({name: tensor.half().contiguous() for name, tensor in perceiver.items()}, folder / HYPERNETWORK)
    lines = [json.dumps(item, ensure_ascii=False) for item in items]
    write_text(folder / "items.jsonl", "\n".join(lines) + "\n")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "recipe.json")
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    write_text(folder / "recipe.json", json.dumps({**recipe} | {"sha256": digests}, indent=1) + "\n")


def _compute_in_float32(path: Path) -> None:
    """Set the config's dtype to float32, so that the model is loaded in the precision in which it was evaluated."""
    config = json.loads(path.read_text())
    write_text(path, json.dumps(config | {"dtype": "float32"}, indent=2) + "\n")


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
