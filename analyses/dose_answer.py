"""What the prior-dose experiment says in words: the answer with its numbers, why there is none, and what they do not show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from override_gap.analyses.dose_rows import OWN, UP_TO_SMALL, all_rows, asked
from override_gap.analyses.dose_slopes import ANSWERS, OUTER, Slopes
from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, truth, values
from override_gap.analyses.stats.regression import Coefficient

LESS_PLACEBO = "own less placebo"
MOST_BEYOND = 0.1
"""Share of the largest dose's priors above all of the run's own, from which the sentence says so."""
LEAST_KEPT = 0.9
"""Share of unrelated answers that the updates have to keep, or the sentence says so."""


def too_few_reached(own: Table, sizes: list[float]) -> str:
    """Why the doses that were reached say nothing of all: of the raised or of the lowered ones less than half; else empty."""
    grid = asked(own, sizes)
    for sign, of_it in (("raised", values(grid["dose"]) > 0), ("lowered", values(grid["dose"]) < 0)):
        reached = int(grid.loc[of_it, "reached"].sum())
        if of_it.any() and reached < of_it.sum() / 2:
            return f"No answer is read from it: of the {sign} doses {reached} of {of_it.sum()} were reached."
    return ""


def cautions(run: RunFrame) -> list[str]:
    """What the numbers of an answer do not show: priors beyond the run's own, and updates that harm unrelated answers."""
    found = []
    base = all_rows(run)[lambda rows: rows["condition"] == BASE]
    largest = values(run.select("conflict", DELIVERED, "known")["prior_margin"])
    most = values(base["dose"]).max(initial=0.0)
    raised = base[(base["arm"] == OWN) & (base["dose"] == most) & (truth(base["reached"]) == 1)]
    beyond = values(raised["prior_margin"]) > largest.max(initial=-np.inf)
    if most > 0 and len(raised) and len(largest) and beyond.mean() > MOST_BEYOND:
        found.append(
            f"At {most:+g} nats {100 * beyond.mean():.0f}% of the priors are larger than any of the run's known conflicts."
        )
    kept = values(base.loc[base["arm"] == OWN, "kept"])
    kept = kept[np.isfinite(kept)]
    if len(kept) and kept.mean() < LEAST_KEPT:
        found.append(
            f"The updates keep {100 * kept.mean():.0f}% of unrelated answers: they change more than this belief."
        )
    return found


def sentence(
    answer: str,
    causal: Slopes | None,
    name: str,
    between: Sequence[tuple[float, float, Coefficient]] = (),
    small: Coefficient | None = None,
) -> str:
    """What the slopes say, with their numbers; `between` are those from dose to dose, `small` that without the largest doses."""
    if causal is None:
        return "Too few knowledge points were read under a dose to say how the adapter margin answers."
    slope = causal.everything.estimate("")
    of = "of the own update less the placebo's" if name == LESS_PLACEBO else "of the own update"
    text = (
        f"Of each nat added to the prior margin, {slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}] reach the adapted margin "
        f"({of}, {slope.n} conflicts; 1 where the adapter margin is constant): {ANSWERS[answer]}."
    )

    def pair(*slopes: Coefficient) -> list[str]:
        return [
            f"{each.value:.2f} [{each.low:.2f}, {each.high:.2f}]" for each in (part.estimate("") for part in slopes)
        ]

    if answer == "bends" and between:
        told = (f"{pair(step)[0]} from {low:+g} to {high:+g}" for low, high, step in between)
        text += f" From dose to dose: {', '.join(told)}."
    elif len(causal.signs) == 2:
        text += " {} over raised doses, {} over lowered.".format(*pair(causal.signs["raised"], causal.signs["lowered"]))
    if small is not None:
        text += f" {pair(small)[0]} over doses {UP_TO_SMALL} either way."
    if all(part in causal.parts for part in OUTER):
        low, high = pair(*(causal.parts[part] for part in OUTER))
        text += f" By net margin without a dose: {low} in the lowest third, {high} in the highest."
    return text
