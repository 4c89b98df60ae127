"""What Ray workers open in tests: a tiny model, and sources that kill their worker or fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from override_gap.margins.adapter import Adapter, AdapterSource
from override_gap.margins.items.item import Document
from override_gap.probes.errors import AdapterError
from override_gap.probes.plan import Plan
from override_gap.probes.sources import open_source
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.subject.model import Subject, wrap
from tests.conftest import conflict, tiny
from tests.families import build

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue", tier="deep") for n in range(7)]
PLAN = Plan(subject="tiny", items="own", policies="as-delivered,slb,random-layers", answers=3)


@dataclass(frozen=True)
class Deadly(FittedAdapters):
    """Fitted adapters; the worker that is given the document of `victim` is killed, once or always."""

    victim: str = ""
    marker: str = ""

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        if any(self.victim in document.text for document in documents) and not (
            self.marker and Path(self.marker).exists()
        ):
            if self.marker:
                Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(documents)


@dataclass(frozen=True)
class Failing(FittedAdapters):
    """A source that cannot serve."""

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        raise AdapterError("this source serves nobody")


def fitted() -> tuple[Subject, FittedAdapters]:
    subject = tiny("llama")
    return subject, FittedAdapters(subject, steps=2)


def _deadly(victim: str, marker: str) -> tuple[Subject, FittedAdapters]:
    subject = tiny("llama")
    return subject, Deadly(subject, steps=2, victim=victim, marker=marker)


def deadly(victim: str, marker: Path | str) -> partial:
    return partial(_deadly, victim, str(marker))


def failing() -> tuple[Subject, FittedAdapters]:
    subject = tiny("llama")
    return subject, Failing(subject, steps=2)


def of_its_own() -> tuple[Subject, FittedAdapters]:
    """Another model in every process."""
    model, tokenizer = build("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight[0, 0] += os.getpid()
    subject = wrap(model, tokenizer, "tiny-llama")
    return subject, FittedAdapters(subject, steps=2)


def _stored(place: str) -> tuple[Subject, AdapterSource]:
    subject = tiny("llama")
    return subject, open_source(place, subject)


def stored(place: Path) -> partial:
    """Adapters in a folder, which a worker hashes when it is started, and again when it is started again."""
    return partial(_stored, str(place))
