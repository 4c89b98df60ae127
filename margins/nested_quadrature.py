"""Nested quadrature from 0 to 1: rules of 3, 6 and 12 nodes, each with all nodes of the one before, then panels of the last."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float
from numpy.polynomial import legendre


@dataclass(frozen=True)
class Rule:
    """A quadrature rule on 0 to 1: the integral of f is about sum_k weights_k f(nodes_k). The first node is 0."""

    nodes: tuple[float, ...]
    weights: tuple[float, ...]


@cache
def nested_rules() -> tuple[Rule, ...]:
    """Rules of 3, 6, 12, 23 and 45 nodes; weights are positive, so that rounding of the integrand does not grow.

    3: Gauss-Radau with a node at 0, exact up to degree 4. 6: with its Kronrod extension, up to degree 8. 12: with a node at
    1 and 5 nodes added in the same way, up to degree 16. 23, 45: the rule of 12 on each half, on each quarter, for
    integrands that bend sharply somewhere.
    """
    start = np.array([-1.0])
    three = _extended(start, 2)
    six = _extended(three, 3)
    twelve = _extended(np.append(six, 1.0), 5)
    return (*(_rule(nodes) for nodes in (three, six, twelve)), *(_panels(_rule(twelve), n) for n in (2, 4)))


def _extended(nodes: Float[np.ndarray, " node"], more: int) -> Float[np.ndarray, " extended"]:
    """Nodes on -1 to 1 with so many more, placed so that the rule of all is exact to the highest degree that they allow.

    With P the polynomial whose roots are the nodes, the new nodes are the roots of the E of degree `more` for which P E is
    orthogonal to all polynomials of lower degree than E (Patterson, Mathematics of Computation 22, 1968).
    """
    at, weight = legendre.leggauss(40)
    weighted = weight * np.prod([at - node for node in nodes], axis=0)
    basis = legendre.legvander(at, more)
    moments = (basis[:, :more] * weighted[:, None]).T @ basis
    coefficients = np.append(np.linalg.solve(moments[:, :more], -moments[:, more]), 1.0)
    # they are real; from numpy 2.5 on roots are complex numbers all the same
    return np.sort(np.concatenate([nodes, legendre.legroots(coefficients).real]))


def _rule(nodes: Float[np.ndarray, " node"]) -> Rule:
    """The rule with these nodes of -1 to 1 that is exact for every polynomial of lower degree than their number."""
    integrals = np.zeros(len(nodes))
    integrals[0] = 1.0  # of Legendre's polynomials, on an interval of length 1
    weights = np.linalg.solve(legendre.legvander(nodes, len(nodes) - 1).T, integrals)
    return Rule(tuple(((nodes + 1) / 2).tolist()), tuple(weights.tolist()))


def _panels(rule: Rule, count: int) -> Rule:
    """The rule on each of so many equal panels; the ends of two panels that meet are one node."""
    total: dict[float, float] = {}
    for panel in range(count):
        for node, weight in zip(rule.nodes, rule.weights, strict=True):
            at = (panel + node) / count
            total[at] = total.get(at, 0.0) + weight / count
    return Rule(tuple(total), tuple(total.values()))
