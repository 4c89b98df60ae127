"""Reading and writing a hypernetwork's folder.

FOLDER/hypernetwork.safetensors    the network, fp16
FOLDER/recipe.json                 shape, settings, fingerprint of the base, the file's sha256, figures when it was made
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
from safetensors.torch import load_file, save_file

from override_gap.margins.strict_json import read_json
from override_gap.probes.smollm2.hypernetwork import NetworkShape, SmolLM2Hypernetwork, SmolLM2Network
from override_gap.probes.subject.file_checks import shapes_of

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped one, for SmolLM2-135M-Instruct."""
FILE = "hypernetwork.safetensors"


@dataclass(frozen=True)
class Shipped:
    """A trained hypernetwork on disk."""

    folder: Path

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """How it was made, and for which base."""
        file = self.folder / "recipe.json"
        found = read_json(file)
        try:
            whole = all(
                isinstance(text, str)
                for text in (found["sha256"][FILE], *(found["base"][k] for k in ("name", "fingerprint")))
            )
            whole = whole and isinstance(found["shape"], dict)
        except (KeyError, TypeError):
            whole = False
        if not whole:
            raise ValueError(
                f"{file}: it lacks the weights' sha256, the base's name and fingerprint or the shape; train it again"
            )
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of the weights as recorded."""
        return self.recipe["sha256"][FILE]

    def intact(self) -> bool:
        """Whether the weights are those that the recipe recorded."""
        return sha256((self.folder / FILE).read_bytes()).hexdigest() == self.digest

    def fits(self, fingerprint: str) -> bool:
        """Whether it was trained on the base of this fingerprint, which is that of its weights in float32."""
        return fingerprint == self.recipe["base"]["fingerprint"]

    def network(self) -> SmolLM2Network:
        """The network in float32. Raises ValueError where the recipe's shape is not that of the stored tensors."""
        stored, held = self.recipe["shape"], shapes_of(self.folder / FILE)
        try:
            if stored["blocks"] > len(held):
                raise ValueError(f"{stored['blocks']:,} blocks")
            shape = NetworkShape(**(stored | {name: tuple(stored[name]) for name in ("reads", "writes")}))
            with torch.device("meta"):  # nothing is allocated
                claimed = {name: tuple(tensor.shape) for name, tensor in SmolLM2Network(shape).state_dict().items()}
        except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as fault:
            raise ValueError(f"{self.folder / 'recipe.json'}: no network has this shape ({fault!r})") from fault
        if claimed != held:
            raise ValueError(f"{self.folder / 'recipe.json'}: its shape is not that of the tensors in {FILE}")
        network = SmolLM2Network(shape)
        network.load_state_dict({name: tensor.float() for name, tensor in load_file(self.folder / FILE).items()})
        return network.eval().requires_grad_(False)


def load(folder: Path | str | None = None) -> Shipped:
    """The shipped hypernetwork, or one trained into a folder; ValueError where there is none."""
    where = Path(folder) if folder is not None else WEIGHTS
    if not (where / "recipe.json").is_file():
        raise ValueError(
            f"{where}: no hypernetwork here (no recipe.json); "
            f"train one: python -m override_gap.probes.smollm2.train --out {where}"
        )
    return Shipped(where)


@torch.no_grad()
def round_to_half(network: SmolLM2Network) -> None:
    """Round every parameter to the nearest fp16 value, in place, so that what is measured is what will be stored."""
    for parameter in network.parameters():
        parameter.copy_(parameter.half())


def save(folder: Path, hypernetwork: SmolLM2Hypernetwork, record: Mapping[str, Any]) -> Shipped:
    """Write a hypernetwork's folder; the recipe goes last."""
    folder.mkdir(parents=True, exist_ok=True)
    state = hypernetwork.network.state_dict()
    save_file({name: tensor.half().contiguous() for name, tensor in state.items()}, folder / FILE)
    (folder / FILE).chmod(0o644)
    digest = sha256((folder / FILE).read_bytes()).hexdigest()
    whole = {"schema": 1, "shape": asdict(hypernetwork.network.shape), **record, "sha256": {FILE: digest}}
    (folder / "recipe.json").write_text(json.dumps(whole, indent=1) + "\n")
    return Shipped(folder)
