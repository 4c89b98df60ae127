"""Results of pure functions of arrays, kept by what the arrays hold: hundreds of conditions often succeed on the same items."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from hashlib import blake2b
from typing import Any, ParamSpec, TypeVar

import numpy as np

from override_gap.analyses.stats.clusters import Point

P = ParamSpec("P")
R = TypeVar("R")
NO_CLUSTER = "\0"
"""Stands for the higher cluster of a label without one; `labelled` names none so."""
AT_ONCE = 4096
"""Labels whose texts are put together at once: those of a large run take as much memory as its tables."""


def by_content(most: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: a function of arrays and hashable settings is computed once for arguments of the same content.

    The last `most` results are kept, by a hash of the arguments and not by the arguments, which may be large. A result is
    handed out again, so it must not be changed; labels that are not all texts are computed anew.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        results: dict[tuple, R] = {}

        @wraps(function)
        def kept(*given: P.args, **named: P.kwargs) -> R:
            key = tuple(content(value) for value in (*given, *named.values()))
            if None in key:
                return function(*given, **named)
            key = (*key, *named)
            if key not in results:
                result = function(*given, **named)
                if len(results) >= most:
                    del results[next(iter(results))]
                results[key] = result
            return results[key]

        return kept

    return decorate


def content(value: Any) -> Any:
    """What tells an argument from others: an array's type, shape and hash; None where it cannot be told."""
    if not isinstance(value, np.ndarray):
        return type(value), value
    digest = blake2b(digest_size=20)
    if value.dtype != object:
        digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    elif all(isinstance(label, str) for label in value.flat):
        flat = value.reshape(-1)
        for start in range(0, flat.size, AT_ONCE):
            labels = flat[start : start + AT_ONCE]
            names = [label.cluster if isinstance(label, Point) else NO_CLUSTER for label in labels]
            # with the lengths no two lists of texts are joined into one
            joined = "\0".join([*labels, *names, *(str(len(text)) for text in (*labels, *names))])
            data = joined.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8))
            digest.update(data)
    else:
        return None
    return value.dtype.str, value.shape, digest.digest()
