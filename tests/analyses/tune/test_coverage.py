"""Out-of-fold figures against truths in closed form: intervals cover, the budget is kept, the choice in sample is optimistic."""

from __future__ import annotations

import numpy as np
import pytest

from override_gap.analyses.tune import Budget
from override_gap.analyses.tune.choose import choose_by
from tests.analyses.tune.curves import Curves

DRAWS = 16


def gain_of(policy: str) -> float:
    return {"base": 0.0, "as-delivered": 1.0}.get(policy) or float(policy.removeprefix("uniform-"))


@pytest.mark.parametrize("curves", [Curves(flip=-0.1, lose=1.4), Curves(flip=0.1, lose=1.0, point=0.5, item=0.05)])
def test_intervals_cover_the_truth_and_the_limit_keeps_the_budget(curves):
    covered: dict[str, int] = {"conflict": 0, "retention": 0, "kl": 0}
    broken = {"limit": 0, "estimate": 0}
    for draw in range(DRAWS):
        run = curves.draw(np.random.default_rng([draw, 3]), points=50)
        for rule in broken:
            choice = choose_by(run, Budget(0.9), None, 0, rule)
            gain = gain_of(choice.policy)
            broken[rule] += curves.kept(gain) < 0.9
            if rule == "limit":
                truth = {"conflict": curves.override(gain), "retention": curves.kept(gain), "kl": curves.mean_kl(gain)}
                for name, value in truth.items():
                    estimate = choice.expected[name]
                    assert estimate is not None
                    covered[name] += estimate.low - 1e-9 <= value <= estimate.high + 1e-9
    assert min(covered.values()) >= 0.8 * DRAWS, covered
    assert broken["limit"] <= 0.1 * DRAWS, broken
    assert broken["estimate"] >= broken["limit"], broken
