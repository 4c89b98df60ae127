"""What PEFT stores as whole parameters (trained biases, modules_to_save, DoRA), as the difference from the subject's own."""

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


def by_parameter(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by parameter path of the unwrapped model: keys without the wrapper names that PEFT puts into them.

    A trained copy may be stored twice; `original_module` is the untrained module that the copy replaces, and is left out.
    Raises AdapterError where two tensors of one parameter differ.
    """
    parameters: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if ".original_module." in key:
            continue
        path = re.sub(r"\.(base_layer|modules_to_save(\.default)?)(?=\.)", "", key)
        if path in parameters and not torch.equal(parameters[path], tensor):
            raise AdapterError(f"{path} is stored twice with different values; which of them was trained is unclear")
        parameters[path] = tensor
    return parameters


def read_saved(subject: Subject, path: str, tensor: Tensor) -> tuple[str, Update] | None:
    """(path, update) of a saved parameter: its difference from the base's; None where it equals the base's to the last bit.

    Raises AdapterError for changed embeddings, unembeddings and all else outside the layers, which no gain scales.
    """
    owner, _, kind = path.rpartition(".")
    site = subject.sites.get(owner)
    vector = vector_site(subject.model, subject.sites, path)
    if kind == "weight" and site is not None:
        base, saved = base_weight(site), tensor.T if site.transposed else tensor
    elif vector is not None:
        base, saved = vector.base, tensor
    elif _is_unchanged_embedding(subject, tensor):
        return None  # PEFT stores embeddings by itself where it takes the vocabulary for changed
    elif layer_of(path) is None:
        raise AdapterError(f"{path} is saved: it is in no layer, so no gain scales it")
    else:
        raise AdapterError(f"{path} is saved; need a linear map, the bias of one, or the weight or bias of a norm")
    if saved.shape != base.shape:
        raise AdapterError(f"{path} is saved with shape {list(saved.shape)}; this model needs {list(base.shape)}")
    delta = saved.float() - base
    if not delta.any():
        return None
    if layer_of(path) is None:
        raise AdapterError(f"{path} is saved: it is in no layer, so no gain scales it")
    return (owner, Dense(delta)) if vector is None else (path, Vector(delta))


def _is_unchanged_embedding(subject: Subject, tensor: Tensor) -> bool:
    """Whether a tensor equals the base's embedding or unembedding."""
    embeddings = (subject.model.get_input_embeddings().weight, subject.unembedding)
    return any(w.shape == tensor.shape and torch.equal(w.cpu(), tensor.to(w.dtype)) for w in embeddings)


def dora_update(weight: Float[Tensor, "d_out d_in"], update: LowRank, magnitude: Float[Tensor, " d_out"]) -> Dense:
    """W_adapted - W_base, where W_adapted = magnitude * (W + s B A) / ||W + s B A|| row by row (Liu et al. 2024, eq. 5).

    Neither B A nor the magnitude alone scales with the gain; this difference does, by the definition of amplitude.
    """
    adapted = weight + update.dense().to(weight)
    return Dense(magnitude[:, None].to(weight) * adapted / adapted.norm(dim=1, keepdim=True) - weight)


def read_dora(subject: Subject, path: str, update: LowRank, magnitude: Tensor) -> Dense:
    """A DoRA module as a dense update of the subject's map. Raises AdapterError where there is no such map or shapes differ."""
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
        return dora_update(base_weight(site), update, magnitude.float())
