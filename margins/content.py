"""Content: does an adapter raise its document's answer more than it raises what else could be answered?

A push alone is no sign of it: an edit that lowers the old answer, or flattens all logits, raises every other answer. No
library of models is loaded here, since the rule is also read from stored readings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: An answer is raised beyond the others if its rise is above that of at least this share of them.
CONTENT = 0.95
#: 19 of 20 in single precision is less than 0.95.
ROUNDING = 1e-6
#: The columns of the search that `has_content` reads, in its order.
MEASURED_FOR_CONTENT = (
    "rise_rank",
    "rise_rank_base",
    "doc_place",
    "push_excess",
    "rise_rank_relation",
    "rise_level_relation",
)


def has_content(
    rank: ArrayLike | None,
    rank_base: ArrayLike | None,
    place: ArrayLike | None,
    excess: ArrayLike | None,
    rank_relation: ArrayLike | None = None,
    level_relation: ArrayLike | None = None,
    *,
    threshold: float = CONTENT,
) -> NDArray[np.float64]:
    """Whether an answer that comes first was given by the adapter, not by lowering the old one: 1, 0, or NaN: cannot be told.

    Numbers or arrays of one shape, NaN or None for what was not measured. The answer's rise must be above that of at least
    `threshold` of the other documents' answers (`rank`), of the base's leading alternatives (`rank_base`) and of the
    answers of its own relation (`rank_relation`; where these are few, also by more than their spread, `level_relation`), as
    far as each is known; NaN where the first two are not. Where y_doc is the base's second choice (`place` 0) it would come
    first if the old answer were lowered alone: there the push must be the larger part (`excess` above 0).
    """
    rank, rank_base, place, excess, rank_relation, level_relation = (
        np.asarray(v, dtype=np.float64) for v in (rank, rank_base, place, excess, rank_relation, level_relation)
    )
    bound = threshold - ROUNDING
    below = [measure < bound for measure in (rank, rank_base, rank_relation, level_relation)]  # NaN is below nothing
    raised = ~(below[0] | below[1] | below[2] | below[3])
    uncovered = (place == 0) & (excess <= 0)
    told = ~(np.isnan(rank) & np.isnan(rank_base))
    return np.where(told, raised & ~uncovered, np.nan)
