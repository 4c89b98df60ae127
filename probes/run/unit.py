"""One unit: some documents and every item that asks about them, under every condition; a pure function of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

import torch

from override_gap.margins.adapter import AnyAdapter
from override_gap.margins.conditions import Condition
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.readings.batching import batches, rows_that_fit
from override_gap.probes.readings.layers import (
    attribution_gap,
    attribution_tolerance,
    read_direct,
    read_layers,
)
from override_gap.probes.readings.prior import locate
from override_gap.probes.run import rows
from override_gap.probes.run.answers import ANSWER_PROBES, AnswerRequest, answer, draw
from override_gap.probes.run.batch import ItemBatch
from override_gap.probes.run.components import component_rows
from override_gap.probes.run.condition_readings import ConditionReadings, too_long_behind_prefix
from override_gap.probes.run.distractor_documents import Distractors
from override_gap.probes.run.document_geometry import geometry_rows
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.run.gain_path import PathRows, read_path
from override_gap.probes.run.item_faults import CAUGHT, ITEM_FAULTS, NO_MEMORY, is_transient, reason_of
from override_gap.probes.run.layer_effects import causal_effects, unread_direct
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.neutral import neutral_rows
from override_gap.probes.run.policy_inputs import KnownOfDocuments
from override_gap.probes.run.prior_dose import DoseRows, measure_doses
from override_gap.probes.run.rescued_answers import answer_rescued
from override_gap.probes.run.search import UnitSearch
from override_gap.probes.subject.model import Subject


@dataclass(frozen=True)
class UnitReadings:
    """The rows of a unit, the largest attribution gap in it, nats, and the answers drawn at a temperature.

    `attribution_gap` is None where no margin was split over layers; `attribution_missed` counts rows whose gap is more than
    rounding. `unread` is what could not be read of these adapters: rows of `probe` with their `reason`. `faults` counts rows
    that failed for reasons that may be transient: no memory for one item, a source that raised. `tables`: rows of further
    tables of the run folder, by the name of the table.
    """

    readings: list[dict[str, Any]]
    layers: list[dict[str, Any]]
    attribution_gap: float | None
    drawn: list[dict[str, Any]] = field(default_factory=list)
    faults: int = 0
    unread: tuple[dict[str, str], ...] = ()
    attribution_missed: int = 0
    search: tuple[dict[str, Any], ...] = ()
    tables: Mapping[str, Sequence[dict[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchRows:
    """The rows of one batch, and what is still to be answered in words; `faults` and `tables` as in `UnitReadings`."""

    readings: list[dict[str, Any]]
    requests: list[AnswerRequest]
    layers: list[dict[str, Any]] = field(default_factory=list)
    attribution_gap: float | None = None
    attribution_missed: int = 0
    faults: int = 0
    unread: tuple[dict[str, str], ...] = ()
    search: tuple[dict[str, Any], ...] = ()
    tables: Mapping[str, Sequence[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def concatenated(cls, parts: Sequence[BatchRows]) -> BatchRows:
        """Several as one, in their order."""
        return cls(
            [row for part in parts for row in part.readings],
            [request for part in parts for request in part.requests],
            [row for part in parts for row in part.layers],
            reduce(larger, (part.attribution_gap for part in parts), None),
            sum(part.attribution_missed for part in parts),
            sum(part.faults for part in parts),
            tuple({row["reason"]: row for part in parts for row in part.unread}.values()),
            tuple(row for part in parts for row in part.search),
            joined_tables([part.tables for part in parts]),
        )


def joined_tables(parts: Sequence[Mapping[str, Sequence[dict[str, Any]]]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of several sets of tables, by table."""
    names = dict.fromkeys(name for tables in parts for name in tables)
    return {name: [row for tables in parts for row in tables.get(name, ())] for name in names}


def larger(one: float | None, other: float | None) -> float | None:
    """The larger of two gaps; None is one that was not measured."""
    return max((gap for gap in (one, other) if gap is not None), default=None)


def measure(
    setup: MeasurementSetup, items: Sequence[Item], encoded: EncodedDocuments, answered: frozenset[str]
) -> UnitReadings:
    """Measure items whose documents' adapters are given by document text; `answered` ids are also answered in words.

    Batches hold items of like length. An item that cannot be read (its answers share all tokens, say) is a row with its
    reason under every condition.
    """
    unreadable: list[BatchRows] = []
    readable: list[tuple[Item, Divergence]] = []
    for item in items:
        if item.document in encoded.broken:
            unreadable.append(_fault(setup, item, encoded.broken[item.document]))
            continue
        try:
            readable.append((item, _locate(setup.subject, item, encoded.adapters.get(item.document))))
        except CAUGHT as fault:
            unreadable.append(_fault(setup, item, reason_of(fault), transient=is_transient(fault)))
    readable.sort(key=lambda pair: (len(pair[1].fed), pair[0].id))
    batch_size = setup.batch_size or rows_that_fit(setup.subject, max((len(p.fed) for _, p in readable), default=1))
    known = KnownOfDocuments.of(items)
    # what a document's own questions show is known when its other questions are read
    first, then = ([pair for pair in readable if known.depends_on_others(pair[0]) == late] for late in (False, True))
    distractors = Distractors.of(items, encoded)
    unit = UnitSearch(setup.read_comparisons, setup.batch_size, setup.batch_sizer, distractors.points)
    measured = BatchRows.concatenated(
        [
            *unreadable,
            *setup.batch_sizer.each(
                [
                    [pairs[n] for n in numbers]
                    for pairs in (first, then)
                    for numbers in batches([len(place.fed) for _, place in pairs], batch_size)
                ],
                partial(_measure_batch, setup, distractors, unit, answered, known),
                lambda pair, _: _fault(setup, pair[0], NO_MEMORY),
            ),
        ]
    )
    doses = measure_doses(setup, readable, distractors, unit) if "prior-dose" in setup.probes else DoseRows([])
    compared, not_compared = _geometry(setup, items, encoded)
    neutral, unread = neutral_rows(setup, readable, encoded) if "neutral" in setup.probes else ([], ())
    # all conditions together: one batch holds as many answers as it can
    requests, faults = measured.requests, measured.faults
    if "answers" in setup.probes:
        faults += answer(setup.subject, requests, batch_size, setup.batch_sizer)
    if "answers" in setup.probes:
        answer_rescued(setup, measured.search, {item.id: item for item in items}, encoded, batch_size)
    requests = [request for request in requests if request.row["status"] == "ok"]
    sampled = setup.sampled if "sampled" in setup.probes else ()
    drawn, failed = draw(setup.subject, requests, batch_size, sampled, setup.batch_sizer)
    return UnitReadings(
        measured.readings,
        measured.layers,
        measured.attribution_gap,
        drawn,
        faults + failed,
        (*measured.unread, *doses.unread, *not_compared, *unread),
        measured.attribution_missed,
        measured.search,
        joined_tables([measured.tables, {"prior_dose": doses.rows, "geometry": compared, "neutral": neutral}]),
    )


def _geometry(
    setup: MeasurementSetup, items: Sequence[Item], encoded: EncodedDocuments
) -> tuple[list[dict[str, Any]], tuple[dict[str, str], ...]]:
    """The unit's adapters against each other, or why they are not compared: rows of `probe` with their `reason`."""
    try:
        return geometry_rows(setup.subject, items, encoded, beside_weights="geometry" in setup.probes), ()
    except CAUGHT as fault:
        reason = reason_of(fault, "memory ran out while a unit's adapters were compared")
    return [], ({"probe": "geometry", "reason": reason},)


def _measure_batch(
    setup: MeasurementSetup,
    distractors: Distractors,
    unit: UnitSearch,
    answered: frozenset[str],
    known: KnownOfDocuments,
    pairs: Sequence[tuple[Item, Divergence]],
) -> BatchRows:
    """All conditions of one batch. Where an item or its adapter fails, each item is read by itself."""
    try:
        batch = ItemBatch.prepare(setup, [item for item, _ in pairs], [place for _, place in pairs], distractors, known)
        searched = batch.searched(unit) if "search" in setup.probes else []
        conditions = [_condition_rows(batch, unit, c, answered, searched) for c in setup.conditions]
        further = [BatchRows([], [], search=tuple(searched))]
        if "components" in setup.probes:
            components, unread = component_rows(batch)
            further.append(BatchRows([], [], tables={"components": components}, unread=unread))
        return BatchRows.concatenated([*conditions, *further])
    except ITEM_FAULTS as fault:
        reason, transient = reason_of(fault), is_transient(fault)
    if len(pairs) == 1:
        return _fault(setup, pairs[0][0], reason, transient=transient)
    return BatchRows.concatenated([_measure_batch(setup, distractors, unit, answered, known, [pair]) for pair in pairs])


def _condition_rows(
    batch: ItemBatch,
    unit: UnitSearch,
    condition: Condition,
    answered: frozenset[str],
    searched: Sequence[dict[str, Any]],
) -> BatchRows:
    """One condition's readings of a batch as rows; `searched` are those of the search, which critical gains start from."""
    subject, probes = batch.setup.subject, batch.setup.probes
    under = condition.read(batch)
    table = rows.readings(
        subject,
        batch.items,
        batch.divergences,
        batch.prior,
        under.state,
        condition.name,
        under.gains,
        under.adapter_norms,
    )
    for n, reason in under.unreadable.items():
        table[n] = rows.failed(batch.items[n], condition.name, reason)
    for n, reason in under.refused.items():
        if table[n]["status"] == "ok":
            table[n] = rows.refused(batch.items[n], condition.name, reason)
    if under.as_delivered and "critical" in probes:
        rows.add_critical_gains(table, batch.critical_gains(searched))
    if "layers" not in probes or not under.has_layers or under.state.residual is None:
        null = batch.searched_null(unit, condition.name, under) if "search" in probes else []
        return BatchRows(table, _requests(batch, under, table, answered), search=tuple(null))
    gains = torch.zeros_like(batch.norms) if under.gains is None else under.gains
    path = read_path(batch, under, table) if under.as_delivered and "gain-path" in probes else PathRows()
    effects = {**causal_effects(batch, under), **path.layers}
    if subject.norm is None:
        layers = rows.layers(batch.items, condition.name, None, batch.norms, gains, effects)
        refused_ids = {batch.items[n].id for n in under.refused}
        layers = [row for row in layers if row["item"] not in refused_ids]
        return BatchRows(
            table, _requests(batch, under, table, answered), layers, unread=path.unread, tables=path.tables(refused_ids)
        )
    profile = read_layers(subject, batch.prior, under.state)
    gaps = attribution_gap(subject, batch.prior, under.state, profile)
    # items whose logits are not finite are error rows already, and have no margin to split
    finite = under.state.margins.net.isfinite() & batch.prior.strength.to(gaps.device).isfinite()
    allowed = attribution_tolerance(subject, batch.prior, under.state)
    missed = (finite & ~(gaps <= allowed)).nonzero().flatten().tolist()
    for n in missed:
        reason = f"layer attribution misses the margin by {gaps[n].item():.3g} nats, more than {allowed[n].item():.3g}"
        table[n] = rows.failed(batch.items[n], condition.name, reason)
    written = read_direct(subject, batch.prior, under.state)
    effects |= {} if written is None else {"direct": written}
    layers = rows.layers(batch.items, condition.name, profile, batch.norms, gains, effects)
    left_out = {batch.items[n].id for n in (*missed, *under.refused)}
    return BatchRows(
        table,
        _requests(batch, under, table, answered),
        [row for row in layers if row["item"] not in left_out],
        gaps[finite].max().item() if bool(finite.any()) else None,
        len(missed),
        unread=(*(unread_direct(batch) if written is None else ()), *path.unread),
        tables=path.tables(left_out),
    )


def _requests(
    batch: ItemBatch, under: ConditionReadings, table: Sequence[dict[str, Any]], answered: frozenset[str]
) -> list[AnswerRequest]:
    """The rows to answer in words: those chosen for it and read, unless the condition only mixes logits."""
    if not batch.setup.probes & ANSWER_PROBES or not under.has_answers:
        return []
    requests = []
    for n, item in enumerate(batch.items):
        if item.id in answered and table[n]["status"] == "ok":
            gains = under.gains[n] if under.gains is not None and bool(under.gains[n].any()) else None
            adapter = None if gains is None else under.adapters[n]
            requests.append(AnswerRequest(table[n], item, under.questions[n], adapter, gains))
    return requests


def _locate(subject: Subject, item: Item, adapter: AnyAdapter | None) -> Divergence:
    """Where an item is read, with room for what its adapter puts in front. Raises ItemError."""
    place = locate(subject, item)
    reason = too_long_behind_prefix(subject, place, adapter)
    if reason is not None:
        raise ItemError(reason)
    return place


def _fault(setup: MeasurementSetup, item: Item, reason: str, *, transient: bool = True) -> BatchRows:
    """An item that a fault, which may be transient, kept from being measured."""
    failed = [rows.failed(item, condition.name, reason) for condition in setup.conditions]
    return BatchRows(failed, [], faults=len(failed) if transient else 0)
