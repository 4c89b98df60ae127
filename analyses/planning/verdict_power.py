"""How many conflicts a verdict needs: its probability at each size of audit, by simulation of the rule itself."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from override_gap.analyses.planning.rule import LABELS, labels, true_label
from override_gap.analyses.planning.simulated import Truth, audits, sizes
from override_gap.analyses.planning.sizes import PlannedSize, probability_error, search
from override_gap.analyses.planning.stopping import looks_at, stopped
from override_gap.analyses.results import rows_frame
from override_gap.analyses.stats.estimate import HtmlRepr
from override_gap.analyses.verdict import FEWEST_RELATIONS
from override_gap.margins.text import plural

WIDTH = 80
AUDITS, AUDITS_BY_RELATION = 1000, 400
"""Simulated audits of each size; intervals by relation take longer."""


@dataclass(frozen=True)
class VerdictPower(HtmlRepr):
    """Sizes of audit with the probability of each label, and the least at which the true label has the wanted one.

    `uncertain` are the same for truths drawn from what a pilot leaves open, whose labels differ; empty without a pilot.
    `asked` is the size that was asked for, if any. `saved` is the share of the items that `--until decided` leaves out at the
    size needed, on average.
    """

    truth: Truth
    label: str
    probability: float
    rows: tuple[PlannedSize, ...]
    needed: PlannedSize | None
    saved: float | None = None
    uncertain: tuple[PlannedSize, ...] = ()
    asked: PlannedSize | None = None

    def frame(self) -> Any:
        """One row per size: points, items, known conflicts, and the probability of each label."""
        return rows_frame({**row.as_json(), **row.outcomes} for row in self.rows).drop(columns="outcomes")

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "question": "verdict",
            "truth": self.truth.as_json(),
            "label": self.label,
            "probability": self.probability,
            "needed": None if self.needed is None else self.needed.as_json(),
            "asked": None if self.asked is None else self.asked.as_json(),
            "saved_by_until_decided": self.saved,
            "sizes": [row.as_json() for row in self.rows],
            "sizes_over_pilot": [row.as_json() for row in self.uncertain],
        }

    def __str__(self) -> str:
        if self.needed is None:
            most = self.rows[-1]
            why = " (more points of the same relations tell little)" if self.truth.relations else ""
            answer = (
                f"No audit of up to {most.points} points has {self.label} with {self.probability:.0%} probability{why}."
            )
        else:
            answer = (
                f"{self.label} with {self.probability:.0%} probability: {plural(self.needed.items, 'conflict')} on "
                f"{plural(self.needed.points, 'knowledge point')}, of which {self.truth.known:.0%} count (the base knows the "
                "old answer)."
            )
            if self.saved:
                answer += (
                    f" With --until decided an audit of this size measures {1 - self.saved:.0%} of them on average."
                )
        if self.asked is not None:
            behind = answer if self.needed is None else f"For {answer}"
            answer = (
                f"With {self.asked.points} points: {self.label} with {self.asked.reached:.0%} probability. {behind}"
            )
        return "\n".join([*textwrap.wrap(answer, WIDTH), *self.table(self.rows)])

    def table(self, rows: Sequence[PlannedSize]) -> list[str]:
        """Sizes against the labels that come out at any of them, per cent, as lines of text of at most 80 columns."""
        names = [name for name in LABELS if any(row.outcomes[name] >= 0.005 for row in rows)]
        lines = [f"{'points':>7}{'conflicts':>10}{'known':>6}" + "".join(f"{name:>{len(name) + 1}}" for name in names)]
        for row in rows:
            shares = "".join(f"{100 * row.outcomes[name]:>{len(name) + 1}.0f}" for name in names)
            lines.append(f"{row.points:>7}{row.items:>10}{round(row.items * self.truth.known):>6}{shares}")
        return lines


def verdict_power(
    truth: Truth,
    probability: float = 0.8,
    points: int | None = None,
    truths: Sequence[Truth] = (),
    seed: int = 0,
) -> VerdictPower:
    """The sizes of audit at which a truth's label is reached; ``truths`` are others that a pilot does not exclude.

    Raises ValueError where the truth lies on a boundary of the rule, so that no number of items decides.
    """
    label = true_label(truth.failing, truth.held)
    if label is None:
        raise ValueError(
            f"with {truth.failing:.3g} failing and {truth.held:.3g} held the truth lies on a boundary of the verdict (20% "
            "failing; 1/3 or 2/3 held), and no number of items decides; give other shares"
        )

    def of_size(size: int) -> PlannedSize:
        return _of_size([truth], size, label, seed)

    rows, needed = search(of_size, probability, points)
    uncertain = tuple(_of_size(truths, row.points, label, seed) for row in rows) if truths else ()
    saved = None if needed is None else _saved(truth, needed.points, seed)
    asked = next((row for row in rows if row.points == points), None)
    return VerdictPower(truth, label, probability, tuple(rows), needed, saved, uncertain, asked)


def _of_size(truths: Sequence[Truth], points: int, label: str, seed: int) -> PlannedSize:
    """The probabilities of the labels at one size, over these truths."""
    by_relation = any(truth.relations >= FEWEST_RELATIONS for truth in truths)
    each = max(1, (AUDITS_BY_RELATION if by_relation else AUDITS) // len(truths))
    counts = np.zeros(len(LABELS))
    for number, truth in enumerate(truths):
        rng = np.random.default_rng([seed, points, number])
        counts += np.bincount(labels(audits(rng, truth, points, each))[0], minlength=len(LABELS))
    shares = counts / counts.sum()
    reached = float(shares[LABELS.index(label)])
    items = int(sizes(points, truths[0].items_per_point).sum())
    outcomes = {name: float(share) for name, share in zip(LABELS, shares, strict=True)}
    return PlannedSize(points, items, reached, probability_error(reached, int(counts.sum())), outcomes)


def _saved(truth: Truth, points: int, seed: int) -> float:
    """The share of the points that `--until decided` leaves out on average."""
    _, stop = stopped(audits(np.random.default_rng([seed, points, 7]), truth, points, 200), looks_at(points))
    return float(1 - stop.mean() / points)
