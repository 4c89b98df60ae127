"""Whether the prior-dose experiment tells adapters apart whose answer to a changed prior is known, over simulated experiments.

Adapters are planted in logits (`tests/simulated_doses.py`, which uses no statistic of the package): a shift, one that sets a
level, one that grows with half of what is added to the prior, one that falls, one that does opposite things to items of high and
of low net margin, and one that does so to raised and to lowered priors. Every update shrinks the margin as well, own or placebo,
and doses above 4 are not reached on the strongest priors.

    python -m benchmarks.prior_dose [EXPERIMENTS PER ROW] > docs/calibration/prior-dose.md
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pandas as pd

from override_gap.analyses.calibration import markdown
from override_gap.analyses.dose_slopes import slopes
from override_gap.analyses.hypotheses import STANDARD, evaluate
from override_gap.analyses.prior_dose import compared
from override_gap.analyses.stats.intervals import wilson
from tests.simulated_doses import experiment, of_truth

RIGHT = {
    "shift": "constant",
    "growing": "grows",
    "level": "level",
    "falling": "falls",
    "opposites": "opposites",
    "bending": "bends",
}
WORLDS = (
    {"items": 60, "points": 40, "relations": 12, "icc": 0.3},
    {"items": 60, "points": 40, "relations": 8, "icc": 0.5},
)
H6 = next(hypothesis for hypothesis in STANDARD if hypothesis.id == "H6")


HEAD = """# Adapters that answer a changed belief in a known way

One experiment of the tool makes a model's old belief stronger or weaker and looks at how the same adapter fares
([mechanism](../mechanism.md)). Does it read the result correctly? Here six kinds of adapter are simulated whose reaction is
known (*shift* pushes equally hard whatever the belief, *growing* harder where it is firmer, and so on); *right* is the share
of experiments that name the kind. H6 should be supported for *shift* alone. How it was made: [calibration](README.md).
"""


def main(experiments: int = 200) -> None:
    """Print the table: per adapter and world, how often the answer is right, and what H6 says."""
    rows = []
    for truth, right in RIGHT.items():
        for world in WORLDS:
            answers, statuses = Counter(), Counter()
            for seed in range(experiments):
                run = experiment(np.random.default_rng([seed, world["items"]]), of_truth(truth, **world))
                found = slopes(compared(run)[1])
                answers["too few" if found is None else found.answer()] += 1
                statuses[evaluate(run, [H6])[0].status] += 1
            low, high = wilson(answers[right], experiments)
            others = ", ".join(f"{name} {count}" for name, count in answers.most_common() if name != right)
            rows.append(
                {
                    "adapter": truth,
                    "items": world["items"],
                    "relations": world["relations"],
                    "icc": world["icc"],
                    "right": f"{answers[right] / experiments:.3f}",
                    "low": f"{low:.3f}",
                    "high": f"{high:.3f}",
                    "other answers": others,
                    **{f"H6 {status}": statuses[status] for status in ("supported", "inconclusive", "refuted")},
                    "experiments": experiments,
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    print(HEAD)
    print(markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main(int((sys.argv[1:2] or [200])[0]))
