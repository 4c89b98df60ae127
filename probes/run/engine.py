"""Engine: who measures a run's units; and how one unit is measured, which is the same whoever does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from override_gap.margins.adapter import Adapter, AdapterSource
from override_gap.margins.conditions import Condition
from override_gap.margins.items.item import Document, Item
from override_gap.margins.runtime import Prefix
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.batching import BatchSizer
from override_gap.probes.readings.generation import Sampling
from override_gap.probes.run import rows
from override_gap.probes.run.batch import MeasurementSetup
from override_gap.probes.run.encode import encode, encode_reworded
from override_gap.probes.run.unit import UnitReadings, measure
from override_gap.probes.store.run_store import RunStore
from override_gap.probes.subject.model import Subject
from override_gap.probes.timing import timed

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

    def bench(self, subject: Subject, room: BatchSizer) -> MeasurementSetup:
        """The job on a subject, in the room that its machine was found to have."""
        subject = subject if self.system is None else replace(subject, system=self.system)
        return MeasurementSetup(
            subject, self.conditions, self.probes, self.batch_size, self.seed, self.sampled, self.plain, room
        )


@dataclass(frozen=True)
class Finished:
    """A unit whose tables are written: its largest attribution gap, nats; what took how long; what its adapters touch.

    `faults`: rows that failed by a fault that another try may not meet. `most`: the largest batch that memory took, where
    it ran out.
    """

    key: str
    attribution_gap: float
    adapters_s: float
    measuring_s: float
    adapters: Mapping[str, Any]
    faults: int = 0
    most: int | None = None


@runtime_checkable
class Engine(Protocol):
    """Who measures: it has a subject and a source, here or elsewhere, as often as it likes."""

    def ask(self, question: Callable[[Subject, AdapterSource], Answer]) -> Answer:
        """What a function says of the subject and the source."""
        ...

    def measure(self, job: Job, pending: Sequence[Unit], store: RunStore) -> Iterator[Finished]:
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

    def measure(self, job: Job, pending: Sequence[Unit], store: RunStore) -> Iterator[Finished]:
        """Measure units in their order and write each into the store."""
        bench = job.bench(self.subject, BatchSizer())
        for unit in pending:
            yield measure_unit(bench, self.source, job.answered, unit, store)


def measure_unit(
    bench: MeasurementSetup, source: AdapterSource, answered: frozenset[str], unit: Unit, store: RunStore
) -> Finished:
    """Make a unit's adapters, measure its items under every condition, write its tables.

    What fails for one document or item is its rows' error. Raises AdapterError where the first unit fails as a whole: then
    it is not one document's fault, and the run is not worth its time.
    """
    clock = time.monotonic()
    changed = bench.subject.how_changed(weights=False)
    usable = tuple(d for d in unit.documents if d.text.strip() and not changed)
    with timed("adapters"):
        made = encode(source, usable)
        given = [made.adapters[d.text] for d in usable if d.text in made.adapters]
        told = encode_reworded(source, [d for d in usable if d.text in made.adapters], bench.conditions)
    hopeless = (made.broken and not given) or (told.broken and not told.adapters)
    if hopeless and not store.keys():
        raise AdapterError(next(iter((made | told).broken.values())))
    ready = time.monotonic()
    with timed("readings"):
        measured = measure(bench, unit.items, made | told, answered) if not changed else None
    changed = changed or bench.subject.how_changed()
    if changed or measured is None:
        measured = _failed(bench, unit.items, changed or "")
    elif measured.faults and not any(row["status"] == "ok" for row in measured.readings) and not store.keys():
        raise AdapterError(measured.readings[-1]["error"])
    with timed("files"):
        store.write_unit(unit.key, measured.readings, measured.layers, measured.drawn, measured.faults)
    seconds = ready - clock, time.monotonic() - ready
    described = _described(given) if given else {}
    return Finished(unit.key, measured.attribution_gap, *seconds, described, measured.faults, bench.room.most)


def _failed(bench: MeasurementSetup, items: Sequence[Item], reason: str) -> UnitReadings:
    """Every row of a unit that cannot be trusted."""
    table = [rows.failed(item, condition.name, reason) for item in items for condition in bench.conditions]
    return UnitReadings(table, [], 0.0, faults=len(table))


def _described(adapters: Sequence[Any]) -> Mapping[str, Any]:
    """What a unit's adapters touch, for the report's methods."""
    if not all(isinstance(adapter, Adapter) for adapter in adapters):
        lengths = [adapter.positions for adapter in adapters if isinstance(adapter, Prefix)]
        return {"prefix": max(lengths)} if lengths else {}
    paths = {path.rsplit(".", 1)[-1] for adapter in adapters for path in adapter.paths}
    ranks = {update.rank for adapter in adapters for _, update in adapter.parts()}
    return {"modules": sorted(paths), "rank": max(ranks)}
