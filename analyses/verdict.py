"""The one-word answer: does the method fail by magnitude, and does amplitude repair it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from override_gap.analyses.dose_response import failures, gains, overshot, rescued
from override_gap.analyses.readings import DELIVERED, RunFrame, Table, truth
from override_gap.analyses.stats.estimate import Estimate, HtmlRepr, missing, number
from override_gap.analyses.stats.intervals import proportion
from override_gap.margins.text import plural

NO_FAILURE = 0.20
FEWEST, FEWEST_POINTS = 10, 5
MAGNITUDE, REPRESENTATIONAL, EITHER = 2 / 3, 1 / 3, 0.10
FEWEST_ANSWERS = 10

RULE = (
    "Conflicts whose old answer the base model knows, judged by the first answer token (top1). "
    "no-failure: the upper 95% limit of the failure rate as delivered is below 20%. "
    "Otherwise the share r of failures that amplitude along the adapter's own direction rescues (a finite critical "
    "gain above 1, or success under any uniform gain above 1), corrected for chance c as (r - c)/(1 - c), decides by its "
    "95% interval, clustered by knowledge point: magnitude if it lies above 2/3; representational if it lies below "
    "1/3; mixed if it lies between 10% and 90%; else inconclusive. Fewer than 10 failures or 5 points are "
    "inconclusive, and so is a method that is no update of the weights, which has no amplitude. "
    "A failure that flips only at a gain below 1 is no rescue: the adapter is too loud for it. "
    "c is the rate at which amplitude makes the average other document's answer the first token."
)


@dataclass(frozen=True)
class Verdict(HtmlRepr):
    """``rescued`` is the raw share; ``corrected`` is what the rule reads; ``failing`` the failure rate as delivered."""

    label: str
    sentence: str
    rescued: Estimate | None
    corrected: Estimate | None
    failing: Estimate | None
    chance: float | None

    def __str__(self) -> str:
        shown = [own for own in (self.rescued, self.corrected, self.failing) if own]
        return "\n".join([f"{self.label}: {self.sentence}", *(f"  {str(own).splitlines()[0]}" for own in shown)])

    def as_json(self) -> dict[str, Any]:
        """The section ``verdict`` of the summary."""
        return {
            "label": self.label,
            "rescued": self.rescued.as_json() if self.rescued else None,
            "corrected": self.corrected.as_json() if self.corrected else None,
            "failing": self.failing.as_json() if self.failing else None,
            "chance": number(self.chance),
            "sentence": self.sentence,
            "rule": RULE,
        }


def percent(estimate: Estimate) -> str:
    """``91% [82%, 96%]``."""
    if np.isnan(estimate.low):
        return f"{estimate.value:.0%} (no interval)"
    return f"{estimate.value:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]"


def chance_rate(run: RunFrame, rows: Table) -> float | None:
    """How often amplitude turns a failure into any one other document's answer: what no knowledge would rescue.

    Distinct wrong answers of the audit that become the arg max at some uniform gain above 1, per failure and per
    candidate answer. A top token counts as an answer that begins with it. None where tokens were not stored or the
    audit has fewer than 10 different answers.
    """
    answers = sorted({str(answer).strip() for answer in run.select("conflict", DELIVERED)["answer"].dropna()})
    if len(answers) < FEWEST_ANSWERS or rows.empty:
        return None
    own = dict(zip(rows["item"], rows["answer"].astype(str).str.strip(), strict=True))
    old = dict(zip(rows["item"], rows["prior_answer"].astype(str).str.strip(), strict=True))
    hits: set[tuple[str, str]] = set()
    tried = False
    for gain, condition in gains(run).items():
        if gain <= 1:
            continue
        under = run.select("conflict", condition)
        under = under[under["item"].isin(own)]
        for item, token in zip(under["item"], under["top_token"], strict=True):
            if token is None or token != token:
                continue
            tried = True
            token = str(token).strip()
            if len(token) < 2 or old[item].startswith(token) or own[item].startswith(token):
                continue
            hits |= {(item, answer) for answer in answers if answer.startswith(token)}
    return len(hits) / len(rows) / (len(answers) - 1) if tried else None


def corrected(share: Estimate, chance: float | None) -> Estimate:
    """(r - c) / (1 - c), never below zero; the chance rate is taken as known."""
    if not chance:
        return share
    value, low, high = (max(0.0, (number - chance) / (1 - chance)) for number in (share.value, share.low, share.high))
    return Estimate("rescued beyond chance", value, low, high, share.n, share.points, share.units, share.level)


def verdict(run: RunFrame) -> Verdict:
    """Apply ``RULE`` to a run."""
    rows = run.select("conflict", DELIVERED, "known")
    said = truth(rows["success_top1"])
    failing = proportion("failing as delivered", 1 - said, rows["point"].to_numpy(dtype=object))

    def stop(why: str, share: Estimate | None = None) -> Verdict:
        shown = failing if failing.n else None
        return Verdict("inconclusive", f"The data do not decide: {why}.", share, None, shown, None)

    if failing.n < FEWEST:
        count = "no conflict" if failing.n == 0 else f"only {plural(failing.n, 'conflict')}"
        were = "was" if failing.n < 2 else "were"
        return stop(f"{count} whose old answer the base model knows {were} measured")
    if failing.points < FEWEST_POINTS:
        return stop(f"the known conflicts cover only {plural(failing.points, 'knowledge point')}")
    if failing.high < NO_FAILURE:
        sentence = f"There is little to repair: as delivered, {percent(failing)} of {failing.n} known conflicts fail."
        return Verdict("no-failure", sentence, None, None, failing, None)
    if (run.manifest.get("adapters") or {}).get("static") is False:
        sentence = (
            f"As delivered, {percent(failing)} of {failing.n} known conflicts fail, but the method is no update of the "
            "weights: no amplitude exists to turn, so whether it fails by magnitude cannot be asked."
        )
        return Verdict("inconclusive", sentence, None, None, failing, None)
    lost = failures(run, "known")
    outcome = rescued(run, lost)
    share = proportion("rescued", outcome, lost["point"].to_numpy(dtype=object))
    if share.n == 0:
        why = "no gain above 1 was tried" if len(lost) else "too few conflicts to call it no failure"
        return stop(why, missing("rescued", why))
    if share.n < FEWEST or share.points < FEWEST_POINTS:
        return stop(f"only {plural(share.n, 'failure')} on {plural(share.points, 'knowledge point')}", share)
    chance = chance_rate(run, lost)
    beyond = corrected(share, chance)
    label, meaning = judge(beyond)
    allowed = f" ({percent(beyond)} beyond chance)" if chance and chance >= 0.005 else ""
    if chance is None:
        allowed = " (chance could not be measured)"
    loud = int(np.nansum(overshot(lost)))
    if loud:
        meaning += f"; {loud} of {len(lost)} flip at a gain below 1, where the adapter is too loud"
    sentence = (
        f"Of {share.n} failures on known conflicts ({plural(share.points, 'knowledge point')}), amplitude along the adapter's "
        f"own direction rescues {percent(share)}{allowed}: {meaning}."
    )
    return Verdict(label, sentence, share, beyond, failing, chance)


def judge(share: Estimate) -> tuple[str, str]:
    """Label and meaning of a corrected share, by its interval alone."""
    if share.low > MAGNITUDE:
        return "magnitude", "the adapter points the right way and is too weak"
    if share.high < REPRESENTATIONAL:
        return "representational", "the adapter does not hold the document's answer at any amplitude tried"
    if share.low > EITHER and share.high < 1 - EITHER:
        return "mixed", "some failures are of magnitude and some are not"
    return "inconclusive", "the interval is too wide to say of which kind the failures are"
