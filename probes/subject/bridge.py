"""A model's structure, and a TransformerBridge over it, opened when asked for, in place only while it is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn
from transformers import PretrainedConfig

from override_gap.probes.subject.structure import Structure, find_structure, structure_of_bridge

Places = tuple[tuple[Any, str, Any, Any], ...]
"""Of every component of a bridge: its parent, the attribute, the model's own module there, and the component."""


@dataclass(frozen=True, eq=False)
class BridgedModel:
    """A model's structure, and TransformerLens's bridge over it, which is opened when it is first asked for.

    The structure is what one pass shows (`find_structure`); where that cannot tell, TransformerLens is asked. Readings run the
    model's own modules: through the bridge's components a pass takes 10% longer on SmolLM2 and two thirds longer on the
    organism (each norm is computed twice, and every map has two hook points), and loading TransformerLens takes half a second.
    Booting a bridge also switches the model to eager attention, so that hooks on attention patterns fire. Outside `as_bridge`
    the model has the attention that it came with: in bfloat16 another implementation gives other numbers, by half a nat on text.
    """

    model: Any
    tokenizer: Any
    name: str
    device: str
    structure: Structure

    @classmethod
    def over(cls, model: Any, tokenizer: Any, name: str, probe_ids: Int[Tensor, "batch pos"]) -> BridgedModel:
        """The structure of a model, which keeps its own modules, from a pass over `probe_ids`.

        Raises ValueError where neither the pass nor TransformerLens tells it.
        """
        device = str(probe_ids.device)
        try:
            return cls(model, tokenizer, name, device, find_structure(model, probe_ids))
        except ValueError as own:
            try:
                bridge, _ = _boot(model, tokenizer, name, device)
                return cls(model, tokenizer, name, device, structure_of_bridge(bridge))
            except Exception as fault:  # whatever it raises on an architecture that it does not support
                reason = " ".join(str(fault).split()).split(". ")[0][:120]
                raise ValueError(f"{own}; nor does TransformerLens know it ({reason})") from fault

    @cached_property
    def _booted(self) -> tuple[Any, Places]:
        return _boot(self.model, self.tokenizer, self.name, self.device)

    @contextmanager
    def as_bridge(self) -> Iterator[Any]:
        """Inside the block the model runs through the bridge's components, whose hook points fire.

        Raises ValueError where TransformerLens does not know the architecture.
        """
        try:
            bridge, places = self._booted
        except Exception as fault:  # whatever it raises on an architecture that it does not support
            raise ValueError("TransformerLens does not know this architecture") from fault
        _put_in_place(places, components=True)
        try:
            yield bridge
        finally:
            _put_in_place(places, components=False)


def _boot(model: Any, tokenizer: Any, name: str, device: str) -> tuple[Any, Places]:
    """A bridge over a live model, whose own modules are in place again, and where its components would go.

    Raises whatever TransformerLens raises on an architecture that it does not support.
    """
    from transformer_lens.model_bridge import TransformerBridge

    # not named_children, which lists a module with two names only once and leaves out attributes that are None
    before = [
        (parent, key, module)
        for parent in model.modules()
        for key, module in [*parent._modules.items(), *((k, v) for k, v in vars(parent).items() if v is None)]
    ]
    before += _attention_implementations(model)
    try:
        with _without_processor():
            bridge = TransformerBridge.boot_transformers(name, hf_model=model, tokenizer=tokenizer, device=device)
    finally:
        places = tuple(
            (parent, key, module, component)
            for parent, key, module in before
            if (component := getattr(parent, key)) is not module and component is not None
        )
        _put_in_place(places, components=False)
        model.eval().requires_grad_(False)
    return bridge, places


@contextmanager
def _without_processor() -> Iterator[None]:
    """Inside the block TransformerLens loads no processor for images or sound, of which text needs none.

    It would ask the hub for one by the model's name, which may be anyone's, and where torchvision is missing it would have
    pip install it, and another torch with it, into the environment that runs.
    """
    from transformer_lens.model_bridge.sources.transformers import source

    load = source.load_modality_processor
    source.load_modality_processor = lambda *_, **__: None
    try:
        yield
    finally:
        source.load_modality_processor = load


def _put_in_place(places: Places, *, components: bool) -> None:
    for parent, key, module, component in places:
        setattr(parent, key, component if components else module)


#: Where transformers keeps the name of the attention implementation: in configurations, and in some modules too.
ATTENTION_ATTRIBUTES = ("_attn_implementation_internal", "_attn_implementation")


def _attention_implementations(model: nn.Module) -> list[tuple[Any, str, Any]]:
    """Every object that names the attention implementation, with the attribute and its value, as `setattr` takes them.

    Configurations are nested, and some layers hold copies of theirs.
    """
    owners: dict[int, Any] = {}
    pending: list[Any] = list(model.modules())
    while pending:
        owner = pending.pop()
        if id(owner) in owners:
            continue
        owners[id(owner)] = owner
        # a configuration, or a module's plain attributes; submodules are in the list already
        pending += [value for value in vars(owner).values() if isinstance(value, PretrainedConfig)]
    return [
        (owner, attribute, vars(owner)[attribute])
        for owner in owners.values()
        for attribute in ATTENTION_ATTRIBUTES
        if attribute in vars(owner)
    ]
