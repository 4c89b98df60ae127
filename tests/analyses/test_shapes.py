"""Wrong shapes are refused where the import hook checks annotations."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from override_gap.analyses.prior_gradient import gradient
from override_gap.analyses.stats import bootstrap, differences, intervals, logistic, paired

ONES, POINTS = np.ones(6), np.arange(6)
CALLS = {
    "fewer points than outcomes": lambda: paired.paired_test(ONES, POINTS[:5]),
    "a matrix of outcomes": lambda: differences.difference("", np.ones((6, 2)), POINTS, ONES, POINTS),
    "weights of other items": lambda: bootstrap.midranks(ONES, np.ones((3, 5))),
    "predictors of other items": lambda: intervals.score_test(ONES, ONES[:4], POINTS),
    "strengths of other items": lambda: logistic.logit(ONES[:4], ONES, POINTS),
    "successes of other items": lambda: gradient(ONES, ONES[:4], POINTS),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_shape_is_refused(name: str) -> None:
    with pytest.raises(TypeCheckError):
        CALLS[name]()
