"""Causes by prior strength, counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from override_gap.analyses.cause_groups import cause_examples, causes_by_prior
from override_gap.analyses.readings import RunFrame
from override_gap.probes.store.schema import READINGS


def run() -> RunFrame:
    """Eight known conflicts of growing prior strength and one that the base does not know."""
    rows = [
        {
            "item": f"i{n}", "point": f"p{n}", "split": "conflict", "condition": "as-delivered", "known": n < 8,
            "prior_logprob": float(n - 9), "status": "ok", "question": f"q{n}", "answer": f"a{n}", "prior_answer": f"o{n}",
        }
        for n in range(9)
    ]  # fmt: skip
    return RunFrame({}, pd.DataFrame(rows).reindex(columns=READINGS.names))


ITEMS = pd.DataFrame(
    {
        "item": ["i7", "i0", "i1", "i6", "i4"],
        "cause": ["no content", "too weak", "too weak", "too weak", "third token"],
        "gain": [np.nan, 2.0, 8.0, 3.0, np.nan],
    }
)


def test_counts_per_quarter_of_all_known_conflicts() -> None:
    rows = causes_by_prior(run(), ITEMS)
    assert [(row["group"], row["cause"], row["count"], row["n"], row["known"]) for row in rows] == [
        ("all", "no content", 1, 5, 8),
        ("all", "third token", 1, 5, 8),
        ("all", "too weak", 3, 5, 8),
        ("Q1", "too weak", 2, 2, 2),
        ("Q3", "third token", 1, 1, 2),
        ("Q4", "no content", 1, 2, 2),
        ("Q4", "too weak", 1, 2, 2),
    ]


def test_examples_are_the_first_items_of_each_cause_with_their_texts() -> None:
    rows = cause_examples(
        run(), pd.concat([ITEMS, pd.DataFrame({"item": ["i2"], "cause": ["too weak"], "gain": [4.0]})])
    )
    assert [(row["cause"], row["item"], row["gain"]) for row in rows] == [
        ("no content", "i7", None),
        ("third token", "i4", None),
        ("too weak", "i0", 2.0),
        ("too weak", "i1", 8.0),
        ("too weak", "i2", 4.0),
    ]
    assert (rows[0]["question"], rows[0]["answer"], rows[0]["prior_answer"]) == ("q7", "a7", "o7")
