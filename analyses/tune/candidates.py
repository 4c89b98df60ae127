"""Candidates: the conditions of a run that can be chosen, those that set gains, and why the others cannot."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from override_gap.analyses.readings import BASE, DELIVERED, RunFrame, gain_of, values
from override_gap.analyses.refusals import refusals, unpriced
from override_gap.margins.condition_names import MEANING

LEAST_MEASURED = 0.95
"""A candidate is measured on at least this share of the items of a split, so that all are judged on nearly the same ones."""
DRAWN = ("random-layers", "random-matched")
KNOWS_ANSWERS = ("margin-matched",)
"""Policies that need the margins of a question's own answers, which are not known in use."""


def candidates(run: RunFrame, named: Sequence[str] | None = None) -> tuple[list[str], dict[str, str]]:
    """Names that can be chosen, base and as-delivered first, and by name why each other condition cannot.

    Controls are there to be compared with and are left out unless they are named. Raises ValueError where a named policy was
    not measured or cannot be chosen. Whether a condition sets gains is read from the readings, so that no library is loaded.
    """
    refused = {str(row["condition"]): row for row in refusals(run)}
    without_price = unpriced(run)
    gained = run.measured[["condition", "gain_mean"]].groupby("condition")["gain_mean"].count()
    found, left_out = [BASE, DELIVERED], {}
    for name in named or run.conditions:
        if name in found:
            continue
        if name not in run.conditions:
            measured = ", ".join(each for each in run.conditions if each not in (BASE, DELIVERED))
            raise ValueError(f"policy {name[:60]!r} was not measured in this run; measured: {measured or 'none'}")
        if name in without_price:
            row = refused[name]
            left_out[name] = f"cannot be applied to {row['n']} of {row['of']} unrelated questions"
        elif name.startswith(KNOWS_ANSWERS):
            left_out[name] = "needs the margins of a question's own answers"
        elif name.split(":")[-1].startswith(DRAWN):
            left_out[name] = "its layers are drawn at random, so it is there only to be compared with"
        elif not gained.get(name, 0):
            left_out[name] = "sets no gains"
        elif named is None and is_control(name):
            left_out[name] = "a control"
        else:
            found.append(name)
    if named is not None and left_out:
        name, why = next(iter(left_out.items()))
        raise ValueError(f"policy {name!r} cannot be chosen: {why}")
    return found, left_out


def is_control(name: str) -> bool:
    """Whether a condition, with settings or behind a gate or not, is there only to be compared with."""
    name = name.split(":")[-1]
    family = re.sub(r"(-[0-9.]+)+$", "", name)
    return MEANING.get(name, MEANING.get(family, "")).startswith("control")


def octaves_from_one(run: RunFrame, name: str) -> float:
    """How far the mean gain of a condition lies from 1, in octaves; infinite for gain 0."""
    gain = mean_gain(run, name)
    return abs(float(np.log2(gain))) if gain > 0 else float("inf")


def mean_gain(run: RunFrame, name: str) -> float:
    """The gain of a condition, meant over layers, and over conflicts and unrelated questions alike; NaN where none is stored."""
    gain = gain_of(name)
    if gain is not None:
        return gain
    each = [
        values(run.cells[split, name]["gain_mean"]) for split in ("conflict", "retention") if (split, name) in run.cells
    ]
    known = [part[~np.isnan(part)] for part in each]
    return float(np.mean([part.mean() for part in known if len(part)])) if any(map(len, known)) else float("nan")
