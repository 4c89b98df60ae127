"""Belief updates of a unit's sampled items: fitted once upwards and once downwards per item, and their gains for every dose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.updates import LowRank
from override_gap.probes.attach.stack import Factors
from override_gap.probes.readings.prior_dose import REACHED, BeliefUpdates, fit_updates, gains_for
from override_gap.probes.readings.question_rows import QuestionRows
from override_gap.probes.run.dosed_items import DosedItem
from override_gap.probes.subject.model import Subject

#: By how much the prior margin is asked to move, nats.
DOSES = (-4.0, -2.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class BeliefFit:
    """One item's two updates, and by dose the gain and how far the item's own prior margin moves there, nats."""

    raising: Adapter
    lowering: Adapter
    gains: Mapping[float, float]
    moved: Mapping[float, float]

    def update(self, dose: float) -> Adapter:
        """The update that a dose is made with, at gain 1."""
        return self.raising if dose > 0 else self.lowering

    def reached(self, dose: float) -> bool:
        """Whether the item's own prior margin moves by the dose, to REACHED nats."""
        return abs(self.moved[dose] - dose) <= REACHED


def fit_beliefs(
    subject: Subject, items: Sequence[DosedItem], paths: Sequence[str], part: str, seed: int
) -> list[BeliefFit]:
    """Fit every item of a batch at the same linear maps; `part` names the update among those of an item."""
    first = min(layer_of(path) or 0 for path in paths)
    asked = QuestionRows.of(subject, [dosed.place for dosed in items], first)
    taught = QuestionRows.of(subject, [dosed.taught for dosed in items], first)
    gains: list[dict[float, float]] = [{} for _ in items]
    moved: list[dict[float, float]] = [{} for _ in items]
    made: list[list[Adapter]] = []
    for name, doses in (("raising", [d for d in DOSES if d > 0]), ("lowering", [d for d in DOSES if d < 0])):
        furthest = max(doses, key=abs)
        seeds = [dosed.seed(seed, f"{part} {name}") for dosed in items]
        fitted = fit_updates(subject, paths, taught, asked, furthest, seeds)
        # all doses of all items in one batch, dose by dose
        rows = [n for _ in doses for n in range(len(items))]
        repeated = BeliefUpdates(fitted.updates.only(rows), fitted.moved[rows], fitted.steps)
        wanted = torch.tensor([dose for dose in doses for _ in items])
        found = gains_for(asked.repeated(rows), repeated, wanted)
        for row, n in enumerate(rows):
            dose = doses[row // len(items)]
            gains[n][dose], moved[n][dose] = found.gains[row].item(), found.moved[row].item()
        made.append(_adapters(fitted, [f"{part} belief, {name}: {dosed.item.id}" for dosed in items]))
    return [BeliefFit(*fit) for fit in zip(*made, gains, moved, strict=True)]


def _adapters(fitted: BeliefUpdates, names: Sequence[str]) -> list[Adapter]:
    """Each row's update as an adapter of its own."""
    factors = {path: update for path, update in fitted.updates.sites.items() if isinstance(update, Factors)}
    return [
        Adapter(
            name, {path: LowRank(pair.A[n].cpu().clone(), pair.B[n].cpu().clone()) for path, pair in factors.items()}
        )
        for n, name in enumerate(names)
    ]
