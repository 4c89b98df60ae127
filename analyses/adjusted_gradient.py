"""The gradient of failure and of the net margin over prior strength, adjusted for what else may explain it.

An item whose old answer the base holds firmly differs in more than that: how likely the base finds the document's
answer, how long the answers are, whether the question is asked or left unfinished, and its relation. Each row is a
regression on the same items: failure (Firth's logistic regression, log-odds) or net margin (least squares, nats), per
standard deviation of prior strength. Log-odds grow with every covariate that matters, so only their signs compare
between rows; slopes of the net margin compare in size too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from override_gap.analyses.readings import BASE, DELIVERED, POPULATIONS, RunFrame, Table, points_of, truth, values
from override_gap.analyses.results import ResultSection
from override_gap.analyses.stats.estimate import Estimate, json_number, missing
from override_gap.analyses.stats.regression import Coefficient, least_squares, logistic, within
from override_gap.margins.items.form import is_asked
from override_gap.margins.text import plural

COVARIATES = {
    "doc_logprob": "log P(y_doc) under the base",
    "prior_tokens": "length of the old answer",
    "answer_tokens": "length of the document's answer",
    "question_form": "form of the question",
    "relation": "relation",
}
"""What is adjusted for, in the order in which covariates enter while the data allow them."""
OUTCOMES = {"failure": "log-odds", "net_margin": "nats"}
"""Outcomes with the unit of their slopes per standard deviation of prior strength."""
EVENTS_PER_COVARIATE = 10
"""Of the rarer outcome (of failure), or items (for the net margin), for each covariate, prior strength included."""
FEWEST, FEWEST_POINTS = 20, 10
MISSING = 0.1
"""A covariate that more than this share of the items lacks is left out; otherwise the items that lack one are."""


@dataclass(frozen=True)
class Regression:
    """The slope on prior strength of one outcome and population, with what it is adjusted for."""

    population: str
    outcome: str
    adjusted_for: tuple[str, ...]
    slope: Estimate
    p: float
    others: dict[str, Estimate]
    """Slopes of the covariates, per standard deviation of each."""

    def as_json(self) -> dict[str, Any]:
        """Row of ``prior_gradient.adjusted.slopes``."""
        return {
            "population": self.population,
            "outcome": self.outcome,
            "adjusted_for": list(self.adjusted_for),
            **self.slope.as_json(),
            "p": json_number(self.p),
            "units": self.slope.units,
            "note": "; ".join(self.slope.caveats),
            "covariates": [{"covariate": name} | slope.as_json() for name, slope in self.others.items()],
        }

    @property
    def agrees(self) -> bool:
        """Whether the slope says, with its whole interval, that firmly held answers are harder to override."""
        return self.slope.low > 0 if self.outcome == "failure" else self.slope.high < 0

    @property
    def reverses(self) -> bool:
        """Whether the slope says, with its whole interval, that they are easier to override."""
        return self.slope.high < 0 if self.outcome == "failure" else self.slope.low > 0


@dataclass(frozen=True)
class Data:
    """Conflicts under one condition with their outcomes, prior strength, covariates and relations."""

    items: Shaped[np.ndarray, " n"]
    points: Shaped[np.ndarray, " n"]
    failure: Float[np.ndarray, " n"]
    net_margin: Float[np.ndarray, " n"]
    strength: Float[np.ndarray, " n"]
    covariates: dict[str, Float[np.ndarray, " n"]]
    relations: Shaped[np.ndarray, " n"] | None
    left_out: dict[str, str]

    def only(self, keep: Shaped[np.ndarray, " n"]) -> Data:
        """Some of the items."""
        return Data(
            self.items[keep],
            self.points[keep],
            self.failure[keep],
            self.net_margin[keep],
            self.strength[keep],
            {name: column[keep] for name, column in self.covariates.items()},
            None if self.relations is None else self.relations[keep],
            self.left_out,
        )


def data(run: RunFrame, condition: str = DELIVERED, population: str = "all") -> Data:
    """The conflicts of a condition, with every covariate that is known for nearly all of them."""
    rows = run.select("conflict", condition, population)
    columns, left_out = {}, {}
    for name, column in covariates(run, rows).items():
        known = np.isfinite(column)
        if known.sum() < (1 - MISSING) * len(column):
            left_out[name] = f"known for {known.sum()} of {len(column)} conflicts"
        elif len(column) and np.ptp(column[known]) < 1e-12:
            left_out[name] = "the same for all conflicts"
        else:
            columns[name] = column
    relations = rows["relation"] if "relation" in rows else pd.Series([None] * len(rows), dtype=object)
    names = relations.to_numpy(dtype=object)
    known = ~pd.isna(names)
    sizes = pd.Series(names[known]).value_counts()
    if known.sum() < (1 - MISSING) * len(rows) or not len(rows):
        left_out["relation"] = f"known for {known.sum()} of {len(rows)} conflicts"
        names = None
    elif len(sizes) < 2 or (sizes > 1).sum() < 2:
        left_out["relation"] = "fewer than two relations have two conflicts or more"
        names = None
    strength, success = values(rows["prior_logprob"]), truth(rows["success_top1"])
    whole = Data(
        rows["item"].to_numpy(dtype=object),
        points_of(rows),
        1 - success,
        values(rows["net_margin"]),
        strength,
        columns,
        names,
        left_out,
    )
    complete = np.isfinite(strength) & ~np.isnan(success) & (known if names is not None else True)
    for column in columns.values():
        complete = complete & np.isfinite(column)
    return whole.only(complete)


def covariates(run: RunFrame, rows: Table) -> dict[str, Float[np.ndarray, " n"]]:
    """The numeric covariates of each row; NaN where one is not known."""
    base = run.select("conflict", BASE).drop_duplicates("item").set_index("item")["doc_logprob"]
    lengths = values(rows["n_prior_tokens"])
    per_token = values(rows["prior_logprob_per_token"])
    # Runs of earlier versions state the length by these two alone.
    with np.errstate(divide="ignore", invalid="ignore"):
        stated = np.round(values(rows["prior_logprob"]) / per_token)
    asked = [np.nan if pd.isna(text) else float(is_asked(str(text))) for text in rows["question"]]
    return {
        "doc_logprob": values(rows["item"].map(base)),
        "prior_tokens": np.where(np.isfinite(lengths), lengths, np.where(per_token < 0, stated, np.nan)),
        "answer_tokens": values(rows["n_answer_tokens"]),
        "question_form": np.array(asked, dtype=float),
    }


def entering(of: Data, outcome: str) -> tuple[list[str], dict[str, str]]:
    """The covariates that enter, in order, and why others do not."""
    failures = of.failure.sum()
    size = min(failures, len(of.failure) - failures) if outcome == "failure" else len(of.failure)
    allowed = int(size // EVENTS_PER_COVARIATE) - 1
    enter, left_out = [], dict(of.left_out)
    for name in COVARIATES:
        if name in left_out:
            continue
        if name != "relation" and len(enter) >= allowed:
            what = "failures or successes" if outcome == "failure" else "conflicts"
            left_out[name] = f"{int(size)} {what} allow {plural(max(allowed, 0), 'covariate')} beside prior strength"
        else:
            enter.append(name)
    return enter, left_out


def steps(enter: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Nothing, log P(y_doc), all numeric covariates, and those within relations; each set once."""
    numeric = tuple(name for name in enter if name != "relation")
    yield from dict.fromkeys([(), numeric[:1], numeric, tuple(enter)])


def fit(of: Data, outcome: str, adjusted_for: Sequence[str]) -> dict[str, Coefficient] | str:
    """Slopes per standard deviation, prior strength's first; or why there are none.

    Within relations every column is taken as its deviation from its relation's mean. For least squares that is a constant
    for every relation; for the logistic regression it leaves out what differs between relations, without a coefficient
    for each of them, which few items a relation could not bear.
    """
    n, points = len(of.failure), len(set(of.points))
    if n < FEWEST or points < FEWEST_POINTS:
        return f"{plural(n, 'conflict')} over {plural(points, 'knowledge point')}; {FEWEST} over {FEWEST_POINTS} are needed"
    names = ["prior_logprob", *(name for name in adjusted_for if name != "relation")]
    columns = [of.strength, *(of.covariates[name] for name in names[1:])]
    if any(np.ptp(column) < 1e-12 for column in columns):
        return "prior strength does not vary" if np.ptp(of.strength) < 1e-12 else "a covariate does not vary"
    design = np.column_stack([(column - column.mean()) / column.std(ddof=1) for column in columns])
    y = of.failure if outcome == "failure" else of.net_margin
    if np.isnan(y).any():
        return "no net margin was read"
    if "relation" in adjusted_for:
        assert of.relations is not None
        design = within(design, of.relations)
        y = y if outcome == "failure" else within(y[:, None], of.relations)[:, 0]
    if outcome == "net_margin":
        return dict(zip(names, least_squares(y, design, of.points), strict=True))
    events = int(min(y.sum(), n - y.sum()))
    if events < EVENTS_PER_COVARIATE:
        return f"{events} {'failures' if y.sum() == events else 'successes'}; {EVENTS_PER_COVARIATE} are needed"
    slopes = logistic(y, design, of.points)
    if slopes is None:
        return "prior strength and the covariates separate failures from successes completely"
    return dict(zip(names, slopes, strict=True))


def regressions(run: RunFrame, condition: str = DELIVERED) -> list[Regression]:
    """Every population, outcome and set of covariates."""
    rows = []
    for population in POPULATIONS:
        of = data(run, condition, population)
        for outcome in OUTCOMES:
            for adjusted_for in steps(entering(of, outcome)[0]):
                rows.append(regression(of, population, outcome, adjusted_for))
    return rows


def regression(of: Data, population: str, outcome: str, adjusted_for: tuple[str, ...]) -> Regression:
    """One regression as estimates."""
    slopes, name, units = fit(of, outcome, adjusted_for), f"slope of {outcome} on prior_logprob", OUTCOMES[outcome]
    if isinstance(slopes, str):
        none = missing(name, slopes, len(of.failure), len(set(of.points)), units)
        return Regression(population, outcome, adjusted_for, none, float("nan"), {})
    first, *_ = slopes.values()
    others = {key: slope.estimate(key, units) for key, slope in slopes.items() if key != "prior_logprob"}
    return Regression(population, outcome, adjusted_for, first.estimate(name, units), first.two_sided(), others)


def adjusted(run: RunFrame, condition: str = DELIVERED) -> ResultSection | None:
    """``prior_gradient.adjusted``: the slopes, and which covariates were left out for which reason."""
    rows = regressions(run, condition)
    if not any(row.slope.known for row in rows):
        return None
    of = data(run, condition)
    content = {
        "condition": condition,
        "sd": json_number(of.strength.std(ddof=1)),
        "slopes": [row.as_json() for row in rows],
        "left_out": [
            {"outcome": outcome, "covariate": name, "reason": reason}
            for outcome in OUTCOMES
            for name, reason in entering(of, outcome)[1].items()
        ],
    }
    lines = [f"{row.population}, {adjusted_words(row.adjusted_for)}: {row.slope}" for row in rows if row.slope.known]
    return ResultSection("Slopes on prior strength, per standard deviation", content, "slopes", tuple(lines))


def most_adjusted(run: RunFrame, condition: str = DELIVERED) -> Regression | None:
    """The regression of failure with all covariates that enter (of the net margin where failure allows none)."""
    of = data(run, condition)
    for outcome in OUTCOMES:
        sets = [adjusted_for for adjusted_for in steps(entering(of, outcome)[0]) if adjusted_for]
        for adjusted_for in reversed(sets):
            row = regression(of, "all", outcome, adjusted_for)
            if row.slope.known:
                return row
    return None


def adjusted_words(adjusted_for: Sequence[str]) -> str:
    """``adjusted for log P(y_doc) under the base and relation``; ``not adjusted`` for none."""
    *names, last = [COVARIATES[name] for name in adjusted_for] or [""]
    return f"adjusted for {' and '.join(filter(None, [', '.join(names), last]))}" if adjusted_for else "not adjusted"


def in_context(run: RunFrame, condition: str = DELIVERED) -> ResultSection | None:
    """``prior_gradient.in_context``: the slopes with the document in the prompt instead of an adapter, on the same items.

    The difference, adapter minus prompt, tells what the adapter adds to what any conflict of a document with the base does.
    """
    other = next((name for name in run.conditions if name.startswith("in-context") and name != condition), None)
    if other is None:
        return None
    rows, lines = [], []
    for population in POPULATIONS:
        own, prompt = data(run, condition, population), data(run, other, population)
        shared = np.intersect1d(own.items.astype(str), prompt.items.astype(str))
        own, prompt = (side.only(np.isin(side.items.astype(str), shared)) for side in (own, prompt))
        for outcome in OUTCOMES:
            allowed = min((entering(side, outcome)[0] for side in (own, prompt)), key=len)
            for adjusted_for in steps(allowed):
                row = paired(own, prompt, outcome, adjusted_for)
                rows.append({"population": population, "outcome": outcome, "adjusted_for": list(adjusted_for)} | row)
                if row["difference"]["value"] is not None:
                    difference = row["difference"]
                    lines.append(
                        f"{population}, {outcome}, {adjusted_words(adjusted_for)}: adapter minus prompt "
                        f"{difference['value']:.3g} [{difference['low']:.3g}, {difference['high']:.3g}] {OUTCOMES[outcome]}"
                    )
    content = {"condition": condition, "against": other, "slopes": rows}
    return ResultSection(f"Slopes on prior strength: {condition} against {other}", content, "slopes", tuple(lines))


def paired(own: Data, prompt: Data, outcome: str, adjusted_for: tuple[str, ...]) -> dict[str, Any]:
    """Both slopes and their difference, whose error allows for the items being the same."""
    first, second = fit(own, outcome, adjusted_for), fit(prompt, outcome, adjusted_for)
    estimates, p, note = {}, float("nan"), ""
    for key, slopes in (("adapter", first), ("prompt", second)):
        if isinstance(slopes, str):
            estimates[key] = missing(key, slopes, len(own.failure), len(set(own.points)))
            note = slopes
        else:
            estimates[key] = slopes["prior_logprob"].estimate(key)
    if isinstance(first, str) or isinstance(second, str):
        estimates["difference"] = missing("difference", note, len(own.failure), len(set(own.points)))
    else:
        difference = first["prior_logprob"] - second["prior_logprob"]
        estimates["difference"], p = difference.estimate("difference"), difference.two_sided()
    shown: dict[str, Any] = {key: estimate.as_json() for key, estimate in estimates.items()}
    return shown | {"p": json_number(p), "units": OUTCOMES[outcome], "note": note}
