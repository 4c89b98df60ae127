"""The probe `prior-dose` on one unit: its sampled items' priors raised and lowered, and the same adapters read on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.batching import rows_that_fit
from override_gap.probes.run.belief_fits import BeliefFit, fit_beliefs
from override_gap.probes.run.distractor_documents import Distractors
from override_gap.probes.run.dose_rows import OTHER_LAYERS, OWN, PLACEBO, item_rows
from override_gap.probes.run.dosed_items import DosedItem, placebo_of
from override_gap.probes.run.item_faults import CAUGHT, ITEM_FAULTS, reason_of
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.search import UnitSearch

PROBE = "prior-dose"
#: A pass with gradients keeps about this many times what one without keeps.
GRADIENT_ROWS = 4
NO_PARTNER = "the unit has no conflict about another fact whose update could be its placebo"
NO_UPDATE = "its document's adapter is no weight update, so there is no site at which to change the belief"
NOT_FITTED = "the update of the other fact that was drawn as its placebo could not be fitted"


@dataclass(frozen=True)
class DoseRows:
    """Rows of the table `prior_dose`, and what could not be read: rows of `probe` with their `reason`."""

    rows: list[dict[str, Any]]
    unread: tuple[dict[str, str], ...] = ()


def measure_doses(
    setup: MeasurementSetup,
    readable: Sequence[tuple[Item, Divergence]],
    distractors: Distractors,
    unit: UnitSearch,
) -> DoseRows:
    """Fit the updates of a unit's sampled items, then read every dose under every condition.

    A dose that is not reached is a row as well, with how far the prior moved; an item without an update is named in `unread`.
    """
    unread: dict[str, str] = {}
    conflicts = [pair for pair in readable if pair[0].split == "conflict" and pair[1].pre is not None]
    everything = [item for item, _ in readable]
    chosen = [item for item, _ in conflicts if item.id in setup.doses.chosen]
    if not chosen:
        return DoseRows([])
    # an update can be fitted to no other split, and to none whose document's method gives no adapter
    able = [item for item, _ in conflicts if isinstance(distractors.adapters[item.document], Adapter)]
    sampled = [item for item in able if item.id in setup.doses.chosen]
    partners = {item.id: placebo_of(item, sampled) or placebo_of(item, able) for item in chosen}
    needed = {item.id for item in chosen} | {partner.id for partner in partners.values() if partner is not None}
    unread |= {item.id: NO_UPDATE for item in chosen if item not in able}
    dosed: dict[str, DosedItem] = {}
    for item, place in conflicts:
        adapter = distractors.adapters[item.document]
        if item.id not in needed or not isinstance(adapter, Adapter):
            continue
        try:
            made = DosedItem.of(setup.subject, item, place, adapter, everything)
        except CAUGHT as fault:
            made = reason_of(fault)
        if isinstance(made, DosedItem):
            dosed[item.id] = made
        elif item in chosen:
            unread[item.id] = made
    own = _fitted(setup, list(dosed.values()), OWN, unread)
    chosen = [item for item in chosen if item.id in own]
    elsewhere = _fitted(setup, [dosed[i.id] for i in chosen if dosed[i.id].other_paths], OTHER_LAYERS, unread)
    rows: list[dict[str, Any]] = []
    for number, item in enumerate(chosen):
        setup.told(f"prior dose, item {number + 1} of {len(chosen)} of this unit")
        partner = partners[item.id]
        fits = {OWN: own[item.id], OTHER_LAYERS: elsewhere.get(item.id)}
        fits[PLACEBO] = None if partner is None else own.get(partner.id)
        name = None if partner is None else partner.id
        read = partial(item_rows, distractors=distractors, unit=unit, dosed=dosed[item.id], partner=name)
        made = {arm: fit for arm, fit in fits.items() if fit is not None}
        try:
            try:
                rows += read(setup, fits=made)
            except AdapterError:  # in some mixtures of experts an adapter can be given to one row of a batch alone
                rows += read(replace(setup, batch_size=1), fits=made)
        except CAUGHT as fault:
            unread[item.id] = reason_of(fault)
        if fits[PLACEBO] is None:
            unread[f"{item.id}, placebo"] = NO_PARTNER if partner is None else NOT_FITTED
    counted: dict[str, list[str]] = {}
    for name, reason in unread.items():
        counted.setdefault(reason, []).append(name)
    reasons = [{"probe": PROBE, "reason": f"{', '.join(names)}: {why}"} for why, names in counted.items()]
    return DoseRows(rows, tuple(reasons))


def _fitted(
    setup: MeasurementSetup, items: Sequence[DosedItem], part: str, unread: dict[str, str]
) -> dict[str, BeliefFit]:
    """The updates of items, by id; those that act on the same maps are fitted together."""
    groups: dict[tuple[str, ...], list[DosedItem]] = {}
    for dosed in items:
        groups.setdefault(dosed.paths if part == OWN else dosed.other_paths, []).append(dosed)
    fits: dict[str, BeliefFit] = {}
    for paths, group in groups.items():
        longest = max(len(dosed.taught.fed) for dosed in group)
        size = max(1, (setup.batch_size or rows_that_fit(setup.subject, longest)) // GRADIENT_ROWS)

        def fit(
            together: Sequence[DosedItem], paths: tuple[str, ...] = paths, among: int = len(group)
        ) -> dict[str, BeliefFit]:
            setup.told(f"prior dose, {part}: updates fitted for {len(fits)} of {among} items of this unit")
            try:
                made = fit_beliefs(setup.subject, together, paths, part, setup.seed)
            except ITEM_FAULTS as fault:
                reason = reason_of(fault)
                if len(together) > 1:  # what fails for one is not lost for those that were fitted with it
                    return {name: belief for dosed in together for name, belief in fit([dosed]).items()}
                unread[f"{together[0].item.id}, {part}"] = reason
                return {}
            return {dosed.item.id: belief for dosed, belief in zip(together, made, strict=True)}

        def too_large(dosed: DosedItem, _: BaseException) -> dict[str, BeliefFit]:
            unread[f"{dosed.item.id}, {part}"] = "memory ran out while its update was fitted alone"
            return {}

        batches = [group[first : first + size] for first in range(0, len(group), size)]
        for made in setup.batch_sizer.each(batches, fit, too_large):
            fits.update(made)
    return fits
