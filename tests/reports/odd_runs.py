"""Runs that figures find hard, each with the package's own summary: tiny, one-sided, tied, many and long names, missing splits.

The summary of `made up` alone is not the package's but tests/reports/synthetic.py's, which has every section that a probe fills.
"""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import replace

import numpy as np

from override_gap.analyses.summary import summarise
from override_gap.reports import figures
from tests import simulate
from tests.reports import synthetic

FEW = ("base", "as-delivered", "uniform-1.5", "uniform-2", "slb")
SIMULATED = ("tiny", "all succeed", "none succeeds", "ties", "many conditions", "missing splits", "missing values")
NAMES = (*SIMULATED, "long names", "made up")


def _tiny():
    return simulate.simulate_readings(1, 2, 4, conditions=FEW, others=2)


def _all_succeed():
    return simulate.simulate_readings(2, 12, 24, "no-failure", conditions=FEW, others=8)


def _none_succeeds():
    return simulate.simulate_readings(3, 12, 24, "wrong-direction", conditions=FEW, others=8, errors=2)


def _ties():
    """Every number of the base, and with them prior and margins, is the same on all items."""
    run = simulate.simulate_readings(4, 12, 24, conditions=FEW, others=8)
    rows = run.readings.copy()
    for column in ("prior_logprob", "prior_logprob_per_token", "prior_margin", "frequency"):
        rows[column] = np.where(rows["split"] == "conflict", 2.0 * (column != "prior_logprob") - 1, rows[column])
    return replace(run, readings=rows)


def _many_conditions():
    gains = [f"uniform-{gain:g}" for gain in np.round(np.linspace(1.05, 3, 40), 2)]
    names = ("base", "as-delivered", *gains, *simulate.POLICIES)
    return simulate.simulate_readings(5, 12, 24, conditions=names, others=8, with_layers=False)


def _missing_splits():
    return simulate.simulate_readings(6, 12, 24, conditions=FEW, others=0, frequency=False)


def _missing_values():
    """Some conflicts have no training count, some no reading by layer, and few an answer in words, so that n differs."""
    run = simulate.simulate_readings(7, 20, 60, conditions=FEW, others=12, errors=3)
    rows, layers = run.readings.copy(), run.layers.copy()
    names = sorted(rows.loc[rows["split"] == "conflict", "item"].unique())
    rows.loc[rows["item"].isin(names[:7]), "frequency"] = np.nan
    rows["success_answer"] = rows["success_answer"].where(rows["item"].isin(names[::4]))
    rows.loc[rows["item"].isin(names[5:9]), "critical_gain"] = np.nan
    layers = layers[~layers["item"].isin(names[:3])].copy()
    layers.loc[layers["item"].isin(names[3:14]), ["alone", "removed"]] = np.nan
    return replace(run, readings=rows, layers=layers)


def _long_names(run, summary):
    """Policies whose names fill a line, a question and answers that fill three."""
    text = json.dumps(summary)
    for number, name in enumerate(("slb", "random-layers", "margin-matched", "in-context")):
        text = text.replace(f'"{name}"', json.dumps(f"policy-number-{number}-of-the-{'very-' * 6}long-names-{name}"))
    changed = json.loads(text)
    changed["one_item"] |= {
        "question": "Which of the many colours of the world is it that " * 6,
        "answer": "a blue " * 12,
        "prior_answer": "the red " * 12,
    }
    return run, changed


@functools.cache
def odd_run(name):
    """A run by its name, with its summary."""
    if name in SIMULATED:
        run = globals()["_" + name.replace(" ", "_")]()
        return run, json.loads(json.dumps(summarise(run)))
    run = synthetic.run()
    summary = copy.deepcopy(synthetic.summary(run))
    return (run, summary) if name == "made up" else _long_names(run, summary)


@functools.cache
def drawn(name, figure, narrow):
    """A figure of an odd run with its caption, drawn once; None where the run cannot fill it."""
    spec = next(spec for spec in figures.FIGURES if spec.name == figure)
    run, summary = odd_run(name)
    try:
        return spec.draw(run, summary, narrow=narrow), spec.caption(summary)
    except figures.FigureUnavailable:
        return None
