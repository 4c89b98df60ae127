"""Inputs shared by the rows: a subject and an unwrapped copy of its model, conflicts, adapters, PEFT folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Document, Item, documents_of
from override_gap.margins.updates import LowRank
from override_gap.probes.environment import home
from override_gap.probes.items import open_items
from override_gap.probes.readings.batching import batches, rows_that_fit
from override_gap.probes.readings.prior import locate
from override_gap.probes.sources.peft_write import write_adapter
from override_gap.probes.subject.forward import Batch
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject

RANK = 4


@dataclass(frozen=True)
class Part:
    """A batch of items of similar length, padded to the longest."""

    items: list[Item]
    places: list[Divergence]
    batch: Batch


@cache
def subject(name: str) -> Subject:
    """The wrapped model, on the CPU in float32."""
    return open_subject(name, device="cpu", dtype="float32")


def bare(name: str) -> Any:
    """The same model as Hugging Face loads it, with nothing around it."""
    from transformers import AutoModelForCausalLM

    if name == "organism":
        from override_gap.probes.organism.load import WEIGHTS

        folder = WEIGHTS / "model"
    else:
        folder = home() / name if name == "smollm2" else Path(name)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def questions(name: str, count: int) -> list[Item]:
    """The first conflicts of the subject's items; several may share a document."""
    items = open_items("organism" if name == "organism" else "benchmark")
    return sorted((item for item in items if item.split == "conflict"), key=lambda item: item.id)[:count]


def conflicts(name: str, count: int) -> list[Item]:
    """The first conflicts with different documents, one per document."""
    by_document = {item.document: item for item in reversed(questions(name, 10**9))}
    return sorted(by_document.values(), key=lambda item: item.id)[:count]


def parts(of: Subject, items: Sequence[Item], most: int | None = None) -> list[Part]:
    """The batches that an audit makes of these items, of at most `most` rows, by default as many as fit in memory."""
    located = sorted(((locate(of, item), item) for item in items), key=lambda pair: (len(pair[0].fed), pair[1].id))
    lengths = [len(place.fed) for place, _ in located]
    cuts = batches(lengths, most or rows_that_fit(of, max(lengths)))
    grouped = [([located[n][1] for n in cut], [located[n][0] for n in cut]) for cut in cuts]
    return [Part(group, places, Batch.of(places, of.device)) for group, places in grouped]


def adapters(of: Subject, items: Sequence[Item], rank: int = RANK, seed: int = 0) -> dict[str, Adapter]:
    """A random low-rank update of every down projection for each document, by document text.

    The cost of an adapter does not depend on its values, so none is fitted.
    """
    by_text = {}
    for number, document in enumerate(documents_of(items)):
        draw = torch.Generator().manual_seed(seed + number)
        updates = {
            path: LowRank(
                torch.randn(rank, site.d_in, generator=draw) * 0.02,
                torch.randn(site.d_out, rank, generator=draw) * 0.02,
            )
            for path, site in of.sites.items()
            if path.endswith("down_proj")
        }
        by_text[document.text] = Adapter(f"document-{number}", updates)
    return by_text


def saved(adapters: dict[str, Adapter], documents: Sequence[Document], folder: Path) -> list[Path]:
    """Write one PEFT folder per document, named by its content key."""
    for document in documents:
        write_adapter(adapters[document.text], folder / document.key)
    return [folder / document.key for document in documents]


@torch.no_grad()
def run_bare(model: Any, batch: Batch) -> Any:
    """One forward pass as Hugging Face gives it: the logits of every position."""
    return model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)


@torch.no_grad()
def run_bare_last(model: Any, batch: Batch) -> Any:
    """The minimal forward pass: the unembedding at one position per row."""
    hidden = model.base_model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
    return model.get_output_embeddings()(hidden[torch.arange(len(batch.ids)), batch.at])
