"""Saturating or broken first, on margins whose limit at infinite gain is known in closed form.

Logits are W h / rms(h), and an update adds g v to the stream h = x, so that the net margin's limit is that of W v / rms(v).
Cut before it flips, a margin whose limit lies above zero was *broken first*; one that never is above zero *saturates*.
"""

import numpy as np
import pytest

from override_gap.analyses.causes import causes
from tests.analyses.searched import gain_rows, searched_run

GAINS = np.array([1.0, *(2.0**k * step for k in range(11) for step in (1.5, 2.0))])


def margins(rng):
    """The net margin at GAINS, its base and its limit, nats, of one random stream, vocabulary and direction."""
    unembedding, stream = rng.normal(size=(40, 64)), rng.normal(size=64)
    doc, pre = unembedding[:2]
    stream = stream + rng.uniform(0.3, 0.9) * pre
    direction = rng.uniform(0.3, 1) * doc + rng.uniform(-0.5, 1) * pre + rng.uniform(0, 2) * rng.normal(size=64)
    direction *= np.linalg.norm(stream) / np.linalg.norm(direction) * 2.0 ** rng.uniform(-6, -3)

    def net(h):
        return (doc - pre) @ h / np.sqrt((h * h).mean())

    return np.array([net(stream + g * direction) for g in GAINS]), net(stream), net(direction)


def planted(cause, count):
    """By item number, rows of gains up to where the adapter breaks the model."""
    rng, rows = np.random.default_rng(20261127), {}
    while len(rows) < count:
        net, base, limit = margins(rng)
        if base > -1 or net[0] > 0 or net.max() - base < 0.5:
            continue
        flips = np.flatnonzero(net > 0)
        if cause == "broken first" and len(flips) and limit > 0:
            end = flips[0] - 1 - len(rows) % 3
        elif cause == "saturates" and not len(flips) and limit < -0.1:
            end = np.flatnonzero(net - base >= 0.95 * (net.max() - base))[0]
        else:
            continue
        if end >= 3:
            cut, broken = slice(0, end + 1), GAINS[end] * 1.5
            rows[len(rows)] = lambda i, net=net[cut], gains=GAINS[cut], b=broken: gain_rows(i, gains, net, broken_at=b)
    return rows


@pytest.mark.parametrize("cause", ["broken first", "saturates"])
def test_nine_in_ten_are_named(cause):
    found = causes(searched_run(planted(cause, 60)))
    assert found is not None
    assert len(found.items) == 60
    assert (found.items["cause"] == cause).mean() >= 0.9


def test_an_adapter_too_weak_for_the_largest_gain_is_undecided():
    """-5 + 1e-6 g: nothing moves by 0.05 nats, and each octave doubles the last."""
    gains = 2.0 ** np.arange(13)
    found = causes(searched_run({0: lambda i: gain_rows(i, gains, -5 + 1e-6 * gains)}))
    assert found is not None
    assert list(found.items["cause"]) == ["undecided"]


def test_a_margin_at_its_limit_saturates_though_nothing_broke():
    """-1 - 4 / g: at gain 4096 within a thousandth of its limit."""
    gains = 2.0 ** np.arange(13)
    found = causes(searched_run({0: lambda i: gain_rows(i, gains, -1 - 4 / gains)}))
    assert found is not None
    assert list(found.items["cause"]) == ["saturates"]
