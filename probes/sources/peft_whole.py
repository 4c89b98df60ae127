"""Saved parameters: what PEFT stores whole (trained biases, modules_to_save), as the difference from the subject's own."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import layer_of
from override_gap.margins.updates import Dense, LowRank, Update, Vector
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.sites import base_weight, vector_site


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


def densified(weight: Float[Tensor, "d_out d_in"], update: LowRank, magnitude: Float[Tensor, " d_out"]) -> Dense:
    """W_adapted - W_base, where W_adapted = magnitude * (W + s B A) / ||W + s B A|| row by row (Liu et al. 2024, eq. 5).

    Neither B A nor the magnitude alone is linear in amplitude; this difference is, by the definition of amplitude.
    """
    adapted = weight + update.dense().to(weight)
    return Dense(magnitude[:, None].to(weight) * adapted / adapted.norm(dim=1, keepdim=True) - weight)


def read_dora(subject: Subject, path: str, update: LowRank, magnitude: Tensor) -> Dense:
    """The update of one map of `subject`. Raises AdapterError where it has no such map or the shapes differ."""
    site = subject.sites.get(path)
    if site is None:
        raise AdapterError(
            f"{path}: a DoRA adapter needs the weight that it was trained on; this model has no such map"
        )
    magnitude = magnitude.flatten()
    if update.shape != (site.d_out, site.d_in) or len(magnitude) != site.d_out:
        raise AdapterError(
            f"{path}: needs an update of shape {[site.d_out, site.d_in]} and {site.d_out} magnitudes, "
            f"got {list(update.shape)} and {len(magnitude)}"
        )
    with torch.no_grad():
        return densified(base_weight(site), update, magnitude.float())
