"""Clusters: the groups of questions that are alike, by knowledge point and, where it is known, by relation as well.

A point's label can carry the name of the higher cluster that it lies in, so that every selection of questions brings
both levels along and no analysis has to know of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from jaxtyping import Bool, Integer, Shaped

Outcomes = Sequence | Shaped[np.ndarray, " n"]
"""Outcomes or points of n questions, as an array or a list."""

#: How the name of a higher cluster begins: a relation's, and that of a point which has none and is a cluster by itself.
#: Plain text, since pandas before 3.1 takes names that are equal up to a NUL for the same one.
NAMED, ALONE = "relation ", "point "


class Point(str):
    """A knowledge point's name that also carries the name of its higher cluster (a relation); equal by the point alone."""

    __slots__ = ("cluster",)
    cluster: str

    def __new__(cls, name: str, cluster: str) -> Point:
        point = super().__new__(cls, name)
        point.cluster = cluster
        return point

    def __reduce__(self) -> tuple[type[Point], tuple[str, str]]:
        return Point, (str(self), self.cluster)


@lru_cache(maxsize=2**17)
def _point(name: str, cluster: str) -> Point:
    """A label, the same object each time: dozens of analyses label the same questions, a hundred thousand in a large run."""
    return Point(name, cluster)


@dataclass(frozen=True, eq=False)
class Level:
    """One clustering of n questions: the number of each question's cluster, from 0, and how many clusters there are."""

    codes: Integer[np.ndarray, " n"]
    count: int
    higher: bool = False
    """Whether these are relations (or another field named by the user) and not knowledge points."""

    def of(self, part: Bool[np.ndarray, " n"]) -> Level:
        """The same clustering of some of the questions, numbered anew."""
        codes, names = pd.factorize(self.codes[part])
        return Level(codes, len(names), self.higher)

    @property
    def sizes(self) -> Integer[np.ndarray, " cluster"]:
        """Questions per cluster."""
        return np.bincount(self.codes, minlength=self.count)


def labelled(points: Shaped[np.ndarray, " n"], names: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """Labels of n questions that carry their higher cluster; without one (None or NaN) a point is a cluster by itself.

    Where no question has a higher cluster, the points come back as they are.
    """
    absent = pd.isna(names)
    if absent.all():
        return points
    # one label for each pair of point and cluster, by number: a Python loop over all questions takes ten times as long
    point_codes, distinct = pd.factorize(np.array([str(point) for point in points], dtype=object))
    name_codes, higher = pd.factorize(np.asarray(names, dtype=object))  # -1 where there is none
    pair_codes, pairs = pd.factorize(point_codes * (len(higher) + 1) + name_codes + 1)
    marked = [f"{NAMED}{name}" for name in higher]
    own = np.empty(len(pairs), dtype=object)
    for n, pair in enumerate(pairs.tolist()):
        point, name = divmod(pair, len(higher) + 1)
        text = str(distinct[point])
        # The mark keeps a point without a relation apart from a relation of the same name.
        own[n] = _point(text, marked[name - 1] if name else f"{ALONE}{text}")
    return own[pair_codes]


def clusters(points: Outcomes) -> tuple[Integer[np.ndarray, " n"], int]:
    """Each question's knowledge point as an integer code, and the number of points."""
    codes, names = pd.factorize(np.asarray(points, dtype=object))
    return codes, len(names)


def higher_names(points: Outcomes) -> Shaped[np.ndarray, " n"] | None:
    """The higher cluster of each question, or None where no label carries one."""
    labels = np.asarray(points, dtype=object)
    if not any(isinstance(label, Point) for label in labels):
        return None
    return np.array(
        [label.cluster if isinstance(label, Point) else f"{ALONE}{label}" for label in labels], dtype=object
    )


def levels(points: Outcomes) -> list[Level]:
    """The clusterings that an interval has to allow for: by point, and by the higher cluster where that is another one.

    The higher level is left out where all questions are of one cluster: what they say is then of that cluster alone
    (`only_cluster` says so).
    """
    codes, count = clusters(points)
    found = [Level(codes, count)]
    names = higher_names(points)
    if names is not None:
        higher, n_higher = pd.factorize(names)
        n_higher = len(n_higher)
        same = n_higher == count and len(set(zip(codes.tolist(), higher.tolist(), strict=True))) == count
        if n_higher > 1 and not same:
            found.append(Level(higher, n_higher, True))
    return found


def crossed(points: Outcomes) -> list[Level]:
    """`levels`, and behind them the questions that share point and higher cluster, where a point lies in several of these.

    Where points are nested in the higher clusters there is no third level: these then hold all that points share.
    """
    found = levels(points)
    if len(found) == 2:
        by_point, by_cluster = found
        pairs, names = pd.factorize(by_point.codes * by_cluster.count + by_cluster.codes)
        if len(names) > by_point.count:
            return [*found, Level(pairs, len(names))]
    return found


def only_cluster(points: Outcomes) -> str | None:
    """The name of the one higher cluster that all these questions are of, or None."""
    names = higher_names(points)
    if names is None or len(names) == 0 or (names != names[0]).any() or not names[0].startswith(NAMED):
        return None
    return str(names[0]).removeprefix(NAMED)
