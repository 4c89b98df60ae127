"""Does prior strength follow the benchmark's tiers, which were set without any model? The base alone, on SmolLM2.

python benchmarks/tiers.py [SUBJECT] > docs/calibration/tiers.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pandas as pd

from analyses.bootstrap import bootstrap, median
from analyses.calibration import markdown
from analyses.intervals import proportion
from margins.items import Item
from probes.load import open_subject
from probes.prior import locate, read_prior
from reports.cli.named import items_of

BATCH = 32
FORMS: dict[str, Callable[[Item], bool]] = {
    "all": lambda item: True,
    "cloze": lambda item: item.meta["form"] == "cloze",
}


def main(name: str = "smollm2") -> None:
    """Print medians of log P(y_pre) by tier, all questions and those that the answer completes."""
    subject = open_subject(name, device="cpu")
    items = sorted((item for item in items_of("benchmark") if item.split == "conflict"), key=lambda i: len(i.question))
    strength, known = [], []
    for start in range(0, len(items), BATCH):
        some = items[start : start + BATCH]
        prior = read_prior(subject, some, [locate(subject, item) for item in some])
        strength += prior.strength.tolist()
        known += prior.known.tolist()
    rows = []
    for form, fits in FORMS.items():
        for tier in ("light", "medium", "deep"):
            own = [n for n, item in enumerate(items) if item.tier == tier and fits(item)]
            values, points = np.array(strength)[own], np.array([items[n].point for n in own], dtype=object)
            middle = bootstrap("median", median(values), points)
            share = proportion("known", np.array(known)[own], points)
            rows.append(
                {
                    "questions": form,
                    "tier": tier,
                    "median log P(y_pre), nats": f"{middle.value:.2f} [{middle.low:.2f}, {middle.high:.2f}]",
                    "known": f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}]",
                    "n": middle.n,
                    "points": middle.points,
                }
            )
    print(markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main(*sys.argv[1:2])
