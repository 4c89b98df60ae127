"""The tables of the page of policies: over the range of gains, every policy per subject, other questions, what separates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from benchmarks.policies_range import AT, most_override, over_costs
from override_gap.analyses.dose_response import gains
from override_gap.analyses.equal_cost import KL, RETENTION, Matched, matched
from override_gap.analyses.readings import BASE, RunFrame, Table, truth, values
from override_gap.margins.gain_policies.by_effect import REFERENCE

ORACLE = "oracle"
ORACLE_GAINS = ("0.75", "1.5", "3")
MAIN = "effect-gated"
TITLES = {
    MAIN: "Over the whole range of costs",
    "effect-alone": "Control: the effect without the words",
    "overlap-scaled": "Control: the words without the effect",
}
SEPARATING = ("effect-gated-1.5", "effect-alone-1.5", "overlap-scaled-1.5")

HEAD = """# Policies against uniform scaling

An adapter is a small change of a model's weights that a method makes from a document. If it is too weak to change the model's
answer, one can multiply all of it by the same number, or some layers or some questions more than others: a rule for that is
called a *policy*. Any stronger setting changes more answers, and also damages more answers that have nothing to do with the
document; this page asks whether a policy does better than plain scaling that does as much damage. For readers who choose a
policy or invent one; words are in the [glossary](glossary.md).

Does a policy override more than the uniform gain that costs as much? Points of conflicts overridden (by first token), policy
minus uniform, at the uniform gain at which as many unrelated answers are kept (*equal retention*), or whose mean KL to the base
on unrelated questions is the same (*equal KL*); `at` is that gain. 95% intervals by bootstrap over knowledge points, or over
relations where those are wider; bold where they exclude 0. The comparisons are those of every report
(`analyses/equal_cost.py`). Every row is an audit of real passes under the policy; the uniform curve alone is interpolated.

`python benchmarks/policies.py --worlds worlds/6 worlds/7 --unseen worlds/8 --out runs/policies > docs/policies.md` writes this
page up to its last section.

`effect-gated-G` gives a question the gain min(G sqrt(overlap effect / 7.5), (lead + 4) / effect) at every layer, see *Effect* in
[definitions.md](definitions.md). The form was chosen on the development rows. Those of worlds 6 and 7 and of fresh items were not
fitted to, but they had been looked at under a few candidates before the form was fixed, and what world 6 showed was one reason to
try milder ones. *Unseen* rows are of worlds that were trained after the form was fixed.

The first tables take a policy at the strength G at which it costs as much as a uniform gain, both curves interpolated alike and
each read at its largest strength that costs no more; a policy that cannot cost as much is taken at its largest G. *most*: what
the best uniform gain overrides, minus what uniform scaling overrides at that cost; a gain per question may pass it. Where uniform
scaling overrides nearly all that any gain does, there is little to win. The tables by subject compare each audited strength, and
*oracle-G*, which knows the split: gain G on conflicts and 0 on all other questions, so that it costs nothing."""

SEPARATION = """The share of pairs of a conflict and an unrelated question in which the conflict gets the larger gain (ties count
half; at 0.5 the policy is blind), and the median gain of conflicts / unrelated questions. *needed* ranks by the least uniform
gain read at which a conflict is overridden or an unrelated answer lost: the order in which uniform scaling flips them."""
KINDS = """Medians of the effect (nats per unit of gain, read off the gain of `effect-alone-0.75`), of the overlap and of the gain
under `effect-gated-1.5`; then success by first token, for retention that the base's stays."""
SKIPPED = ("fresh", "fitted", "rank-one", "plant")


class Named(Protocol):
    """A case, as the tables need it."""

    @property
    def name(self) -> str:
        """Of the case."""
        ...

    @property
    def role(self) -> str:
        """Whether the form was chosen on it."""
        ...

    def kinds(self) -> dict[str, str]:
        """What kind of question each item is."""
        ...

    @property
    def says(self) -> str:
        """What it is."""
        ...


Cases = Mapping[str, tuple[Named, RunFrame]]


@dataclass(frozen=True)
class Compared:
    """One run with its oracle: the comparisons at equal cost by condition, and the run's own readings."""

    frame: RunFrame
    at_equal: dict[str, dict[str, Matched]]

    @classmethod
    def of(cls, frame: RunFrame) -> Compared:
        """A run's comparisons, the oracle's among them."""
        found = matched(with_oracle(frame))
        if found is None:
            raise SystemExit("a run lacks retention items or uniform gains; audit it again with this script")
        return cls(frame, {cost: {row.condition: row for row in rows} for cost, rows in found.items()})


def with_oracle(frame: RunFrame) -> RunFrame:
    """The run with conditions `oracle-G`: the readings of `uniform-G` on conflicts, of the base on all other questions."""
    added = []
    for gain in ORACLE_GAINS:
        rows = frame.readings
        conflict = rows["split"] == "conflict"
        of_gain = conflict & (rows["condition"] == f"uniform-{gain}")
        part = pd.concat([rows[of_gain], rows[~conflict & (rows["condition"] == BASE)]])
        added.append(part.assign(condition=f"{ORACLE}-{gain}"))
    readings = pd.concat([frame.readings, *added], ignore_index=True)
    names = [*frame.manifest.get("conditions", []), *(f"{ORACLE}-{gain}" for gain in ORACLE_GAINS)]
    return RunFrame({**frame.manifest, "conditions": names}, readings)


def page(cases: Cases) -> list[str]:
    """The page's lines."""
    compared = {name: Compared.of(frame) for name, (_, frame) in cases.items()}
    sections = (
        over_the_range(cases),
        separation(cases),
        by_kind(cases),
        every_policy(cases, compared),
    )
    return [HEAD, "", *(line for section in sections for line in section)]


def over_the_range(cases: Cases) -> Iterator[str]:
    """effect-gated and its controls at the costs of uniform gains, a row per case, a table per cost and policy."""
    heads = " | ".join(f"{gain:g}" for gain in AT)
    for stem, title in TITLES.items():
        yield from (f"## {title}", "")
        for cost, words in ((RETENTION, "retention"), (KL, "KL")):
            yield from (f"`{stem}`, at the {words} of the uniform gain:", "", f"| subject | role | {heads} |")
            yield "|---" * (len(AT) + 2) + "|"
            for name, (case, frame) in cases.items():
                found = over_costs(frame, stem)[cost]
                cells = [_interval(ahead.value, ahead.low, ahead.high) for ahead in found.values()]
                yield f"| {name} | {case.role} | {' | '.join(cells)} |"
                if stem == MAIN:
                    narrower = [_interval(ahead.value, *ahead.by_point) for ahead in found.values()]
                    yield f"| {name} | by knowledge point alone | {' | '.join(narrower)} |"
                    most = " | ".join(f"{100 * (most_override(frame) - found[gain].uniform):+.1f}" for gain in AT)
                    yield f"| *{name}, most* | | {most} |"
            yield ""


def every_policy(cases: Cases, compared: Mapping[str, Compared]) -> Iterator[str]:
    """Every condition of every case: override, unrelated answers kept, KL, and the two comparisons."""
    yield from ("", "## Every policy")
    for name, (case, frame) in cases.items():
        sizes = ", ".join(
            f"{frame.select(split, BASE)['item'].nunique()} {split}" for split in ("conflict", "retention")
        )
        yield from ("", f"### {name}", "", f"{case.says[0].upper()}{case.says[1:]}; {sizes} items; {case.role}.", "")
        yield "| policy | overridden | kept | KL | equal retention | equal KL |"
        yield "|---|---|---|---|---|---|"
        conditions = [*frame.conditions, *(f"{ORACLE}-{gain}" for gain in ORACLE_GAINS)]
        whole = with_oracle(frame)
        for condition in conditions:
            cells = [_cell(compared[name].at_equal[cost].get(condition)) for cost in (RETENTION, KL)]
            yield f"| {condition} | {' | '.join([*_shares(whole, condition), *cells])} |"


def separation(cases: Cases) -> Iterator[str]:
    """How often a conflict is given a larger gain than an unrelated question (AUC), and the median gains."""
    yield from ("## What separates the questions", "")
    yield SEPARATION
    yield from ("", f"| subject | needed | {' | '.join(SEPARATING)} |", "|---" * (len(SEPARATING) + 2) + "|")
    for name, (_, frame) in cases.items():
        cells = []
        for condition in SEPARATING:
            conflict, other = (
                values(frame.select(split, condition)["gain_mean"]) for split in ("conflict", "retention")
            )
            medians = f"{np.median(conflict):.2f} / {np.median(other):.2f}"
            cells.append(f"{_auc(conflict, other):.3f} ({medians})")
        conflict, other = (needed(frame, split) for split in ("conflict", "retention"))
        yield f"| {name} | {_auc(-conflict, -other):.3f} | {' | '.join(cells)} |"


def needed(frame: RunFrame, split: str) -> np.ndarray:
    """Per item the least uniform gain read at which a conflict is overridden, or an unrelated answer lost; inf for none."""
    wide = {gain: frame.select(split, name).set_index("item")["success_top1"] for gain, name in gains(frame).items()}
    table = pd.DataFrame({gain: pd.Series(truth(column), index=column.index) for gain, column in wide.items()})
    changed = (table == (1.0 if split == "conflict" else 0.0)).to_numpy()
    first = changed.argmax(1)
    return np.where(changed.any(1), np.array(table.columns, float)[first], math.inf)


def by_kind(cases: Cases) -> Iterator[str]:
    """Effect, overlap, gain and outcome by kind of question, for the hypernetworks."""
    yield from ("", "## Kinds of questions", "", KINDS, "")
    outcomes = ("as-delivered", "uniform-1.25", "uniform-1.5", "effect-gated-1.5", "effect-gated-3", "effect-alone-1.5")
    yield f"| subject | questions | n | effect | overlap | gain | {' | '.join(outcomes)} |"
    yield "|---" * (len(outcomes) + 6) + "|"
    for name, (case, frame) in cases.items():
        if any(word in name for word in SKIPPED):
            continue
        labels = pd.Series(case.kinds())
        rows = frame.measured.assign(kind=frame.measured["item"].map(labels))
        for kind in sorted(rows["kind"].dropna().unique(), key=lambda kind: (not kind.startswith("conflict"), kind)):
            of_kind = {str(c): part for c, part in rows[rows["kind"] == kind].groupby("condition")}
            words = np.median(values(of_kind["overlap-scaled-0.75"]["gain_mean"]) / 0.75)
            effects = np.median(REFERENCE * (values(of_kind["effect-alone-0.75"]["gain_mean"]) / 0.75) ** 2)
            gain = np.median(values(of_kind["effect-gated-1.5"]["gain_mean"]))
            shares = " | ".join(_percent(of_kind[condition]) for condition in outcomes)
            n = len(of_kind["as-delivered"])
            yield f"| {name} | {kind} | {n} | {effects:.1f} | {words:.2f} | {gain:.2f} | {shares} |"
    yield ""


def _interval(value: float, low: float, high: float) -> str:
    """A difference in points with its interval, bold where that excludes 0."""
    value, low, high = 100 * value, 100 * low, 100 * high
    text = f"{value:+.1f}" + (f" [{low:+.0f}, {high:+.0f}]" if math.isfinite(low) else "")
    return f"**{text}**" if low > 0 or high < 0 else text


def _auc(larger: np.ndarray, smaller: np.ndarray) -> float:
    """P(a value of the first > one of the second), ties half."""
    if not len(larger) or not len(smaller):
        return math.nan
    ranks = rankdata(np.r_[larger, smaller])
    n = len(larger)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(smaller)))


def _shares(frame: RunFrame, condition: str) -> list[str]:
    """Conflicts overridden, unrelated answers kept, mean KL there."""
    conflict, retention = frame.select("conflict", condition), frame.select("retention", condition)
    shares = [_percent(rows) for rows in (conflict, retention)]
    price = f"{values(retention['kl']).mean():.3f}" if len(retention) else "-"
    return [*shares, price]


def _percent(rows: Table) -> str:
    """Share of rows that succeed by their first token."""
    return f"{100 * np.nanmean(truth(rows['success_top1'])):.0f}%" if len(rows) else "-"


def _cell(row: Matched | None) -> str:
    """The difference in points with its interval, and the uniform gain that costs as much."""
    if row is None:
        return "-"
    return f"{_interval(row.difference.value, row.difference.low, row.difference.high)} at {row.gain:.2g}"
