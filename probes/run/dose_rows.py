"""One item's rows of the table `prior_dose`: every arm, dose and condition, read in few passes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch

from override_gap.margins.adapter import Adapter
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import Stack, stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.adapted import Adapted, read_adapted, read_base
from override_gap.probes.readings.batching import rows_that_fit
from override_gap.probes.readings.held_norm import net_at_base_norm
from override_gap.probes.readings.layers import ReadAtGains
from override_gap.probes.readings.prior import Prior, read_prior
from override_gap.probes.readings.question_rows import QuestionRows
from override_gap.probes.readings.reuse import ReusedPasses
from override_gap.probes.readings.unrelated import Cost, read_costs
from override_gap.probes.run.belief_fits import DOSES, BeliefFit
from override_gap.probes.run.distractor_documents import Distractors
from override_gap.probes.run.dosed_items import DosedItem
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.read_comparisons import TEXTS
from override_gap.probes.run.search import QUESTIONS, UnitSearch

OWN, PLACEBO, OTHER_LAYERS = "own", "placebo", "other-layers"
BASE, DELIVERED, HALF, NULL = "base", "as-delivered", "uniform-0.5", "null-other"
NUMBERS = ("prior_margin", "push", "pull", "adapter_margin", "net_margin", "success_top1", "top_token")

#: What each condition reads, by name.
Readings = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Dose:
    """One dose of an item that was reached: the update of an arm, and its gain."""

    arm: str
    dose: float
    update: Adapter
    gain: float


def item_rows(
    setup: MeasurementSetup,
    distractors: Distractors,
    unit: UnitSearch,
    dosed: DosedItem,
    fits: Mapping[str, BeliefFit],
    partner: str | None,
) -> list[dict[str, Any]]:
    """All rows of one item; `fits` are the updates by arm, of which the placebo's is that of the item `partner`.

    A dose that was not reached has rows without readings: only how far the update could move the prior margin.
    """
    null = _null_adapter(distractors, dosed)
    doses = [
        Dose(arm, dose, fit.update(dose), fit.gains[dose])
        for arm, fit in fits.items()
        for dose in DOSES
        if fit.reached(dose)
    ]
    zero = _readings(setup, dosed, null, [])[0]
    size = setup.batch_size or rows_that_fit(setup.subject, len(dosed.place.fed))
    chunks = [doses[first : first + size] for first in range(0, len(doses), size)]
    by_chunk = setup.batch_sizer.each(chunks, partial(_readings, setup, dosed, null), _no_memory)
    found = [readings for chunk in by_chunk for readings in chunk]
    read = {(dose.arm, dose.dose): readings for dose, readings in zip(doses, found, strict=True)}
    effects = _side_effects(setup, unit, dosed, [dose for dose in doses if dose.arm == OWN], size)
    rows: list[dict[str, Any]] = []
    for arm, fit in fits.items():
        for dose in (0.0, *DOSES):
            reached = dose == 0 or fit.reached(dose)
            readings = zero if dose == 0 else read.get((arm, dose))
            moved, gain = fit.moved.get(dose, 0.0), fit.gains.get(dose, 0.0)
            if readings is None:
                # how far another fact's update would have moved this one was not read
                moved, gain = (None if arm == PLACEBO else moved), None
            elif dose:
                moved = _difference(readings[BASE]["prior_margin"], zero[BASE]["prior_margin"])
            for condition in zero:
                more = {} if readings is None else readings[condition]
                if condition == BASE and dose:
                    more = {**more, **effects.get((arm, dose), {})}
                rows.append(
                    {
                        "item": dosed.item.id,
                        "point": dosed.item.point,
                        "split": dosed.item.split,
                        "arm": arm,
                        "dose": dose,
                        "reached": reached,
                        "update_gain": gain,
                        "moved": _finite(moved),
                        "condition": condition,
                        **more,
                        "wording": dosed.wording,
                        "partner": partner if arm == PLACEBO else None,
                    }
                )
    return rows


def _readings(setup: MeasurementSetup, dosed: DosedItem, null: Adapter | None, doses: Sequence[Dose]) -> list[Readings]:
    """The item under each dose and every condition, in one pass per condition; without doses under the base as it is."""
    subject, count = setup.subject, max(1, len(doses))
    ones = torch.ones(count, subject.n_layers)
    streams = subject.norm is not None and subject.cap is None
    under = nullcontext()
    if doses:
        gains = torch.tensor([dose.gain for dose in doses])[:, None].expand(-1, subject.n_layers).contiguous()
        under = attached(subject, stack(subject, [dose.update for dose in doses]), gains)
    own = stack(subject, [dosed.adapter] * count)
    with under:
        prior = read_prior(
            subject, [dosed.item] * count, [dosed.place] * count, layers=streams, keep_blocks=not setup.plain
        )

        def under_adapters(adapters: Stack) -> ReadAtGains:
            # below its first layer an adapter changes nothing: these passes resume from the base's under the same updates
            if setup.plain:
                return partial(read_adapted, subject, prior, adapters, layers=streams)
            return partial(ReusedPasses(subject, prior, adapters, layers=streams), layers=streams)

        at = under_adapters(own)
        states = {BASE: read_base(prior, subject), DELIVERED: at(ones), HALF: at(0.5 * ones)}
        if null is not None:
            states[NULL] = under_adapters(stack(subject, [null] * count))(ones)
    tables = {name: _numbers(setup, state, prior) for name, state in states.items()}
    lead = prior.logits.gather(-1, prior.pre[:, None])[:, 0] - prior.logits.mean(-1)
    tables[BASE] = [{**row, "old_lead": _finite(nats)} for row, nats in zip(tables[BASE], lead.tolist(), strict=True)]
    return [{name: table[n] for name, table in tables.items()} for n in range(count)]


def _numbers(setup: MeasurementSetup, state: Adapted, prior: Prior) -> list[dict[str, Any]]:
    """The columns that are read, a row each; a margin that is not finite is None."""
    margins = state.margins
    columns = [
        margins.prior.tolist(), margins.push.tolist(), margins.pull.tolist(), margins.adapter.tolist(),
        margins.net.tolist(), (state.top == prior.doc).tolist(),
        [setup.subject.tokenizer.decode([t]) for t in state.top.tolist()],
    ]  # fmt: skip
    rows = [dict(zip(NUMBERS, values, strict=True)) for values in zip(*columns, strict=True)]
    held = net_at_base_norm(setup.subject, prior, state)
    if held is not None:
        rows = [{**row, "net_margin_base_norm": value} for row, value in zip(rows, held.tolist(), strict=True)]
    return [
        {name: _finite(value) if isinstance(value, float) else value for name, value in row.items()} for row in rows
    ]


def _side_effects(
    setup: MeasurementSetup, unit: UnitSearch, dosed: DosedItem, doses: Sequence[Dose], size: int
) -> dict[tuple[str, float], dict[str, Any]]:
    """What each own update does to unrelated known questions and text, and to other wordings of its fact."""
    effects: dict[tuple[str, float], dict[str, Any]] = {(dose.arm, dose.dose): {} for dose in doses}
    chosen = unit.rows_for(dosed.item.document)
    together = max(1, size // (QUESTIONS + TEXTS))
    chunks = [doses[first : first + together] for first in range(0, len(doses), together)]

    def costs(some: Sequence[Dose]) -> list[Cost]:
        updates, gains = [dose.update for dose in some], [dose.gain for dose in some]
        return read_costs(setup.subject, unit.comparisons.rows, [chosen] * len(some), updates, gains)

    read = [cost for some in setup.batch_sizer.each(chunks, costs, _no_memory) for cost in some]
    for dose, cost in zip(doses, read, strict=True):
        effects[dose.arm, dose.dose] |= {"kept": _finite(cost.kept), "kl": _finite(cost.kl)}
    if not dosed.others:
        return effects
    others = QuestionRows.of(setup.subject, dosed.others)
    rows = list(range(len(dosed.others)))
    together = max(1, size // len(rows))
    chunks = [doses[first : first + together] for first in range(0, len(doses), together)]

    def moved_by(some: Sequence[Dose]) -> list[float]:
        repeated = others.repeated(rows * len(some))
        updates = stack(setup.subject, [dose.update for dose in some for _ in rows])
        gains = torch.tensor([dose.gain for dose in some for _ in rows])
        return repeated.moved(range(len(repeated)), updates, gains).view(len(some), len(rows)).mean(1).tolist()

    moved = [mean for some in setup.batch_sizer.each(chunks, moved_by, _no_memory) for mean in some]
    for dose, mean in zip(doses, moved, strict=True):
        effects[dose.arm, dose.dose] |= {"others_moved": _finite(mean), "n_others": len(rows)}
    return effects


def _no_memory(dose: Dose, fault: BaseException) -> NoReturn:
    raise AdapterError(f"memory ran out for the dose {dose.dose:g} of the arm {dose.arm} alone") from fault


def _null_adapter(distractors: Distractors, dosed: DosedItem) -> Adapter | None:
    """Another document's adapter, as the condition null-other has it; None where the run measures none or the item has none."""
    found = None if distractors.nulls is None else distractors.nulls.other(dosed.item)
    return found if isinstance(found, Adapter) else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
