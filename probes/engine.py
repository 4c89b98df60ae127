"""Engine: who measures a run's units; and how one unit is measured, which is the same whoever does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from margins.adapter import Adapter, AdapterSource, Delivered, traits
from margins.conditions import Condition
from margins.items import Document, Item
from margins.opaque import Prefix
from probes.generation import Sampling
from probes.profile import spent_on
from probes.remote import Remote
from probes.sites import AdapterError
from probes.sources.foreign import delivered
from probes.store import Store
from probes.subject import Subject
from probes.unit import Bench, measure

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Unit:
    """Some documents, the items that ask about them, and the key of their content."""

    documents: tuple[Document, ...]
    items: tuple[Item, ...]
    key: str


@dataclass(frozen=True)
class Job:
    """What every unit of a run is measured for. It holds no model, so that it can be sent to where the model is."""

    conditions: tuple[Condition, ...]
    probes: frozenset[str]
    batch_size: int
    seed: int
    sampled: tuple[Sampling, ...]
    answered: frozenset[str]
    system: str | None
    plain: bool = False

    def bench(self, subject: Subject) -> Bench:
        """The job on a subject."""
        subject = subject if self.system is None else replace(subject, system=self.system)
        return Bench(subject, self.conditions, self.probes, self.batch_size, self.seed, self.sampled, self.plain)


@dataclass(frozen=True)
class Finished:
    """A unit whose tables are written: its largest attribution gap, nats; what took how long; what its adapters touch."""

    key: str
    attribution_gap: float
    adapters_s: float
    measuring_s: float
    adapters: Mapping[str, Any]


class Engine(Protocol):
    """Who measures: it has a subject and a source, here or elsewhere, as often as it likes."""

    def ask(self, question: Callable[[Subject, AdapterSource], Answer]) -> Answer:
        """What a function says of the subject and the source."""
        ...

    def measure(self, job: Job, pending: Sequence[Unit], store: Store | Remote) -> Iterator[Finished]:
        """Measure units and write them into the store, in any order; each is yielded once it is written."""
        ...


@dataclass(frozen=True, eq=False)
class Local:
    """One unit after another in this process."""

    subject: Subject
    source: AdapterSource

    def ask(self, question: Callable[[Subject, AdapterSource], Answer]) -> Answer:
        """What a function says of the subject and the source."""
        return question(self.subject, self.source)

    def measure(self, job: Job, pending: Sequence[Unit], store: Store | Remote) -> Iterator[Finished]:
        """Measure units in their order and write each into the store."""
        bench = job.bench(self.subject)
        for unit in pending:
            yield measure_unit(bench, self.source, job.answered, unit, store)


def measure_unit(
    bench: Bench, source: AdapterSource, answered: frozenset[str], unit: Unit, store: Store | Remote
) -> Finished:
    """Make a unit's adapters, measure its items under every condition, write its tables."""
    clock = time.monotonic()
    usable = tuple(d for d in unit.documents if d.text.strip())
    with spent_on("adapters"):
        adapters = delivered(source, usable)
        by_text = {d.text: a for d, a in zip(usable, adapters, strict=True)}
        by_text |= _retold(source, usable, bench.conditions)
    made = time.monotonic()
    with spent_on("readings"):
        measured = measure(bench, unit.items, by_text, answered)
    with spent_on("files"):
        store.write_unit(unit.key, measured.readings, measured.layers, measured.drawn)
    seconds = made - clock, time.monotonic() - made
    return Finished(unit.key, measured.attribution_gap, *seconds, _described(adapters))


def _retold(
    source: AdapterSource, documents: Sequence[Document], conditions: Sequence[Condition]
) -> dict[str, Delivered]:
    """Adapters of the documents in the wordings of the conditions' variants, by the text they are made of.

    A text told otherwise has no ids and no points: an adapter filed under these is of the document as it stands. Raises
    AdapterError for a source with one adapter for every document, of which no variant can be made.
    """
    made = {
        c.variant: c.name for c in conditions if c.variant is not None and c.policy is not None and c.prompt is None
    }
    if made and traits(source).scope == "nothing":
        raise AdapterError(
            f"source {source.name}: one adapter serves every document, so none can be made for {next(iter(made.values()))}; "
            "leave joined, stated and hedged out of --probes and --policies"
        )
    told = {
        text: replace(document, text=text, ids=(), points=())
        for variant in made
        for document in documents
        if (text := variant.retold(document.text)) != document.text
    }
    return dict(zip(told, delivered(source, tuple(told.values())), strict=True)) if told else {}


def _described(adapters: Sequence[Any]) -> Mapping[str, Any]:
    """What a unit's adapters touch, for the report's methods."""
    if not all(isinstance(adapter, Adapter) for adapter in adapters):
        lengths = [adapter.positions for adapter in adapters if isinstance(adapter, Prefix)]
        return {"prefix": max(lengths)} if lengths else {}
    paths = {path.rsplit(".", 1)[-1] for adapter in adapters for path in adapter.paths}
    ranks = {update.rank for adapter in adapters for _, update in adapter.parts()}
    return {"modules": sorted(paths), "rank": max(ranks)}
