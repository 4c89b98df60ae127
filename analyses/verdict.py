"""The verdict in one word: do failures come of the adapter's magnitude, so that another gain repairs them?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from override_gap.analyses.causes import HELD, Causes, causes
from override_gap.analyses.looks import looks_of
from override_gap.analyses.price import KL_BOUND, LOSS, price
from override_gap.analyses.readings import DELIVERED, RunFrame, points_of, truth, values
from override_gap.analyses.results import estimates_frame
from override_gap.analyses.searched import Searched, searched
from override_gap.analyses.stats.clusters import higher_names
from override_gap.analyses.stats.estimate import LEVEL, Estimate, HtmlRepr
from override_gap.analyses.stats.intervals import proportion
from override_gap.margins.text import plural

NO_FAILURE = 0.20
FEWEST, FEWEST_POINTS, FEWEST_RELATIONS = 10, 5, 10
MAGNITUDE, REPRESENTATIONAL, EITHER = 2 / 3, 1 / 3, 0.10

RULE = (
    "Conflicts whose old answer the base model knows, judged by the first answer token (top1). no-failure: the upper 95% "
    "limit of the failure rate as delivered is below 20%. Otherwise every failure is searched at growing gains until its "
    "document's answer comes first or the adapter breaks the model (KL to the base above 1 nat per token on unrelated "
    "questions and text), and at gains below 1 where the adapter is strong. A failure is held if at some gain that does "
    "not break the model the document's answer comes first and its logit rose over the base more than nearly all other "
    "answers did. The share held decides by its 95% interval, clustered by knowledge point: magnitude if it lies above "
    "2/3; representational if it lies below 1/3; mixed if it lies between 10% and 90%; else inconclusive. Where relations "
    "are known the wider of the intervals by point and by relation is read, but an audit of fewer than 10 relations speaks "
    "of these alone and is read by point. A search that ended before either counts both ways, and the label must be the "
    "same. Fewer than 10 failures or 5 knowledge points are inconclusive, and so is a method that is not a weight update, "
    "which has no gain to vary, and a run without a search. Where most of the documents' answers are the base's own second "
    "choices, or what it finds likeliest among at least 5 answers of their relation, magnitude is not claimed."
)


@dataclass(frozen=True)
class Verdict(HtmlRepr):
    """The label and the sentences that state it (the first says why, the others what it costs), with the shares behind them.

    ``failing`` is the failure rate as delivered. Of the failures: ``held``, on which the rule decides; ``rescued``, those
    whose first token flips at a larger gain that does not break the model, content or not; ``affordable``, those held at a
    gain that costs little; ``in_words``, of those held and asked in words the ones answered right.
    """

    label: str
    sentences: tuple[str, ...]
    failing: Estimate | None = None
    rescued: Estimate | None = None
    held: Estimate | None = None
    affordable: Estimate | None = None
    in_words: Estimate | None = None
    causes: Causes | None = None
    searched: Searched | None = None

    @property
    def sentence(self) -> str:
        """All sentences as one text."""
        return " ".join(self.sentences)

    @property
    def shares(self) -> dict[str, Estimate | None]:
        """The shares by name."""
        names = ("failing", "rescued", "held", "affordable", "in_words")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        lines = [f"  {estimate.percent().splitlines()[0]}" for estimate in self.shares.values() if estimate]
        return "\n".join([f"{self.label}: {self.sentence}", *lines])

    def frame(self) -> pd.DataFrame:
        """One row per share that the data allow."""
        return estimates_frame(self.shares).assign(label=self.label)

    def as_json(self) -> dict[str, Any]:
        """The section ``verdict`` of the summary; `corrected` is the share held, `chance` no longer a part of the rule."""
        shares = {name: estimate.as_json() if estimate else None for name, estimate in self.shares.items()}
        return {
            "label": self.label,
            **shares,
            "corrected": shares["held"],
            "chance": None,
            "causes": [] if self.causes is None else self.causes.as_json(),
            "searched": None if self.searched is None else self.searched.as_json(),
            "sentence": self.sentence,
            "sentences": list(self.sentences),
            "rule": RULE,
        }


def percent(estimate: Estimate) -> str:
    """``91% [82%, 96%]``."""
    if np.isnan(estimate.low):
        return f"{estimate.value:.0%} (no interval)"
    return f"{estimate.value:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]"


def verdict(run: RunFrame, level: float | None = None) -> Verdict:
    """Apply ``RULE`` to a run; ``level`` replaces the intervals' 95%, by default where the run was looked at before its end."""
    looks = looks_of(run.manifest) if level is None else None
    level = level or (LEVEL if looks is None else looks.level)
    reached = apply_rule(run, level)
    return reached if looks is None else replace(reached, sentences=(*reached.sentences, looks.sentence))


def apply_rule(run: RunFrame, level: float) -> Verdict:
    """``RULE`` with intervals of this coverage."""
    rows = run.select("conflict", DELIVERED, "known")
    points = points_of(rows)
    failing = read_by_rule(proportion("failing as delivered", 1 - truth(rows["success_top1"]), points, level), points)
    rate = failing if failing.n else None
    if failing.n < FEWEST:
        count = "no conflict" if failing.n == 0 else f"only {plural(failing.n, 'conflict')}"
        were = "was" if failing.n < 2 else "were"
        return undecided(f"{count} whose old answer the base model knows {were} measured", rate)
    if failing.points < FEWEST_POINTS:
        return undecided(f"the known conflicts cover only {plural(failing.points, 'knowledge point')}", rate)
    if failing.high < NO_FAILURE:
        paid = price(run)
        size = f"{failing.n} known conflicts ({plural(failing.points, 'knowledge point')}{alone(failing)})"
        sentences = (
            f"There is little to repair: as delivered, {percent(failing)} of {size} fail.",
            "What it costs was not measured: the run has no retention items." if paid is None else paid.sentence,
        )
        return Verdict("no-failure", sentences, failing)
    if (run.manifest.get("adapters") or {}).get("static") is False:
        sentence = (
            f"As delivered, {percent(failing)} of {failing.n} known conflicts fail, but the method is not a weight update, so "
            "it has no gain to vary and the magnitude question does not apply."
        )
        return Verdict("inconclusive", (sentence,), failing)
    found = causes(run)
    failed = rows[truth(rows["success_top1"]) == 0.0]
    if found is None:
        why = (
            "the failures were not searched at other gains; audit with --probes search among the others"
            if len(failed)
            else "no known conflict fails, but too few were measured to call it no failure"
        )
        return undecided(why, rate)
    return of_causes(found, run, failing, points, level)


def read_by_rule(estimate: Estimate, points: Shaped[np.ndarray, " n"]) -> Estimate:
    """A share with the interval that the rule reads; `points` are those of all known conflicts.

    The wider of the intervals by point and by relation. An audit of fewer than FEWEST_RELATIONS relations says nothing of
    other relations: there the relations are taken as they are, and the interval by point is read.
    """
    names = higher_names(points)
    if names is None or len(set(names)) >= FEWEST_RELATIONS or estimate.by_point is None:
        return estimate
    low, high = estimate.by_point
    return replace(
        estimate,
        low=low,
        high=high,
        caveats=(
            *estimate.caveats,
            f"of {'these' if len(set(names)) > 1 else 'this'} {plural(len(set(names)), 'relation')} alone",
        ),
    )


def of_causes(
    found: Causes, run: RunFrame, failing: Estimate, points: Shaped[np.ndarray, " n"], level: float = LEVEL
) -> Verdict:
    """The verdict where failures were searched, from their causes; `points` are those of all known conflicts."""

    def share_of(name: str, *causes: str) -> Estimate:
        return replace(read_by_rule(found.share(*causes, level=level), points), name=name)

    share, covered = share_of("held", *HELD), searched(run, found)
    parts = {
        "failing": failing,
        "rescued": read_by_rule(rescued(found, run, level), points),
        "held": share,
        "causes": found,
        "searched": covered,
    }
    parts |= {"affordable": affordable(found, points, level), "in_words": in_words(found, level)}
    if share.n < FEWEST or share.points < FEWEST_POINTS:
        why = (
            f"only {plural(share.n, 'failure')} on {plural(share.points, 'knowledge point')}, {percent(failing)} of all"
        )
        return Verdict("inconclusive", (f"The data do not decide: {why}.",), **parts)
    label = judge(share)
    foreseen = found.items[["second_choice", "leads_relation"]].to_numpy(dtype=bool).any(axis=1)
    if label == "magnitude" and foreseen.mean() > 0.5:
        sentence = (
            f"Of {share.n} failures, {percent(share)} come first at another gain, but most of the documents' answers are the "
            "base's own second choices, or what it finds likeliest among the answers to such questions: an edit that raises "
            "these unread cannot be told from content."
        )
        return Verdict("inconclusive", (sentence,), **parts)
    if covered.undecided and judge(share_of("held", *HELD, "undecided")) != label:
        sentence = (
            f"The data do not decide: for {covered.undecided} of {share.n} failures the search ended at gain {covered.high:g} "
            f"before the answer came first or the adapter broke the model; try uniform-{covered.next_gain:g}."
        )
        return Verdict("inconclusive", (sentence,), **parts)
    first = (
        f"Of the {share.n} known conflicts that fail as delivered ({plural(share.points, 'knowledge point')}{alone(share)}), the "
        f"adapter gives the document's answer in {percent(share)} at another gain: {meaning(label, found)}."
    )
    untold = int((~found.items["told"]).sum())
    unread = f"For {untold} of them nothing was read that tells content from an edit that lowers the old answer."
    retention = bool((run.readings["split"] == "retention").any())
    further = (*cost(parts, retention), f"{str(covered).capitalize()}.", *([unread] if untold else []))
    return Verdict(label, (first, *further), **parts)


def affordable(found: Causes, points: Shaped[np.ndarray, " n"], level: float = LEVEL) -> Estimate:
    """The share of failures that some gain, larger or smaller, repairs at little cost."""
    within = found.items["affordable"].to_numpy(dtype=float)
    return read_by_rule(proportion("affordable", within, points_of(found.items), level), points)


def alone(share: Estimate) -> str:
    """That a share is about the audit's own relations, where it is; else nothing."""
    return next(
        (f"; this speaks {caveat}" for caveat in share.caveats if caveat.startswith(("of these ", "of this "))), ""
    )


def undecided(why: str, failing: Estimate | None) -> Verdict:
    """Too little was measured for a label."""
    return Verdict("inconclusive", (f"The data do not decide: {why}.",), failing)


def judge(share: Estimate) -> str:
    """Label of a share held, from its interval alone."""
    if share.low > MAGNITUDE:
        return "magnitude"
    if share.high < REPRESENTATIONAL:
        return "representational"
    return "mixed" if share.low > EITHER and share.high < 1 - EITHER else "inconclusive"


def meaning(label: str, found: Causes) -> str:
    """What a label means, in the causes that were found."""
    counts = found.items["cause"].value_counts()
    if label == "magnitude":
        weak, strong = int(counts.get("too weak", 0) + counts.get("at a price", 0)), int(counts.get("too strong", 0))
        size = "weak" if not strong else "strong" if not weak else f"weak for {weak} and too strong for {strong}"
        return f"the adapter points the right way but is too {size}"
    unheld = {cause: int(n) for cause, n in counts.items() if cause not in HELD}
    listed = ", ".join(f"{cause} {n}" for cause, n in unheld.items())
    if label == "representational":
        return f"no gain repairs the {'others' if counts.reindex(HELD).sum() else 'failures'} ({listed})"
    if label == "mixed":
        return f"some failures are a matter of magnitude and some are not ({listed})"
    return f"the interval is too wide to say of which kind the failures are ({listed or 'all held'})"


def cost(parts: Mapping[str, Any], retention: bool = True) -> list[str]:
    """What the repair costs and whether it is an answer in words, as sentences; none where nothing is repaired.

    Without retention questions the search reads its costs on the questions of other documents, which is said.
    """
    held, cheap, words = parts["held"], parts["affordable"], parts["in_words"]
    if not held.value:
        return []
    bounds = f"KL up to {KL_BOUND:g} nats per token each, at most {LOSS:.0%} of unrelated answers lost together"
    bounds += "" if retention else "; read on other documents' questions, since no item is a retention question"
    said = [f"{percent(cheap)} of the {held.n} are repaired at gains that cost little ({bounds})."]
    if words is not None:
        right = f"{round(words.value * words.n)} of {words.n} answers are right"
        said.append(f"Asked in words at the gain that repairs them or the next two, {right}.")
    return said


def in_words(found: Causes, level: float = LEVEL) -> Estimate | None:
    """Of the failures that a gain repairs and that were asked in words, the share answered right; None where none was."""
    estimate = proportion("in words", values(found.items["words"]), points_of(found.items), level)
    return estimate if estimate.n else None


def rescued(found: Causes, run: RunFrame, level: float = LEVEL) -> Estimate:
    """The share of failures whose first token flips at a gain above 1 that does not break the model, content or not."""
    rows = run.search[(run.search["condition"] == DELIVERED) & (values(run.search["gain"]) > 1)]
    flips = rows[(truth(rows["success_top1"]) == 1) & (truth(rows["broken"]) != 1)]["item"]
    outcome = found.items["item"].isin(flips).to_numpy(dtype=float)
    return proportion("rescued", outcome, points_of(found.items), level)
