"""Folds: which items are held out together, so that no choice is judged on facts that it was made on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Integer, Shaped
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from override_gap.analyses.stats.clusters import NAMED, higher_names

FEWEST_RELATIONS = 5
"""With fewer relations whole ones are not held out: what is left would be of too few."""
MOST_UNITS, FOLDS = 20, 10
"""Up to MOST_UNITS units each is a fold of its own; more are dealt out to FOLDS folds at random."""


@dataclass(frozen=True, eq=False)
class Folds:
    """The fold of every item, from 0; `by`: whether whole relations or knowledge points are held out."""

    codes: Integer[np.ndarray, " n"]
    count: int
    by: str
    units: int


def folds(points: Shaped[np.ndarray, " n"], seed: int = 0) -> Folds:
    """Whole relations where there are five, with every question of their points; else whole knowledge points.

    Where points lie in several relations and would tie all of these together, relations are held out as they are: other
    questions of a point can then stand in another fold.
    """
    point, names = pd.factorize(np.asarray(points, dtype=object))
    by, units, count = "knowledge point", point, len(names)
    relations = higher_names(points)
    if relations is not None:
        relation, relation_names = pd.factorize(relations)
        # a question without a relation goes with its point's other questions
        links = coo_matrix((np.ones(len(point)), (point, relation)), shape=(len(names), len(relation_names)))
        both = coo_matrix(links.T @ links)
        n_tied, tied = connected_components(both, directed=False)
        named = {str(name) for name in relation_names if str(name).startswith(NAMED)}
        if len(named) >= FEWEST_RELATIONS:
            enough = n_tied >= FEWEST_RELATIONS
            by, units, count = (
                ("relation", tied[relation], n_tied) if enough else ("relation", relation, len(relation_names))
            )
    if count <= MOST_UNITS:
        return Folds(units.astype(int), count, by, count)
    dealt = np.random.default_rng([seed, 21]).permutation(count) % FOLDS
    return Folds(dealt[units], FOLDS, by, count)
