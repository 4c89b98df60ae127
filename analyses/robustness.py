"""Does the override hold in other wordings, beside other documents, and repeated, hedged, denied or contested?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, Table, success_rate, truth
from override_gap.analyses.results import ResultSection, row_text
from override_gap.margins.condition_names import CONTESTED, CONTESTED_BASE, IN_CONTEXT, JOINED_MEAN, robustness_family

MEASURES = ("top1", "margin", "answer")
SPLITS = ("conflict", "novel")


def robustness(run: RunFrame) -> ResultSection | None:
    """The section ``robustness`` of the summary; None where the run has neither two wordings of a point nor a variant."""
    content = {
        "wordings": wordings(run),
        "consistency": consistency(run),
        "variants": variants(run),
        "held": held(run),
    }
    if not any(content.values()):
        return None
    main = next(name for name in ("variants", "wordings", "consistency", "held") if content[name])
    lines = tuple(row_text(row) for row in content[main])
    return ResultSection(f"Robustness of the override: {main}", content, main, lines)


def worded(run: RunFrame, split: str, condition: str) -> Table:
    """Measured rows whose question has a named wording, in the columns that are read here: to copy all takes far longer."""
    under = run.select(split, condition)
    under = under[["item", "point", "cluster", "wording", *(f"success_{measure}" for measure in MEASURES)]]
    return under[under["wording"].notna()]


def wordings(run: RunFrame) -> list[dict[str, Any]]:
    """Success rate per wording of the question, where a split has at least two; every condition but the base."""
    rows = []
    for split in SPLITS:
        for condition in (name for name in run.conditions if name != BASE):
            under = worded(run, split, condition)
            if under["wording"].nunique() < 2:
                continue
            for wording, group in under.groupby("wording"):
                for measure in MEASURES:
                    share = success_rate(group, measure)
                    if share.n:
                        rows.append(
                            {"split": split, "condition": condition, "wording": str(wording), "measure": measure}
                            | share.as_json()
                        )
    return rows


def consistency(run: RunFrame) -> list[dict[str, Any]]:
    """Of the knowledge points asked in at least two wordings, how many succeed in all, none or some of their questions.

    `expected_mixed` is how many would be mixed if every question succeeded independently at the mean rate: far more than
    `mixed` means that success depends on the knowledge point, not on the wording.
    """
    rows = []
    for split in SPLITS:
        for condition in (name for name in run.conditions if name != BASE):
            under = worded(run, split, condition)
            point, wording = (pd.factorize(under[name])[0] for name in ("point", "wording"))
            for measure in MEASURES:
                success = truth(under[f"success_{measure}"])
                measured = ~np.isnan(success)
                pairs = np.unique(np.stack([point[measured], wording[measured]]), axis=1)
                reworded = np.flatnonzero(np.bincount(pairs[0]) > 1)
                if not len(reworded):
                    continue
                size = np.bincount(point[measured])[reworded].astype(float)
                share = np.bincount(point[measured], success[measured])[reworded] / size
                rate = float((share * size).sum() / size.sum())
                rows.append(
                    {
                        "split": split,
                        "condition": condition,
                        "measure": measure,
                        "points": len(reworded),
                        "all": int((share == 1).sum()),
                        "none": int((share == 0).sum()),
                        "mixed": int(((share > 0) & (share < 1)).sum()),
                        "expected_mixed": float(np.sum(1 - rate**size - (1 - rate) ** size)),
                    }
                )
    return rows


def variants(run: RunFrame) -> list[dict[str, Any]]:
    """Success rate under every variant, and its difference from the single plain document on the same items."""
    rows = []
    for name in run.variants:
        family, count = robustness_family(name) or ("", 1)
        documents = count if family in ("joined", JOINED_MEAN, "in-context-joined") else 1
        reference = IN_CONTEXT if family == "in-context-joined" else DELIVERED
        for split in SPLITS:
            under = run.select(split, name)
            for measure in MEASURES:
                share = success_rate(under, measure)
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

    `control` is the base's success on the same items behind the same words. These name the answer, so a share no larger
    than the control may be copied from them.
    """
    rows = []
    for split in SPLITS:
        before = run.select(split, DELIVERED).set_index("item")
        after, base = (run.select(split, name).set_index("item") for name in (CONTESTED, CONTESTED_BASE))
        both = before.index.intersection(after.index)
        for measure in MEASURES if len(both) else ():
            column = f"success_{measure}"
            succeeded = both[truth(before.loc[both, column]) == 1.0]
            share = success_rate(after.loc[succeeded], measure, "held")
            if share.n:
                control = success_rate(base.loc[succeeded.intersection(base.index)], measure, "control")
                rows.append(
                    {"split": split, "measure": measure}
                    | share.as_json()
                    | {"control": control.as_json() if control.n else None}
                )
    return rows
