"""Causes of failure by prior strength, and examples of each, from one cause per failing conflict."""

from __future__ import annotations

from typing import Any

import numpy as np

from override_gap.analyses.prior_gradient import quartile_of
from override_gap.analyses.readings import DELIVERED, RunFrame, Table, values

EXAMPLES = 3
"""So many items are shown of each cause."""


def causes_by_prior(run: RunFrame, items: Table) -> list[dict[str, Any]]:
    """How many failures have each cause, over all and per quarter of prior strength: rows of group, cause, count, n, known.

    `items` has `item` and `cause`, one row per failing conflict that the base knows. Quarters are those of all such conflicts,
    failing or not, so that they are the quarters of the prior gradient; `known` counts the conflicts of a group, `n` those
    of them that fail.
    """
    rows = run.select("conflict", DELIVERED, "known")
    quarter = dict(zip(rows["item"], quartile_of(values(rows["prior_logprob"])), strict=True))
    group = items["item"].map(quarter)
    found = [("all", np.ones(len(items), dtype=bool), len(rows))]
    found += [(f"Q{k + 1}", (group == k).to_numpy(), sum(q == k for q in quarter.values())) for k in range(4)]
    return [
        {"group": name, "cause": cause, "count": int(count), "n": int(inside.sum()), "known": int(known)}
        for name, inside, known in found
        for cause, count in items.loc[inside, "cause"].value_counts().sort_index().items()
    ]


def cause_examples(run: RunFrame, items: Table) -> list[dict[str, Any]]:
    """The first EXAMPLES items of each cause by id: cause, item, question, answer, prior_answer, and the gain that repairs it."""
    texts = run.select("conflict", DELIVERED).drop_duplicates("item").set_index("item")
    chosen = items.sort_values("item").groupby("cause", sort=True).head(EXAMPLES)
    rows = []
    for item, cause, gain in zip(chosen["item"], chosen["cause"], values(chosen["gain"]), strict=True):
        about = texts.loc[item]
        names = {name: about[name] for name in ("question", "answer", "prior_answer")}
        rows.append({"cause": cause, "item": item, **names, "gain": None if np.isnan(gain) else float(gain)})
    return sorted(rows, key=lambda row: (row["cause"], row["item"]))
