"""Saved parameters: what PEFT stores whole (trained biases, modules_to_save), as the difference from the subject's own."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from margins.adapter import layer_of
from margins.updates import Dense, Update, Vector
from probes.sites import AdapterError, base_weight
from probes.subject import Subject
from probes.vectors import vector_site


def named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by parameter path of the unwrapped model, PEFT's own words taken out of their keys.

    A trained copy may be stored twice; `original_module` is what the copy stands in for and is not run. Raises
    AdapterError where two tensors of one parameter differ.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if ".original_module." in key:
            continue
        path = re.sub(r"\.(base_layer|modules_to_save(\.default)?)(?=\.)", "", key)
        if path in found and not torch.equal(found[path], tensor):
            raise AdapterError(f"{path} is stored twice with different values; which was trained?")
        found[path] = tensor
    return found


def read_saved(subject: Subject, path: str, tensor: Tensor) -> tuple[str, Update] | None:
    """Where a saved parameter acts and what it adds to the base's; None where it is the base's to the last bit.

    Raises AdapterError for embeddings, unembeddings and all else that no gain of a layer reaches.
    """
    owner, _, kind = path.rpartition(".")
    site = subject.sites.get(owner)
    vector = vector_site(subject.model, subject.sites, path)
    if kind == "weight" and site is not None:
        base, saved = base_weight(site), tensor.T if site.transposed else tensor
    elif vector is not None:
        base, saved = vector.base, tensor
    elif _ends(subject, tensor):
        return None  # PEFT stores embeddings unasked where it thinks that the vocabulary was touched
    elif layer_of(path) is None:
        raise AdapterError(f"{path} is saved: it is in no layer, so no gain reaches it")
    else:
        raise AdapterError(f"{path} is saved, which is no linear map, no bias of one and no weight or bias of a norm")
    if saved.shape != base.shape:
        raise AdapterError(f"{path} is saved as {list(saved.shape)}; this model's is {list(base.shape)}")
    delta = saved.float() - base
    if not delta.any():
        return None
    if layer_of(path) is None:
        raise AdapterError(f"{path} is saved: it is in no layer, so no gain reaches it")
    return (owner, Dense(delta)) if vector is None else (path, Vector(delta))


def _ends(subject: Subject, tensor: Tensor) -> bool:
    """Whether a tensor is the base's embedding or unembedding, unchanged."""
    held = (subject.model.get_input_embeddings().weight, subject.unembedding)
    return any(w.shape == tensor.shape and torch.equal(w.cpu(), tensor.to(w.dtype)) for w in held)
