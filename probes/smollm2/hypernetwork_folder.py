"""Reading and writing the folder of a trained hypernetwork.

FOLDER/hypernetwork.safetensors    the network, fp16
FOLDER/recipe.json                 shape, settings, fingerprint of the base, the file's sha256, figures after training
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file

from override_gap.margins.strict_json import read_json
from override_gap.margins.whole_files import make_folder, write_text, write_whole
from override_gap.probes.smollm2.hypernetwork import NetworkShape, SmolLM2Hypernetwork, SmolLM2Network
from override_gap.probes.subject.file_checks import shapes_of

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped hypernetwork, for SmolLM2-135M-Instruct."""
FILE = "hypernetwork.safetensors"


@dataclass(frozen=True)
class TrainedHypernetwork:
    """A trained hypernetwork on disk."""

    folder: Path

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Settings, base, file hash and figures, as recorded by training. Raises ValueError where parts are missing."""
        file = self.folder / "recipe.json"
        recipe = read_json(file)
        try:
            complete = all(
                isinstance(text, str)
                for text in (recipe["sha256"][FILE], *(recipe["base"][k] for k in ("name", "fingerprint")))
            )
            complete = complete and isinstance(recipe["shape"], dict)
        except (KeyError, TypeError):
            complete = False
        if not complete:
            raise ValueError(
                f"{file}: the weights' sha256, the base's name and fingerprint or the shape are missing; train it again"
            )
        return recipe

    @property
    def digest(self) -> str:
        """Recorded sha256 of the weights."""
        return self.recipe["sha256"][FILE]

    def intact(self) -> bool:
        """Whether the weights have the recorded sha256."""
        return sha256((self.folder / FILE).read_bytes()).hexdigest() == self.digest

    def was_trained_on(self, fingerprint: str) -> bool:
        """Whether it was trained on the base with this fingerprint (of the base's weights in float32)."""
        return fingerprint == self.recipe["base"]["fingerprint"]

    def network(self) -> SmolLM2Network:
        """The network in float32. Raises ValueError where the stored tensors have not the recipe's shape or hash."""
        recorded, tensor_shapes = self.recipe["shape"], shapes_of(self.folder / FILE)
        try:
            if recorded["blocks"] > len(tensor_shapes):
                raise ValueError(f"{recorded['blocks']:,} blocks")
            shape = NetworkShape(**(recorded | {name: tuple(recorded[name]) for name in ("reads", "writes")}))
            with torch.device("meta"):  # nothing is allocated
                expected = {name: tuple(tensor.shape) for name, tensor in SmolLM2Network(shape).state_dict().items()}
        except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as fault:
            raise ValueError(f"{self.folder / 'recipe.json'}: no network has this shape ({fault!r})") from fault
        if expected != tensor_shapes:
            raise ValueError(f"{self.folder / 'recipe.json'}: the tensors in {FILE} do not have this shape")
        content = (self.folder / FILE).read_bytes()
        if sha256(content).hexdigest() != self.digest:
            raise ValueError(f"{self.folder / FILE} has changed since it was opened")
        network = SmolLM2Network(shape)
        network.load_state_dict({name: tensor.float() for name, tensor in load_tensors(content).items()})
        return network.eval().requires_grad_(False)


def load(folder: Path | str | None = None) -> TrainedHypernetwork:
    """The shipped hypernetwork, or one trained into a folder. Raises ValueError where the folder holds none."""
    path = Path(folder) if folder is not None else WEIGHTS
    if not (path / "recipe.json").is_file():
        raise ValueError(
            f"{path}: no hypernetwork here (no recipe.json); "
            f"train one: python -m override_gap.probes.smollm2.train --out {path}"
        )
    return TrainedHypernetwork(path)


@torch.no_grad()
def round_to_half(network: SmolLM2Network) -> None:
    """Round every parameter to the nearest fp16 value, in place, so that evaluation uses the weights that are stored."""
    for parameter in network.parameters():
        parameter.copy_(parameter.half())


def save(folder: Path, hypernetwork: SmolLM2Hypernetwork, record: Mapping[str, Any]) -> TrainedHypernetwork:
    """Write a hypernetwork's folder; recipe.json is written last."""
    make_folder(folder)
    state = hypernetwork.network.state_dict()
    halves = {name: tensor.half().contiguous() for name, tensor in state.items()}
    write_whole(folder / FILE, lambda file: save_file(halves, file))
    digest = sha256((folder / FILE).read_bytes()).hexdigest()
    recipe = {"schema": 1, "shape": asdict(hypernetwork.network.shape), **record, "sha256": {FILE: digest}}
    write_text(folder / "recipe.json", json.dumps(recipe, indent=1) + "\n")
    return TrainedHypernetwork(folder)
