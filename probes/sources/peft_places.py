"""Where a saved adapter's paths lie in this model: in its layers, in a tower that text never reaches, or under another prefix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import nn

from override_gap.margins.adapter import OTHER_INPUTS
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.live_model import LiveModel

TEXT_PREFIX = re.compile(
    r"(?:(?:model|language_model|text_model|transformer|decoder|gpt_neox)\.)*(layers|h|blocks)\.(\d+)\.(.+)"
)
"""A path in a block of a model's text part, whatever prefix the model's classes put before it."""


@dataclass(frozen=True)
class Places:
    """`paths`: the path in this model of each saved one, None for what text never reaches; those are `left_out`."""

    paths: Mapping[str, str | None]
    left_out: tuple[str, ...]


def places(subject: LiveModel, saved: Iterable[str]) -> Places:
    """Find the modules and parameters that saved paths name.

    A path that the model lacks, in a block of the text part, is taken for the same place under this model's prefix: a text
    model's adapter on the vision-language model that contains it, and the other way round. Raises AdapterError where two
    saved paths name one place: which of the two was trained is unclear.
    """
    paths: dict[str, str | None] = {}
    outside: dict[str, nn.Module] = {}
    blocks = block_list(subject)
    for path in saved:
        module = owner(subject.model, path)
        if module is None:
            moved = TEXT_PREFIX.fullmatch(path)
            there = f"{blocks}.{moved[2]}.{moved[3]}" if moved else path
            paths[path] = there if owner(subject.model, there) is not None else path
            if paths[path] == path and _of_another_input(path):
                paths[path] = None
        else:
            paths[path] = path
            if not path.startswith(f"{blocks}."):
                outside[path] = module
    first: dict[str, str] = {}
    for path, there in paths.items():
        if there is not None and first.setdefault(there, path) != path:
            raise AdapterError(
                f"{first[there]} and {path} are one place in this model, {there}; which of the two was trained is unclear: "
                "save one adapter"
            )
    for path in _unreached(subject, outside):
        paths[path] = None
    return Places(paths, tuple(sorted(path for path, there in paths.items() if there is None)))


def owner(model: nn.Module, path: str) -> nn.Module | None:
    """The module that a path names, or that has the parameter it names; None where there is neither."""
    names = path.replace(".base_layer", "")
    for name in (names, names.rpartition(".")[0]):
        try:
            module = model.get_submodule(name) if name else None
        except AttributeError:
            continue
        if module is not None and (name == names or names.rpartition(".")[2] in module._parameters):
            return module
    return None


def block_list(subject: LiveModel) -> str:
    """The path of the list that holds the model's blocks: model.layers, say."""
    first = subject.blocks[0]
    return next(path for path, module in subject.model.named_modules() if module is first).rpartition(".")[0]


def _of_another_input(path: str) -> bool:
    return OTHER_INPUTS.search(path) is not None


@torch.no_grad()
def _unreached(subject: LiveModel, modules: Mapping[str, nn.Module]) -> list[str]:
    """Those modules that a text does not run: of a vision tower or its projector, say."""
    if not modules:
        return []
    reached: set[nn.Module] = set()
    with ExitStack() as undo:
        for module in set(modules.values()):
            undo.callback(module.register_forward_hook(lambda ran, *_: reached.add(ran)).remove)
        subject.model(input_ids=torch.tensor([[1, 2, 3]], device=subject.device))
    # an unembedding that the model multiplies by itself runs no hook
    head = {subject.model.get_output_embeddings(), subject.model.get_input_embeddings()}
    return [path for path, module in modules.items() if module not in reached and module not in head]
