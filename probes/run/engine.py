"""Engines measure a run's units; one unit is measured the same by every engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from override_gap.margins.adapter import Adapter, AdapterSource, AnyAdapter
from override_gap.margins.conditions import Condition
from override_gap.margins.items.item import Document, Item
from override_gap.margins.items.null_documents import NullDocuments
from override_gap.margins.runtime import Prefix
from override_gap.probes.errors import AdapterChanged, AdapterError
from override_gap.probes.readings.batching import BatchSizer
from override_gap.probes.readings.generation import Sampling
from override_gap.probes.run import rows
from override_gap.probes.run.basis import require_basis
from override_gap.probes.run.comparisons import Comparisons
from override_gap.probes.run.dose_sample import DoseSample
from override_gap.probes.run.encode import encode, encode_reworded
from override_gap.probes.run.encode_nulls import MeanAdapters, encode_nulls
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.repeated_document import RepeatedDocument
from override_gap.probes.run.unit import UnitReadings, measure
from override_gap.probes.store.run_store import RunStore
from override_gap.probes.subject.chat_template import ChatSettings
from override_gap.probes.subject.model import Subject
from override_gap.probes.timing import timed

T = TypeVar("T")


@dataclass(frozen=True)
class Unit:
    """Some documents, the items that ask about them, and the key of their content."""

    documents: tuple[Document, ...]
    items: tuple[Item, ...]
    key: str


@dataclass(frozen=True)
class Job:
    """How every unit of a run is measured. It holds no model, so that it can be sent to where the model is.

    `basis` is what the run began with, and `repeated` a document whose adapter must still be the same: both are compared once
    a unit's adapters are made, before its items are measured.
    """

    conditions: tuple[Condition, ...]
    probes: frozenset[str]
    batch_size: int
    seed: int
    sampled: tuple[Sampling, ...]
    answered: frozenset[str]
    chat: ChatSettings
    plain: bool = False
    nulls: NullDocuments | None = None
    comparisons: Comparisons = field(default_factory=Comparisons)
    rescued_answers: int = 0
    cluster: str = "relation"
    doses: DoseSample = field(default_factory=DoseSample)
    basis: Mapping[str, str] = field(default_factory=dict)
    repeated: RepeatedDocument | None = None
    identity: str | None = None

    def setup(
        self, subject: Subject, batch_sizer: BatchSizer, told: Callable[[str], None] = lambda _: None
    ) -> MeasurementSetup:
        """The job on a subject, with the batch size that its machine's memory was found to take."""
        subject = replace(subject, chat=self.chat)
        return MeasurementSetup(
            subject,
            self.conditions,
            self.probes,
            self.batch_size,
            self.seed,
            self.sampled,
            self.plain,
            batch_sizer,
            self.comparisons,
            self.rescued_answers,
            self.doses,
            told,
        )


@dataclass(frozen=True)
class FinishedUnit:
    """A unit whose tables are written: its largest attribution gap, nats; its seconds; which maps its adapters change.

    `attribution_gap` is None where no margin was split over layers; `attribution_missed` counts rows whose gap is more than
    rounding. `unread` is what could not be read: rows of `probe` with their `reason`. `faults` counts rows that failed for
    reasons that may be transient. `largest_batch` is what memory took, where it ran out. `means`: of how many documents the
    mean adapters of null-mean are, `means_left_out`: how many were left out of them, since they are not finite.
    """

    key: str
    attribution_gap: float | None
    adapters_s: float
    measuring_s: float
    adapters: Mapping[str, Any]
    faults: int = 0
    largest_batch: int | None = None
    unread: tuple[Mapping[str, str], ...] = ()
    attribution_missed: int = 0
    means: tuple[int, ...] = ()
    means_left_out: tuple[int, ...] = ()


@runtime_checkable
class Engine(Protocol):
    """Holds a subject and a source, in this process or in several others, and measures units with them."""

    def ask(self, question: Callable[[Subject, AdapterSource], T]) -> T:
        """The result of a function of the subject and the source."""
        ...

    def measure(self, job: Job, pending: Sequence[Unit], store: RunStore) -> Iterator[FinishedUnit]:
        """Measure units and write them into the store, in any order; each is yielded once it is written."""
        ...


@dataclass(frozen=True, eq=False)
class Local:
    """One unit after another in this process; `told` is told how far a unit is where that takes long."""

    subject: Subject
    source: AdapterSource
    told: Callable[[str], None] = lambda _: None

    def ask(self, question: Callable[[Subject, AdapterSource], T]) -> T:
        """The result of a function of the subject and the source."""
        return question(self.subject, self.source)

    def measure(self, job: Job, pending: Sequence[Unit], store: RunStore) -> Iterator[FinishedUnit]:
        """Measure units in their order and write each into the store."""
        setup, means = job.setup(self.subject, BatchSizer(), self.told), MeanAdapters()
        for unit in pending:
            yield measure_unit(setup, self.source, job, unit, store, means)


def measure_unit(
    setup: MeasurementSetup, source: AdapterSource, job: Job, unit: Unit, store: RunStore, means: MeanAdapters
) -> FinishedUnit:
    """Make a unit's adapters, measure its items under every condition, write its tables.

    What fails for one document or item is an error in its rows. Raises AdapterChanged or RunError where the process measures with
    something else than the run began with, AdapterError where the first unit fails as a whole:
    then it is not one document's fault, and measuring the others would be in vain.
    """
    started = time.monotonic()
    change = setup.subject.how_changed(weights=False)
    documents = tuple(d for d in unit.documents if d.text.strip() and not change)
    with timed("adapters"):
        encoded = encode(source, documents)
        with_adapter = [d for d in documents if d.text in encoded.adapters]
        reworded = encode_reworded(source, with_adapter, setup.conditions)
        items = () if change else unit.items
        nulls = encode_nulls(source, job.nulls, items, setup.conditions, encoded, means)
        require_basis(setup.subject, source, job.basis)
        if job.repeated is not None and not change:
            try:
                job.repeated.require_same(source)
            except AdapterChanged:
                # a model that changed while adapters were made gives others; its rows are errors then, as they are later
                change = setup.subject.how_changed()
                if not change:
                    raise
    all_failed = (encoded.broken and not with_adapter) or (reworded.broken and not reworded.adapters)
    if all_failed and not store.keys():
        raise AdapterError(next(iter((encoded | reworded).broken.values())))
    adapters_made = time.monotonic()
    with timed("readings"):
        measured = (
            measure(setup, unit.items, replace(encoded | reworded, nulls=nulls), job.answered) if not change else None
        )
    change = change or setup.subject.how_changed()
    if change or measured is None:
        measured = _all_failed(setup, unit.items, change or "")
    elif measured.faults and not any(row["status"] == "ok" for row in measured.readings) and not store.keys():
        raise AdapterError(measured.readings[-1]["error"])
    rows.add_clusters(measured.readings, unit.items, job.cluster)
    with timed("files"):
        tables = {"drawn": measured.drawn, "search": measured.search, **measured.tables}
        store.write_unit(unit.key, measured.readings, measured.layers, measured.faults, tables, job.identity)
    return FinishedUnit(
        unit.key,
        measured.attribution_gap,
        adapters_made - started,
        time.monotonic() - adapters_made,
        _what_adapters_change([encoded.adapters[d.text] for d in with_adapter]),
        measured.faults,
        setup.batch_sizer.most,
        measured.unread,
        measured.attribution_missed,
        () if nulls is None else tuple(mean.documents for mean in nulls.means),
        () if nulls is None else tuple(mean.left_out for mean in nulls.means),
    )


def _all_failed(setup: MeasurementSetup, items: Sequence[Item], reason: str) -> UnitReadings:
    """Error rows for all of a unit, whose numbers cannot be trusted."""
    table = [rows.failed(item, condition.name, reason) for item in items for condition in setup.conditions]
    return UnitReadings(table, [], None, faults=len(table))


def _what_adapters_change(adapters: Sequence[AnyAdapter]) -> Mapping[str, Any]:
    """The maps that a unit's adapters change and their largest rank, or their longest prefix, for the report."""
    updates = [adapter for adapter in adapters if isinstance(adapter, Adapter)]
    if len(updates) < len(adapters):
        lengths = [adapter.positions for adapter in adapters if isinstance(adapter, Prefix)]
        return {"prefix": max(lengths)} if lengths else {}
    if not updates:
        return {}
    # an expert's path ends in its number
    maps = {path.rstrip("0123456789").rstrip(".").rsplit(".", 1)[-1] for adapter in updates for path in adapter.paths}
    ranks = {update.rank for adapter in updates for _, update in adapter.parts()}
    left_out = sorted({path for adapter in updates for path in adapter.left_out})
    return {"modules": sorted(maps), "rank": max(ranks), **({"left_out": left_out} if left_out else {})}
