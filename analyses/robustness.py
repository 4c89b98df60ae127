"""Does the override hold in other wordings, in company, repeated, hedged and denied? From stored readings alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, truth
from override_gap.analyses.stats.intervals import proportion
from override_gap.margins.condition_names import CONTESTED, CONTESTED_BASE, robustness_family

MEASURES = ("top1", "margin", "answer")
SPLITS = ("conflict", "novel")
IN_CONTEXT = "in-context"


def robustness(run: RunFrame) -> dict[str, Any] | None:
    """The tables; None where the run has neither two wordings of a point nor a variant."""
    found = {
        "wordings": wordings(run),
        "consistency": consistency(run),
        "variants": variants(run),
        "held": held(run),
    }
    return found if any(found.values()) else None


def wordings(run: RunFrame) -> list[dict[str, Any]]:
    """Success by the question's wording, where a split has at least two; every condition but the base."""
    rows = []
    for split in SPLITS:
        for condition in (name for name in run.conditions if name != BASE):
            under = run.select(split, condition)
            under = under[under["wording"].notna()]
            if under["wording"].nunique() < 2:
                continue
            for wording, part in under.groupby("wording"):
                for measure in MEASURES:
                    share = proportion(
                        "success", truth(part[f"success_{measure}"]), part["point"].to_numpy(dtype=object)
                    )
                    if share.n:
                        rows.append(
                            {"split": split, "condition": condition, "wording": str(wording), "measure": measure}
                            | share.as_json()
                        )
    return rows


def consistency(run: RunFrame) -> list[dict[str, Any]]:
    """Knowledge points asked in at least two wordings: how many succeed in all, in none, in some of their questions.

    `expected_mixed` is how many would be mixed if each question succeeded by itself at the mean rate: far more than
    `mixed` means that success belongs to the fact, not to the wording.
    """
    rows = []
    for split in SPLITS:
        for condition in (name for name in run.conditions if name != BASE):
            under = run.select(split, condition)
            under = under[under["wording"].notna()]
            point, wording = (pd.factorize(under[name])[0] for name in ("point", "wording"))
            for measure in MEASURES:
                success = truth(under[f"success_{measure}"])
                asked = ~np.isnan(success)
                pairs = np.unique(np.stack([point[asked], wording[asked]]), axis=1)
                several = np.flatnonzero(np.bincount(pairs[0]) > 1)
                if not len(several):
                    continue
                size = np.bincount(point[asked])[several].astype(float)
                share = np.bincount(point[asked], success[asked])[several] / size
                rate = float((share * size).sum() / size.sum())
                rows.append(
                    {
                        "split": split,
                        "condition": condition,
                        "measure": measure,
                        "points": len(several),
                        "all": int((share == 1).sum()),
                        "none": int((share == 0).sum()),
                        "mixed": int(((share > 0) & (share < 1)).sum()),
                        "expected_mixed": float(np.sum(1 - rate**size - (1 - rate) ** size)),
                    }
                )
    return rows


def variants(run: RunFrame) -> list[dict[str, Any]]:
    """Success under every variant, and its difference from the single plain document on the same items."""
    rows = []
    for name in run.variants:
        family, count = robustness_family(name) or ("", 1)
        documents = count if family in ("joined", "in-context-joined") else 1
        reference = IN_CONTEXT if family == "in-context-joined" else DELIVERED
        for split in SPLITS:
            under = run.select(split, name)
            for measure in MEASURES:
                share = proportion("success", truth(under[f"success_{measure}"]), under["point"].to_numpy(dtype=object))
                if not share.n:
                    continue
                paired = comparison.conditions(run, name, reference, split, measure)
                rows.append(
                    {
                        "family": family,
                        "condition": name,
                        "documents": documents,
                        "reference": reference,
                        "split": split,
                        "measure": measure,
                        **share.as_json(),
                        "difference": None if paired is None else paired.difference.as_json(),
                        "p": None if paired is None else paired.as_json()["p"],
                    }
                )
    return rows


def held(run: RunFrame) -> list[dict[str, Any]]:
    """Of the items that succeed as delivered, the share that still succeeds after the answer was contested.

    `control` is the base's share on the same items behind the same words: these name the answer, so what holds no more
    often than the control may be copied from them.
    """
    rows = []
    for split in SPLITS:
        before = run.select(split, DELIVERED).set_index("item")
        after, base = (run.select(split, name).set_index("item") for name in (CONTESTED, CONTESTED_BASE))
        both = before.index.intersection(after.index)
        for measure in MEASURES if len(both) else ():
            column = f"success_{measure}"
            won = both[truth(before.loc[both, column]) == 1.0]
            share = proportion("held", truth(after.loc[won, column]), after.loc[won, "point"].to_numpy(dtype=object))
            if share.n:
                own = won.intersection(base.index)
                control = proportion(
                    "control", truth(base.loc[own, column]), base.loc[own, "point"].to_numpy(dtype=object)
                )
                rows.append(
                    {"split": split, "measure": measure}
                    | share.as_json()
                    | {"control": control.as_json() if control.n else None}
                )
    return rows
