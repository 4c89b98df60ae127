"""Bounds against published values, and errors against simulated Brownian paths."""

import math

import numpy as np
import pytest
from scipy import stats

from override_gap.analyses.stats.group_sequential import bounds, coverage, first_passage, spent

# Reboussin, DeMets, Kim & Lan 2000, Controlled Clinical Trials 21:190-207 (program ld98; R package ldbounds): two-sided .05,
# O'Brien-Fleming type spending, equally spaced looks.
PUBLISHED = {
    2: (2.9626, 1.9686),
    3: (3.7103, 2.5114, 1.9930),
    4: (4.3326, 2.9631, 2.3590, 2.0141),
    5: (4.8769, 3.3569, 2.6803, 2.2898, 2.0310),
}
# Jennison & Turnbull 2000, Group Sequential Methods, table 2.3: c sqrt(K / k) bounds K equal looks at a two-sided error of .05.
OBRIEN_FLEMING = {2: 1.977, 3: 2.004, 4: 2.024, 5: 2.040}


@pytest.mark.parametrize(("looks", "published"), PUBLISHED.items())
def test_bounds_are_the_published_ones(looks, published):
    assert bounds([k / looks for k in range(1, looks + 1)]) == pytest.approx(published, abs=2e-4)


@pytest.mark.parametrize(("looks", "constant"), OBRIEN_FLEMING.items())
def test_the_classical_bounds_have_the_error_that_they_are_published_for(looks, constant):
    shares = [k / looks for k in range(1, looks + 1)]
    passed = first_passage([constant * math.sqrt(1 / share) for share in shares], shares)
    assert 2 * sum(passed) == pytest.approx(0.05, abs=1e-4)


def test_unequal_looks_keep_the_error_on_simulated_paths():
    shares = [0.21, 0.33, 0.62, 0.8, 1.0]
    at = np.array(bounds(shares))
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((400_000, len(shares))) * np.sqrt(np.diff(shares, prepend=0))
    passes = steps.cumsum(1) / np.sqrt(shares) > at
    assert passes.any(1).mean() == pytest.approx(0.025, abs=0.001)
    for look, share in enumerate(shares, 1):
        expected = 2 - 2 * stats.norm.cdf(stats.norm.ppf(1 - 0.0125) / math.sqrt(share))
        assert passes[:, :look].any(1).mean() == pytest.approx(expected, abs=0.001)
        assert spent(share, 0.025) == pytest.approx(expected)


def test_a_bound_depends_on_no_later_look():
    assert bounds([0.3, 0.5]) == pytest.approx(bounds([0.3, 0.5, 0.9, 1.0])[:2])
    assert bounds([1.0]) == pytest.approx([1.959964], abs=1e-5)
    assert coverage(bounds([1.0])[0]) == pytest.approx(0.95, abs=1e-6)
    assert bounds([0.01])[0] == 9.0, "a look so early that no data would stop it"


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.0, 1.0], [0.5, 1.2], [0.8, 0.4]])
def test_shares_that_do_not_ascend_are_refused(shares):
    with pytest.raises(ValueError, match="ascending shares above 0 and up to 1"):
        bounds(shares)
