"""What PEFT stores as whole parameters (trained biases, modules_to_save, DoRA), as the difference from the subject's own."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import layer_of
from override_gap.margins.text import plural
from override_gap.margins.updates import Dense, LowRank, Rescaled, Update, Vector
from override_gap.probes.errors import AdapterError
from override_gap.probes.subject.live_model import LiveModel
from override_gap.probes.subject.parameters import parameter_site
from override_gap.probes.subject.sites import base_weight, vector_site


def parameter_path(key: str) -> str:
    """The parameter that a key names in the unwrapped model: without the wrapper names that PEFT puts into it."""
    return re.sub(r"\.(base_layer|token_adapter|original_module|modules_to_save(\.default)?)(?=\.)", "", key)


def by_parameter(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by parameter path of the unwrapped model.

    A trained copy may be stored twice; `original_module` is the untrained module that the copy replaces, and is left out
    where the copy is stored. Raises AdapterError where two tensors of one parameter differ.
    """
    parameters: dict[str, Tensor] = {}
    replaced = {parameter_path(key) for key in tensors if ".original_module." not in key}
    for key, tensor in tensors.items():
        path = parameter_path(key)
        if ".original_module." in key and path in replaced:
            continue
        if path in parameters and not torch.equal(parameters[path], tensor):
            raise AdapterError(f"{path} is stored twice with different values; which of them was trained is unclear")
        parameters[path] = tensor
    return parameters


def added_rows(subject: LiveModel, path: str, tensor: Tensor) -> str | None:
    """What is left out of a stored embedding whose vocabulary differs from the subject's in untrained rows, in words.

    PEFT stores both embeddings by itself once tokens were added to the vocabulary. Where the rows that both models have are
    equal, the others are of tokens that one of them lacks. None for any other parameter.
    """
    base = _embedding(subject, path)
    if base is None or tensor.ndim != base.ndim or tensor.shape[1:] != base.shape[1:] or len(tensor) == len(base):
        return None
    common = min(len(tensor), len(base))
    if not _same(base[:common], tensor[:common]):
        trained = int((base[:common].cpu() != tensor[:common].to(base.dtype)).reshape(common, -1).any(1).sum())
        raise AdapterError(
            f"{path} is saved for {len(tensor)} tokens, this model has {len(base)}, and {trained} of the {common} rows of both "
            "differ: the embedding was trained; it is in no layer, so no gain scales it"
        )
    rows = plural(abs(len(tensor) - len(base)), "added row" if len(tensor) > len(base) else "missing row")
    return f"{rows} of {path}, whose other rows equal this model's"


def read_saved(subject: LiveModel, path: str, tensor: Tensor) -> dict[str, Update]:
    """The update of a saved parameter: its difference from the base's; none where it equals the base's to the last bit.

    Raises AdapterError for changed embeddings, unembeddings and all else outside the layers, which no gain scales.
    """
    owner, _, kind = path.rpartition(".")
    site = subject.sites.get(owner)
    embedding = _embedding(subject, path)
    if embedding is not None and embedding.shape == tensor.shape and _same(embedding, tensor):
        return {}  # PEFT stores embeddings by itself where it takes the vocabulary for changed
    vector = vector_site(subject.model, subject.sites, path)
    stack = subject.model.get_parameter(path) if _is_parameter(subject, path) else None
    if kind == "weight" and site is not None:
        base, saved = base_weight(site), tensor.T if site.transposed else tensor
    elif vector is not None:
        base, saved = vector.base, tensor
    elif stack is not None and layer_of(path) is not None and stack.ndim == 3 and stack.is_floating_point():
        base, saved = stack.detach().float().cpu(), tensor
    elif parameter_site(subject.model, path) is not None and layer_of(path) is not None:
        base, saved = subject.model.get_parameter(path).detach().float().cpu(), tensor
    elif layer_of(path) is None:
        raise AdapterError(f"{path} is saved: it is in no layer, so no gain scales it")
    else:
        raise AdapterError(f"{path} is saved; need a linear map, the bias of one, or the weight or bias of a norm")
    if not saved.is_floating_point():
        raise AdapterError(
            f"{path} is saved in quantised numbers ({str(saved.dtype).removeprefix('torch.')}); save the unquantised weight"
        )
    if saved.shape != base.shape:
        raise AdapterError(f"{path} is saved with shape {list(saved.shape)}; this model needs {list(base.shape)}")
    if _same(base, saved):
        return {}
    delta = saved.float() - base
    if not delta.any():
        return {}
    if layer_of(path) is None:
        raise AdapterError(f"{path} is saved: it is in no layer, so no gain scales it")
    if delta.ndim == 3:
        return {f"{path}.{n}": Dense(expert) for n, expert in enumerate(delta) if expert.any()}
    if vector is not None:
        return {path: Vector(delta)}
    return {owner if site is not None else path: Dense(delta)}


def _is_parameter(subject: LiveModel, path: str) -> bool:
    owner, _, name = path.rpartition(".")
    try:
        return subject.model.get_submodule(owner)._parameters.get(name) is not None
    except AttributeError:
        return False


def _embedding(subject: LiveModel, path: str) -> Tensor | None:
    """The base's embedding or unembedding where the path is one of them."""
    for module in (subject.model.get_input_embeddings(), subject.model.get_output_embeddings()):
        if module is not None and path.endswith(".weight"):
            try:
                if subject.model.get_submodule(path.rpartition(".")[0]) is module:
                    return module.weight.detach()
            except AttributeError:
                continue
    return None


def _same(base: Tensor, saved: Tensor) -> bool:
    """Whether a saved tensor equals the base's to the last bit of the format of either: the other may have been rounded to it."""
    base = base.cpu()
    return torch.equal(base, saved.to(base.dtype)) or torch.equal(base.to(saved.dtype), saved)


def dora_update(weight: Float[Tensor, "d_out d_in"], update: LowRank, magnitude: Float[Tensor, " d_out"]) -> Rescaled:
    """W_adapted - W_base, where W_adapted = magnitude * (W + s B A) / ||W + s B A|| row by row (Liu et al. 2024, eq. 5).

    Neither B A nor the magnitude alone scales with the gain; this difference does, by the definition of amplitude.
    """
    adapted = weight + update.dense().to(weight)
    delta = magnitude[:, None].to(weight) * adapted / adapted.norm(dim=1, keepdim=True) - weight
    rows = magnitude.to(weight) / adapted.norm(dim=1)
    return Rescaled(delta, rows - 1, LowRank(update.A, rows[:, None] * update.B.to(weight), update.scale))


def read_dora(subject: LiveModel, path: str, update: LowRank, magnitude: Tensor) -> Rescaled:
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
