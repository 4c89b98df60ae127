"""Unit: some documents and every item that asks about them, under every condition; a pure function of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from override_gap.margins.adapter import AnyAdapter
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.batching import batches, rows_that_fit
from override_gap.probes.readings.prior import locate
from override_gap.probes.run import rows
from override_gap.probes.run.answers import AnswerRequest, answer, draw
from override_gap.probes.run.batch import MeasurementSetup, _Batch, _crowded, _Read
from override_gap.probes.run.distractors import Distractors
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.subject.model import Subject

NO_ROOM = "memory ran out for this item alone"


@dataclass(frozen=True)
class UnitReadings:
    """The rows of a unit, the largest attribution gap in it, nats, and the answers drawn at a temperature.

    `faults` of the rows failed by what another try may not meet: no memory for one item alone, a source that raised.
    """

    readings: list[dict[str, Any]]
    layers: list[dict[str, Any]]
    attribution_gap: float
    drawn: list[dict[str, Any]] = field(default_factory=list)
    faults: int = 0


def measure(
    bench: MeasurementSetup, items: Sequence[Item], made: EncodedDocuments, answered: frozenset[str]
) -> UnitReadings:
    """Measure items whose documents' adapters are given by document text; `answered` ids are also answered in words.

    Batches hold items of like length. An item that cannot be read (its answers share all tokens, say) is a row with its
    reason under every condition.
    """
    readings: list[dict[str, Any]] = []
    layers: list[dict[str, Any]] = []
    asked: list[AnswerRequest] = []
    gap, faults = 0.0, 0
    able: list[tuple[Item, Divergence]] = []
    for item in items:
        if item.document in made.broken:
            readings += _failed(bench, item, made.broken[item.document])
            faults += len(bench.conditions)
            continue
        try:
            able.append((item, _located(bench.subject, item, made.adapters.get(item.document))))
        except ItemError as reason:
            readings += _failed(bench, item, str(reason))
    company = Distractors.of(items, made)
    able.sort(key=lambda pair: (len(pair[1].fed), pair[0].id))
    lengths = [len(place.fed) for _, place in able]
    most = bench.batch_size or rows_that_fit(bench.subject, max(lengths, default=1))
    parts = [[able[n] for n in some] for some in batches(lengths, most)]
    for read in bench.room.each(
        parts, partial(_batch, bench, company, answered), lambda pair, _: _lost(bench, pair[0], NO_ROOM)
    ):
        readings += read.readings
        layers += read.layers
        asked += read.asked
        gap = max(gap, read.gap)
        faults += read.faults
    # all conditions together: one batch holds as many answers as it can
    if "answers" in bench.probes:
        faults += answer(bench.subject, asked, most, bench.room)
    asked = [own for own in asked if own.row["status"] == "ok"]
    sampled = bench.sampled if "sampled" in bench.probes else ()
    drawn, lost = draw(bench.subject, asked, most, sampled, bench.room)
    return UnitReadings(readings, layers, gap, drawn, faults + lost)


def _batch(
    bench: MeasurementSetup, company: Distractors, answered: frozenset[str], part: Sequence[tuple[Item, Divergence]]
) -> _Read:
    """All conditions of one batch. Where an adapter is found not to fit or fails, each item is read by itself."""
    try:
        batch = _Batch.prepare(bench, [i for i, _ in part], [d for _, d in part], company)
        return _Read.together([batch.run(condition, answered) for condition in bench.conditions])
    except AdapterError as fault:
        reason = str(fault)
    if len(part) == 1:
        return _lost(bench, part[0][0], reason)
    return _Read.together([_batch(bench, company, answered, [pair]) for pair in part])


def _failed(bench: MeasurementSetup, item: Item, reason: str) -> list[dict[str, Any]]:
    return [rows.failed(item, condition.name, reason) for condition in bench.conditions]


def _lost(bench: MeasurementSetup, item: Item, reason: str) -> _Read:
    """An item that a fault kept from being measured."""
    return _Read(_failed(bench, item, reason), [], faults=len(bench.conditions))


def _located(subject: Subject, item: Item, adapter: AnyAdapter | None) -> Divergence:
    """Where an item is read, with room for what its adapter puts in front. Raises ItemError."""
    place = locate(subject, item)
    crowded = _crowded(subject, place, adapter)
    if crowded is not None:
        raise ItemError(crowded)
    return place
