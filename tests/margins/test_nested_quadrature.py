"""Nested quadrature against integrals in closed form."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from numpy.polynomial import legendre

from override_gap.margins.nested_quadrature import Rule, nested_rules


def integral(rule: Rule, f) -> float:
    return sum(weight * f(at) for at, weight in zip(rule.nodes, rule.weights, strict=True))


def test_each_rule_is_exact_to_its_degree_and_not_beyond() -> None:
    for rule, nodes, degree in zip(nested_rules(), (3, 6, 12), (4, 8, 16), strict=False):
        assert len(rule.nodes) == nodes
        for power in range(degree + 1):
            assert integral(rule, lambda t, power=power: t**power) == pytest.approx(1 / (power + 1), abs=1e-13)
        missed = integral(rule, lambda t, power=degree + 1: t**power) - 1 / (degree + 2)
        assert abs(missed) > 1e-12 or degree == 16


def test_every_rule_begins_at_0_stays_on_the_path_and_uses_the_nodes_of_the_one_before() -> None:
    rules = nested_rules()
    for rule in rules:
        assert 0.0 in rule.nodes
        assert min(rule.nodes) == 0.0
        assert max(rule.nodes) <= 1.0
        assert min(rule.weights) > 0
        assert sum(rule.weights) == pytest.approx(1, abs=1e-13)
    for fewer, more in pairwise(rules[:3]):
        assert set(fewer.nodes) < set(more.nodes)


def test_the_first_rule_is_gauss_radau() -> None:
    # Abramowitz and Stegun 25.4.31 on -1 to 1: -1, (1 - sqrt 6) / 5, (1 + sqrt 6) / 5; weights 2/9, (16 +- sqrt 6) / 18
    root = math.sqrt(6)
    rule = nested_rules()[0]
    assert rule.nodes == pytest.approx((0, (1 + (1 - root) / 5) / 2, (1 + (1 + root) / 5) / 2))
    assert rule.weights == pytest.approx((1 / 9, (16 + root) / 36, (16 - root) / 36))


def test_panels_follow_a_kink_that_one_rule_misses() -> None:
    def kink(t: float) -> float:
        return max(0.0, t - 0.25)

    errors = [abs(integral(rule, kink) - 0.75**2 / 2) for rule in nested_rules()]
    assert errors[-1] < 1e-12 < 1e-4 < errors[1]


def test_nodes_are_real_where_roots_come_as_complex_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from numpy 2.5 on."""
    expected = nested_rules()
    roots = legendre.legroots
    monkeypatch.setattr(legendre, "legroots", lambda c: roots(c).astype(complex))
    nested_rules.cache_clear()
    try:
        assert nested_rules() == expected
        assert all(isinstance(number, float) for rule in nested_rules() for number in (*rule.nodes, *rule.weights))
    finally:
        nested_rules.cache_clear()
