"""Choose a policy under a budget by cross-validation: in every fold on the other folds, its figures from the fold itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Integer

from override_gap.analyses.compare.conditions import paired
from override_gap.analyses.looks import looks_of
from override_gap.analyses.matched_retention import MARGIN
from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, once_per_run
from override_gap.analyses.stats.estimate import json_number
from override_gap.analyses.tune.budget import Budget
from override_gap.analyses.tune.candidates import candidates as possible
from override_gap.analyses.tune.candidates import mean_gain, octaves_from_one
from override_gap.analyses.tune.choice import UNDECIDED, Choice
from override_gap.analyses.tune.figures import chosen_values, figures, joined
from override_gap.analyses.tune.folds import Folds, folds
from override_gap.analyses.tune.outcomes import Outcomes, outcomes
from override_gap.analyses.tune.recommend import recommend
from override_gap.analyses.tune.select import BY_LIMIT, Priced, Selector
from override_gap.analyses.tune.situation import Situation, too_little
from override_gap.analyses.verdict import read_by_rule

SPLITS = ("conflict", "retention", "kl", "novel")
UNCHOSEN = {"novel": "Of new facts", "combination": "Of questions that combine the document with another fact"}
"""Splits that no choice is made on, in words."""


def choose(run: RunFrame, budget: Budget, candidates: Sequence[str] | None = None, seed: int = 0) -> Choice:
    """The policy that overrides most conflicts within the budget, with figures out of fold.

    `candidates`: names of conditions (default: all that set gains, controls apart); base and as-delivered are always among
    them. Deterministic in its arguments. Raises ValueError where a candidate was not measured or cannot be chosen.
    """
    return choose_by(run, budget, None if candidates is None else tuple(candidates), seed)


@once_per_run
def choose_by(
    run: RunFrame, budget: Budget, candidates: tuple[str, ...] | None = None, seed: int = 0, rule: str = BY_LIMIT
) -> Choice:
    """`choose` with the budget held against upper limits of the costs (`limit`) or against their estimates (`estimate`)."""
    names, left_out = possible(run, candidates)
    found = outcomes(run, names, budget.measure)
    left_out = left_out | found.left_out
    lacking = too_little(found, budget)
    if lacking:
        nothing: dict[str, int | None] = {}
        further = _partly_measured(run)
        return Choice(DELIVERED, UNDECIDED, lacking, budget, {}, {}, math.nan, further, left_out=left_out, more=nothing)
    selector = Selector(found, budget, [octaves_from_one(run, name) for name in found.names], rule)
    priced = selector.priced()
    final = selector.best(priced)
    split_into = fold_items(found, seed)
    chosen = [selector.best(selector.priced(training(found, split_into, fold))) for fold in range(split_into.count)]
    per_item = np.array(chosen)
    given = {split: per_item[codes] for split, codes in by_split(found, split_into).items()}
    if found.combination is not None:
        # nothing is chosen on these questions and no fold holds them: they are read under the policy itself
        given["combination"] = np.full(len(found.combination), final)
    whole = {split: np.full_like(codes, final) for split, codes in given.items()}
    in_sample = figures(found, whole, found.names[final])
    expected = joined(figures(found, given, found.names[final]), in_sample)
    advice = recommend(Situation(run, found, priced, final, expected, budget, tuple(chosen)))
    if advice.leave or found.names[final] in (BASE, DELIVERED):
        # nothing was chosen on these items: as delivered (or the base) has its own figures, whatever other folds would pick
        final = found.names.index(DELIVERED) if advice.leave else final
        given = {split: np.full_like(codes, final) for split, codes in given.items()}
        expected = in_sample = figures(found, given, found.names[final])
        if found.names[final] == DELIVERED:
            expected = in_sample = expected | {"difference": None}
    losses = () if final == found.names.index(DELIVERED) else lost_elsewhere(found, final)
    fitted, fresh = in_sample["conflict"], expected["conflict"]
    assert fitted is not None
    assert fresh is not None
    return Choice(
        policy=found.names[final],
        recommendation=advice.recommendation,
        says=advice.says,
        further=(*_partly_measured(run), *advice.further, *losses),
        budget=budget,
        expected=expected,
        in_sample=in_sample,
        optimism=fitted.value - fresh.value,
        rows=candidate_rows(run, found, priced, chosen, final),
        folds={"by": split_into.by, "n": split_into.count, "units": split_into.units, "rule": rule},
        more=advice.more,
        left_out=left_out,
        table=held_out(found, split_into, given),
    )


def fold_items(found: Outcomes, seed: int) -> Folds:
    """The folds over all splits together, so that what is alike is held out together."""
    parts = [getattr(found, split) for split in SPLITS]
    return folds(np.concatenate([part.points for part in parts if part is not None]), seed)


def by_split(found: Outcomes, split_into: Folds) -> dict[str, Integer[np.ndarray, " n"]]:
    """The folds of each split's items."""
    result, start = {}, 0
    for split in SPLITS:
        part = getattr(found, split)
        size = 0 if part is None else len(part)
        result[split] = split_into.codes[start : start + size]
        start += size
    return result


def _partly_measured(run: RunFrame) -> tuple[str, ...]:
    """That only part of the items is measured, in a run that was cut short or stopped by its own looks."""
    if run.manifest.get("complete") is False:
        count = run.readings["item"].nunique()
        return (f"This run is not complete: {count} items are measured so far; the same audit command resumes it.",)
    looks = looks_of(run.manifest)
    return (looks.sentence,) if looks is not None and looks.stopped else ()


def lost_elsewhere(found: Outcomes, final: int) -> tuple[str, ...]:
    """Sentences on questions that no choice is made on, where fewer are right than as delivered: surely, or by MARGIN or more."""
    sentences, delivered = [], found.names.index(DELIVERED)
    for split, what in UNCHOSEN.items():
        part = getattr(found, split)
        if part is None:
            continue
        now, before = part.values[:, final], part.values[:, delivered]
        gap = read_by_rule(paired(now, before, part.points, ("", ""), split, "top1").difference, part.points)
        if gap.high < 0 or gap.value <= -MARGIN:
            sentences.append(
                f"{what} it answers {now.mean():.0%}, as delivered {before.mean():.0%} ({100 * gap.value:+.0f} points "
                f"[{100 * gap.low:.0f}, {round(100 * gap.high)}])."
            )
    return tuple(sentences)


def training(found: Outcomes, split_into: Folds, fold: int) -> list[Bool[np.ndarray, " _"]]:
    """Which conflicts, retention items and KL readings are not of a fold."""
    return [codes != fold for split, codes in by_split(found, split_into).items() if split != "novel"]


def held_out(found: Outcomes, split_into: Folds, given: dict[str, Integer[np.ndarray, " n"]]) -> pd.DataFrame:
    """One row per item: what the condition that was chosen without its fold did."""
    names, tables = np.array(found.names, object), []
    codes = by_split(found, split_into)
    kl = {}
    if found.kl is not None:
        kl = dict(zip(found.kl.items, chosen_values(found.kl, given["kl"]), strict=True))
    for split in ("conflict", "novel", "retention"):
        part = getattr(found, split)
        if part is None:
            continue
        tables.append(
            pd.DataFrame(
                {
                    "item": part.items,
                    "point": [str(point) for point in part.points],
                    "split": split,
                    "fold": codes[split],
                    "condition": names[given[split]],
                    "success": chosen_values(part, given[split]).astype(bool),
                    "kl": [kl.get(item, math.nan) if split == "retention" else math.nan for item in part.items],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def candidate_rows(
    run: RunFrame, found: Outcomes, priced: Priced, chosen: Sequence[int], final: int
) -> tuple[dict[str, object], ...]:
    """The rows ``tuning.candidates``: in sample, the limits beside the estimates."""
    rows = []
    for place, name in enumerate(found.names):
        lost, kl = priced.lost, priced.kl
        rows.append(
            {
                "condition": name,
                "gain": json_number(mean_gain(run, name)),
                "conflict": float(priced.override[place]),
                "kept": None if lost is None else 1 - float(lost.value[place]),
                "kept_at_least": None if lost is None else 1 - float(lost.upper[place]),
                "kl": None if kl is None else json_number(kl.value[place]),
                "kl_at_most": None if kl is None else json_number(kl.upper[place]),
                "within": bool(priced.within[place]),
                "within_by_estimate": bool(priced.estimated[place]),
                "folds": sum(number == place for number in chosen),
                "chosen": place == final,
            }
        )
    return tuple(rows)
