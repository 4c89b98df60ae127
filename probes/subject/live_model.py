"""A live model as adapters need it, a Subject or any model as it is: its linear maps by path, its blocks, how it holds rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from override_gap.probes.errors import SubjectError
from override_gap.probes.subject.row_layouts import RowLayouts
from override_gap.probes.subject.sites import Site, find_sites
from override_gap.probes.subject.structure import decoder_of, find_structure


@runtime_checkable
class LiveModel(Protocol):
    """What attaching adapters needs of a model; a Subject has all of it."""

    @property
    def name(self) -> str:
        """As messages print it."""
        ...

    @property
    def model(self) -> Any:
        """The Hugging Face model."""
        ...

    @property
    def sites(self) -> Mapping[str, Site]:
        """Its linear maps, by the path that adapters name."""
        ...

    @property
    def rows(self) -> RowLayouts:
        """How a module's input holds a batch."""
        ...

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """Its blocks, in order."""
        ...

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        ...

    @property
    def decoder(self) -> nn.Module:
        """The model without its unembedding."""
        ...

    @property
    def device(self) -> torch.device:
        """The embedding's device, where inputs go."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The unembedding's number format, in which adapters act."""
        ...


@dataclass(frozen=True, eq=False)
class UnwrappedModel:
    """A Hugging Face causal model as its owner holds it: nothing of it is changed, hashed or checked against a tokenizer.

    `sites` leave out PEFT's own maps; a map that PEFT has wrapped has the path that it had before.
    """

    name: str
    model: Any
    sites: Mapping[str, Site]
    blocks: tuple[nn.Module, ...]
    rows: RowLayouts

    @classmethod
    def of(cls, model: Any) -> UnwrappedModel:
        """The model. Raises SubjectError where its blocks cannot be told, and in training mode."""
        name = str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
        if model.training:
            raise SubjectError(f"{name} is in training mode, in which no audit is made: call model.eval() first")
        ids = torch.tensor([[1, 2, 3]], device=model.get_input_embeddings().weight.device)
        try:
            blocks = find_structure(model, ids).blocks
        except (ValueError, AttributeError) as fault:
            raise SubjectError(f"{name}: this architecture cannot be read: {fault}") from fault
        sites = {
            path.replace(".base_layer", ""): Site(path.replace(".base_layer", ""), site.d_in, site.d_out, site.module)
            for path, site in find_sites(model).items()
            if ".lora_" not in path
        }
        return cls(name, model, sites, blocks, RowLayouts(decoder_of(model), model))

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def decoder(self) -> nn.Module:
        """The model without its unembedding."""
        return decoder_of(self.model)

    @property
    def device(self) -> torch.device:
        """The embedding's device."""
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The unembedding's number format."""
        return self.model.get_output_embeddings().weight.dtype
