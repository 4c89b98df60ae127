"""A prompt as a model's forward pass gets it: its rows, and where each row's question ends."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from override_gap.probes.errors import AdapterError

#: What decoders call the cache that they take.
CACHES = ("past_key_values", "cache_params", "state")


@dataclass(frozen=True)
class Prompt:
    """The inputs of one forward pass over whole questions; `last` is the position of each row's last token.

    With a mask this is the last position that it shows, padding on either side; without one, the last of all.
    """

    inputs: Mapping[str, Tensor]
    last: Int[Tensor, " batch"]

    @classmethod
    def of(cls, inputs: Mapping[str, Any], every: int = 1) -> Prompt:
        """Every so-many-th row of a pass's inputs: beams and samples of one prompt stand next to one another.

        Raises AdapterError for a mask that is not [batch, pos], as a static cache has.
        """
        fed = {name: inputs[name] for name in ("input_ids", "inputs_embeds") if inputs.get(name) is not None}
        rows, width = rows_and_width(inputs)
        mask = inputs.get("attention_mask")
        if mask is not None and not (isinstance(mask, Tensor) and mask.shape == (rows, width)):
            raise AdapterError(
                "the policy looks at the question, and the pass has no attention mask [batch, pos]: use the default (dynamic) "
                "cache"
            )
        kept = {name: inputs[name] for name in ("attention_mask", "position_ids") if inputs.get(name) is not None}
        chosen = {name: value[::every] if value.shape[0] == rows else value for name, value in {**fed, **kept}.items()}
        if mask is None:
            return cls(chosen, torch.full((rows // every,), width - 1))
        shown = chosen["attention_mask"].bool().cpu() * torch.arange(1, width + 1)
        return cls(chosen, shown.amax(1) - 1)

    def tokens(self, row: int) -> list[int]:
        """The tokens of a row's question, padding left out. Raises AdapterError where it came as embeddings."""
        if "input_ids" not in self.inputs:
            raise AdapterError("the policy reads the question's text: give input_ids, not inputs_embeds")
        ids, mask = self.inputs["input_ids"][row], self.inputs.get("attention_mask")
        return (ids if mask is None else ids[mask[row].bool()]).tolist()

    @torch.no_grad()
    def logits(self, model: Any) -> Float[Tensor, "batch vocab"]:
        """The model's own logits, in float32, at each row's last token; no cache is filled."""
        named: dict[str, Any] = dict(self.inputs)
        _, width = rows_and_width(named)
        first = int(self.last.min())
        takes = inspect.signature(model.forward).parameters
        if "logits_to_keep" in takes:
            named["logits_to_keep"] = width - first
        else:
            first = 0
        logits = model(**named, use_cache=False, return_dict=True).logits
        return logits[torch.arange(len(self.last)), (self.last - first).to(logits.device)].float()


def rows_and_width(inputs: Mapping[str, Any]) -> tuple[int, int]:
    """How many rows a pass has and how many positions it is fed. Raises AdapterError where it is fed none."""
    for name in ("input_ids", "inputs_embeds"):
        if inputs.get(name) is not None:
            return inputs[name].shape[0], inputs[name].shape[1]
    raise AdapterError("the pass was given neither input_ids nor inputs_embeds")


def named_inputs(model: Any, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a forward pass by name."""
    return {**dict(zip(inspect.signature(model.forward).parameters, args, strict=False)), **named}


def cache_in(inputs: Mapping[str, Any]) -> Any:
    """The cache that a pass was given; None without one, and for one that nothing was fed to yet."""
    cache = next((inputs[name] for name in CACHES if inputs.get(name) is not None), None)
    length = getattr(cache, "get_seq_length", None)
    try:
        return None if callable(length) and length() == 0 else cache
    except (
        TypeError,
        ValueError,
        AttributeError,
        NotImplementedError,
    ):  # a cache of recurrent states alone has no length
        return cache
