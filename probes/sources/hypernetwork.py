"""The source `hypernetwork`: adapters in one forward pass, from the hypernetwork trained for a subject's weights."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.environment import quietly
from override_gap.probes.errors import AdapterChanged, AdapterError
from override_gap.probes.organism.faults import FAULTS, Fault, scaled
from override_gap.probes.organism.hypernetwork import applied as organism_applied
from override_gap.probes.organism.load import Organism, load
from override_gap.probes.organism.plants.catalogue import PLANTS
from override_gap.probes.organism.plants.context import planting_context
from override_gap.probes.organism.plants.items import ALL_SPLITS, plant_items
from override_gap.probes.smollm2 import hypernetwork_folder as smollm2
from override_gap.probes.smollm2.hypernetwork import SmolLM2Hypernetwork
from override_gap.probes.smollm2.hypernetwork import applied as smollm2_applied
from override_gap.probes.smollm2.hypernetwork_folder import WEIGHTS, TrainedHypernetwork
from override_gap.probes.sources.document_tokens import document_tokens, require_room
from override_gap.probes.sources.planted import PlantedSource
from override_gap.probes.subject.devices import named_tensors
from override_gap.probes.subject.fingerprint import subject_fingerprint
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.tokens import token_ids


@dataclass(frozen=True, eq=False)
class OrganismHypernetworkSource:
    """The organism's own hypernetwork; `fault` changes its updates in a known way, `gains` (by document key) scale them."""

    organism: Organism
    fault: Fault | None = None
    seed: int = 0
    gains: Mapping[str, float] | None = None

    @property
    def name(self) -> str:
        """As reports print it."""
        return f"hypernetwork-{self.fault.name}" if self.fault else "hypernetwork"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The hash of the weights file itself (not the one that its recipe states), and the fault with its seed."""
        fault = {} if self.fault is None else {"fault": self.fault.name, "seed": self.seed}
        gains = {} if self.gains is None else {"gains": dict(sorted(self.gains.items()))}
        return {"sha256": self.organism.hypernetwork_sha256, **fault, **gains}

    @property
    def native_logits(self) -> Callable[[Document, str], Float[Tensor, " vocab"]] | None:
        """The logits of the hypernetwork's own adapted model; None with a fault or gains, which are put in outside of it."""
        return None if self.fault is not None or self.gains is not None else self._native_logits

    @torch.no_grad()
    def _native_logits(self, document: Document, text: str) -> Float[Tensor, " vocab"]:
        """As in training: the factors as they leave the network, on its own copy of the base."""
        network = self.organism.hypernetwork
        ids = torch.tensor([token_ids(self.organism.tokenizer, text)])
        with organism_applied(network.base, network.encode([document.text]), 1) as model:
            return model(input_ids=ids).logits[0, -1]

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter per document; all documents together, since some faults exchange updates among them."""
        network = self.organism.hypernetwork
        rows = [token_ids(self.organism.tokenizer, document.text) for document in documents]
        require_room(documents, rows, network.base.config.max_position_embeddings, self.name)
        factors = network.encode([document.text for document in documents])
        if self.fault is not None:
            factors = self.fault(factors, self.seed)
        if self.gains is not None:
            factors = scaled(factors, torch.tensor([self.gains[document.key] for document in documents]))
        return [
            Adapter(f"{self.name}:{document.key}", {path: LowRank(A[n], B[n]) for path, (A, B) in factors.items()})
            for n, document in enumerate(documents)
        ]


def open_hypernetwork(
    subject: Subject, fault: str = "", seed: int = 0, folder: str = ""
) -> OrganismHypernetworkSource | SmolLM2HypernetworkSource | PlantedSource:
    """The hypernetwork in `folder`, or the one that ships for the subject: the organism's or SmolLM2's.

    Raises AdapterError where there is none, where the fault is unknown, or for a fault in any but the organism's.

    A fault of the factors alone is put into the adapters of any document; a plant knows the organism's own items.
    """
    faults = {known.name: known for known in FAULTS}
    plants = {name: plant for name, plant in PLANTS.items() if not plant.runner_up}
    if fault and fault not in faults and fault not in plants:
        known_names = list(dict.fromkeys([*faults, *plants]))
        near = difflib.get_close_matches(fault, known_names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise AdapterError(f"unknown fault {fault!r}{hint} Known: {', '.join(known_names)}")
    source = trained_in(Path(folder), subject) if folder else shipped_for(subject)
    if source is None and fault in plants and fault not in faults:
        organism = organism_of(subject)
        context = planting_context(organism.hypernetwork, plant_items(organism, splits=ALL_SPLITS))
        return PlantedSource(plants[fault], context, seed)
    if source is None:
        return OrganismHypernetworkSource(organism_of(subject), faults.get(fault), seed)
    if fault:
        raise AdapterError(
            f"fault={fault}: faults can be put into the organism's hypernetwork alone; use --subject organism"
        )
    return source


def organism_of(subject: Subject) -> Organism:
    """The organism whose base this subject is: the shipped one, or one trained into a folder. Raises AdapterError."""
    folder = Path(str(subject.model.config.name_or_path)).parent
    if not (folder / "hypernetwork.safetensors").is_file():
        raise AdapterError(
            f"{subject.name} ships no hypernetwork that was trained on these weights; train one "
            "(docs/smollm2-hypernetwork.md), use --subject organism, or choose other --adapters (`override-gap list adapters`)"
        )
    return load(folder=folder)


@dataclass(frozen=True, eq=False)
class SmolLM2HypernetworkSource:
    """The hypernetwork for SmolLM2, with a float32 copy of the subject's base on the CPU.

    It reads documents with that copy whatever the subject's number format and device, so the adapters do not depend on them.
    """

    subject: Subject
    trained: TrainedHypernetwork

    name = "hypernetwork"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The hash that its recipe states: the file was compared with it, and is again when the network is read from it."""
        return {"sha256": self.trained.digest}

    @cached_property
    def hypernetwork(self) -> SmolLM2Hypernetwork:
        """The network beside the copy of the base; opened at the first adapter."""
        from transformers import LlamaForCausalLM

        path = self.subject.model.config.name_or_path
        base: Any = LlamaForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
        if not _rounds_to(base, self.subject):
            raise AdapterChanged(
                f"{path} has changed since it was opened: its weights are not those of {self.subject.name}"
            )
        try:
            network = self.trained.network()
        except ValueError as fault:
            raise AdapterChanged(str(fault)) from fault
        return SmolLM2Hypernetwork(base.eval().requires_grad_(False), self.subject.tokenizer, network)

    @torch.no_grad()
    def native_logits(self, document: Document, text: str) -> Float[Tensor, " vocab"]:
        """The logits of its own adapted model, as in training: the factors as they leave the network, on its copy of the base."""
        network, ids = self.hypernetwork, torch.tensor([self.subject.tokenize(text)])
        with smollm2_applied(network.base, network.encode([document.text]), torch.zeros_like(ids)) as model:
            return model(input_ids=ids).logits[0, -1]

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """One adapter per document, of rank 4 on the down projections of the upper layers."""
        document_tokens(self.subject, documents, self.name)
        factors = self.hypernetwork.encode([document.text for document in documents])
        return [
            Adapter(f"{self.name}:{document.key}", {path: LowRank(A[n], B[n]) for path, (A, B) in factors.items()})
            for n, document in enumerate(documents)
        ]


def shipped_for(subject: Subject) -> SmolLM2HypernetworkSource | None:
    """The hypernetwork that ships with the package, if it was trained on this subject's base; else None.

    Raises AdapterError where its weights have changed.
    """
    if not (WEIGHTS / "recipe.json").is_file() or not smollm2.load(WEIGHTS).was_trained_on(
        float32_fingerprint(subject)
    ):
        return None
    return trained_in(WEIGHTS, subject)


def trained_in(folder: Path, subject: Subject) -> SmolLM2HypernetworkSource:
    """The hypernetwork in a folder. Raises AdapterError where there is none, it has changed, or its base is another."""
    try:
        trained = smollm2.load(folder)
        intact = trained.intact()
    except (ValueError, OSError) as fault:
        raise AdapterError(str(fault)) from fault
    if not intact:
        raise AdapterError(
            f"{folder}: the weights are not those that recipe.json records; train or copy the folder again"
        )
    if not trained.was_trained_on(float32_fingerprint(subject)):
        base = trained.recipe["base"]["name"]
        raise AdapterError(
            f"{folder}: this hypernetwork is for {base}, and {subject.name} has other weights; audit that base"
        )
    return SmolLM2HypernetworkSource(subject, trained)


def float32_fingerprint(subject: Subject) -> str:
    """The fingerprint that a subject has in float32, whatever format its weights were rounded to when it was opened.

    It is that of the subject's folder in float32, if rounding the weights there gives the subject's; else the subject's own.
    """
    path = Path(str(subject.model.config.name_or_path))
    if subject.dtype == torch.float32 or not (path / "config.json").is_file():
        return subject.fingerprint
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quietly():
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, use_safetensors=True)
    # wrapping gives the tokenizer a padding token where it has none: the folder's is without
    return (
        subject_fingerprint(model, AutoTokenizer.from_pretrained(path))
        if _rounds_to(model, subject)
        else subject.fingerprint
    )


def _rounds_to(model: Any, subject: Subject) -> bool:
    """Whether a model's weights, rounded to the subject's number format, are the subject's."""
    # the subject may hold more than the folder: wrapping gives its unembedding a bias of zeros
    rounded = dict(named_tensors(subject.model))
    return all(
        name in rounded and torch.equal(exact.to(rounded[name].dtype), rounded[name].cpu())
        for name, exact in named_tensors(model)
    )
