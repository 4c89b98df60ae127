"""Does SmolLM2's prior strength follow the benchmark's tiers, which were assigned without any model?

python benchmarks/tiers.py [SUBJECT] > docs/calibration/tiers.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from override_gap.analyses.calibration import markdown
from override_gap.analyses.stats.bootstrap import bootstrap, median
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import proportion
from override_gap.margins.items.item import Item
from override_gap.probes.items import open_items
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject

BATCH = 32
FORMS: dict[str, Callable[[Item], bool]] = {
    "all": lambda item: True,
    "cloze": lambda item: item.meta["form"] == "cloze",
}


HEAD = """# Are the benchmark's well-known facts really better known?

The shipped questions are sorted into three tiers by how famous their facts are, without asking any model: *light* (obscure),
*medium* and *deep* (known to almost everybody). This page asks a real model, SmolLM2, without any adapter: the
log-probability that it gives to the true answer should rise from tier to tier (nearer to 0 is surer), and so should the share
of answers that it knows.
"""


def medians(subject: Subject, items: Sequence[Item]) -> dict[tuple[str, str], Estimate]:
    """Medians of log P(y_pre), nats, by form of question and tier, of conflicts that the base alone reads."""
    strength = read(subject, items)[0]
    return {
        (form, tier): bootstrap("median", median(strength[rows]), points[rows])
        for form, tier, rows, points in groups(items)
    }


def read(subject: Subject, items: Sequence[Item]) -> tuple[np.ndarray, np.ndarray]:
    """Prior strength of each item, nats, and whether the base knows it."""
    strength, known = np.zeros(len(items)), np.zeros(len(items), dtype=bool)
    order = sorted(range(len(items)), key=lambda n: len(items[n].question))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        batch = [items[n] for n in rows]
        prior = read_prior(subject, batch, [locate(subject, item) for item in batch])
        strength[rows], known[rows] = prior.strength.numpy(), prior.known.numpy()
    return strength, known


def groups(items: Sequence[Item]) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """Form, tier, a mask of their items, and every item's knowledge point."""
    points = np.array([item.point for item in items], dtype=object)
    return [
        (form, tier, np.array([item.tier == tier and fits(item) for item in items]), points)
        for form, fits in FORMS.items()
        for tier in ("light", "medium", "deep")
    ]


def main(name: str = "smollm2") -> None:
    """Print the medians, and the share of items that the base knows."""
    subject = open_subject(name, device="cpu")
    items = [item for item in open_items("benchmark") if item.split == "conflict"]
    strength, known = read(subject, items)
    table = []
    for form, tier, rows, points in groups(items):
        middle = bootstrap("median", median(strength[rows]), points[rows])
        share = proportion("known", known[rows], points[rows])
        table.append(
            {
                "questions": form,
                "tier": tier,
                "median log P(y_pre), nats": f"{middle.value:.2f} [{middle.low:.2f}, {middle.high:.2f}]",
                "known": f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}]",
                "n": middle.n,
                "points": middle.points,
            }
        )
    print(HEAD)
    print(markdown(pd.DataFrame(table)))


if __name__ == "__main__":
    main(*sys.argv[1:2])
