"""Reading and writing an organism's folder.

FOLDER/model/                      the base, as any Hugging Face folder (weights in fp16, computed with in float32)
FOLDER/hypernetwork.safetensors    the perceiver, fp16
FOLDER/items.jsonl                 the examination
FOLDER/recipe.json                 every setting, the sha256 of each file, the figures measured when it was made
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from override_gap.margins.strict_json import read_json
from override_gap.probes.organism.examination import Record
from override_gap.probes.organism.hypernetwork import OrganismHypernetwork, Perceiver, PerceiverShape

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped organism: the default world, seed 0."""


@dataclass(frozen=True)
class Organism:
    """A trained organism on disk; its model and hypernetwork are opened when first asked for."""

    folder: Path

    @property
    def model_folder(self) -> Path:
        """The base, for `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`."""
        return self.folder / "model"

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """How it was made."""
        file = self.folder / "recipe.json"
        found = read_json(file)
        try:
            sizes, digests = found["hypernetwork"]["shape"].values(), found["sha256"]
        except (KeyError, TypeError, AttributeError):
            sizes, digests = (None,), None
        if not isinstance(digests, dict) or not all(type(size) is int and 0 < size < 2**16 for size in sizes):
            raise ValueError(f"{file}: it lacks the hypernetwork's shape or the files' sha256; train it again")
        return found

    @cached_property
    def items(self) -> list[Record]:
        """The examination, in the fields of an item file."""
        return [json.loads(line) for line in (self.folder / "items.jsonl").read_text().splitlines()]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The word-level tokenizer of the base."""
        return AutoTokenizer.from_pretrained(self.model_folder)

    @cached_property
    def hypernetwork(self) -> OrganismHypernetwork:
        """The trained hypernetwork beside a copy of the base of its own, in float32 on the CPU."""
        from override_gap.probes.environment import quietly

        with quietly():
            base = LlamaForCausalLM.from_pretrained(self.model_folder, dtype=torch.float32).eval().requires_grad_(False)
        perceiver = Perceiver(PerceiverShape(**self.recipe["hypernetwork"]["shape"]))
        state = load_file(self.folder / "hypernetwork.safetensors")
        perceiver.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        return OrganismHypernetwork(base, self.tokenizer, perceiver.eval().requires_grad_(False))

    def altered(self) -> list[str]:
        """Files whose content is not what the recipe recorded; empty if the folder is intact."""
        recorded = self.recipe["sha256"]
        return [name for name, digest in recorded.items() if _digest(self.folder / name) != digest]


def load(seed: int = 0, folder: Path | str | None = None) -> Organism:
    """The shipped organism of a seed, or one that was trained into `folder`.

    Only seed 0 is shipped; ValueError for a folder that holds no organism, or one of another seed.
    """
    where = Path(folder) if folder is not None else WEIGHTS
    organism = Organism(where)
    if not (where / "recipe.json").is_file():
        raise ValueError(
            f"{where}: no organism here (no recipe.json); train one: python -m override_gap.probes.organism.train --out {where}"
        )
    if folder is None and organism.recipe["seed"] != seed:
        raise ValueError(
            f"seed {seed} is not shipped, only seed {organism.recipe['seed']}; "
            f"train it with python -m override_gap.probes.organism.train --seed {seed} --out FOLDER and pass folder=FOLDER"
        )
    return organism


def save(folder: Path, hypernetwork: OrganismHypernetwork, items: list[Record], recipe: dict[str, Any]) -> Organism:
    """Write an organism's folder; the recipe goes last, with the sha256 of every file before it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model"
    hypernetwork.tokenizer.save_pretrained(model)
    base = LlamaForCausalLM(hypernetwork.base.config).half()
    base.load_state_dict(hypernetwork.base.state_dict())
    # an answer ends with its sentence; what this small model rambles on about is nobody's answer
    stops = [hypernetwork.tokenizer.eos_token_id, hypernetwork.tokenizer.convert_tokens_to_ids(".")]
    assert base.generation_config is not None
    base.generation_config.eos_token_id = stops
    base.save_pretrained(model)
    _compute_in_float32(model / "config.json")
    perceiver = hypernetwork.perceiver.state_dict()
    save_file(
        {name: tensor.half().contiguous() for name, tensor in perceiver.items()}, folder / "hypernetwork.safetensors"
    )
    lines = [json.dumps(item, ensure_ascii=False) for item in items]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "recipe.json")
    for path in files:
        path.chmod(0o644)  # safetensors writes files that only their owner can read, and a package would keep that
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    (folder / "recipe.json").write_text(json.dumps({**recipe} | {"sha256": digests}, indent=1) + "\n")
    return Organism(folder)


def _compute_in_float32(path: Path) -> None:
    """State float32 in a model's config, so that it is opened in the precision in which its figures were measured."""
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"dtype": "float32"}, indent=2) + "\n")


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
