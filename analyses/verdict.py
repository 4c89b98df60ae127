"""The verdict in one word: does the method fail because its adapter is too small, so that scaling it up fixes it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.dose_response import failures, gains, overshot, rescued
from override_gap.analyses.readings import DELIVERED, RunFrame, Table, points_of, truth
from override_gap.analyses.results import estimates_frame
from override_gap.analyses.stats.estimate import Estimate, HtmlRepr, json_number, missing
from override_gap.analyses.stats.intervals import proportion
from override_gap.margins.items.scripts import has_unspaced
from override_gap.margins.text import plural

NO_FAILURE = 0.20
FEWEST, FEWEST_POINTS = 10, 5
MAGNITUDE, REPRESENTATIONAL, EITHER = 2 / 3, 1 / 3, 0.10
FEWEST_ANSWERS = 10

RULE = (
    "Conflicts whose old answer the base model knows, judged by the first answer token (top1). "
    "no-failure: the upper 95% limit of the failure rate as delivered is below 20%. "
    "Otherwise the share r of failures that scaling the adapter up fixes (a finite critical "
    "gain above 1, or success under any uniform gain above 1), corrected for chance c as (r - c)/(1 - c), decides by its "
    "95% interval, clustered by knowledge point: magnitude if it lies above 2/3; representational if it lies below "
    "1/3; mixed if it lies between 10% and 90%; else inconclusive. Fewer than 10 failures or 5 knowledge points are "
    "inconclusive, and so is a method that is not a weight update, which has no gain to vary. "
    "A failure that flips only at a gain below 1 is not fixed by scaling up: there the adapter is too strong. "
    "c is the rate at which scaling up makes the answer of some other document, on average over these, the first token."
)


@dataclass(frozen=True)
class Verdict(HtmlRepr):
    """The label and the sentence that states it, with the shares behind them.

    ``failing`` is the failure rate as delivered, ``rescued`` the raw share of failures that scaling up fixes, ``corrected``
    that share beyond chance, on which the rule decides.
    """

    label: str
    sentence: str
    rescued: Estimate | None
    corrected: Estimate | None
    failing: Estimate | None
    chance: float | None

    def __str__(self) -> str:
        estimates = [estimate for estimate in (self.rescued, self.corrected, self.failing) if estimate]
        lines = dict.fromkeys(
            f"  {estimate.percent().splitlines()[0]}" for estimate in estimates
        )  # the two shares may be equal
        return "\n".join([f"{self.label}: {self.sentence}", *lines])

    def frame(self) -> pd.DataFrame:
        """One row per share: rescued, corrected and failing, where the data allow them."""
        shares = {"rescued": self.rescued, "corrected": self.corrected, "failing": self.failing}
        return estimates_frame(shares).assign(label=self.label)

    def as_json(self) -> dict[str, Any]:
        """The section ``verdict`` of the summary."""
        return {
            "label": self.label,
            "rescued": self.rescued.as_json() if self.rescued else None,
            "corrected": self.corrected.as_json() if self.corrected else None,
            "failing": self.failing.as_json() if self.failing else None,
            "chance": json_number(self.chance),
            "sentence": self.sentence,
            "rule": RULE,
        }


def percent(estimate: Estimate) -> str:
    """``91% [82%, 96%]``."""
    if np.isnan(estimate.low):
        return f"{estimate.value:.0%} (no interval)"
    return f"{estimate.value:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]"


def chance_rate(run: RunFrame, rows: Table) -> float | None:
    """How often scaling up turns a failure into some one other document's answer: the rate of rescue without knowledge.

    The audit's other answers that become the top token at some uniform gain above 1, per failure and per candidate
    answer. A top token counts as every answer that begins with it. None where tokens were not stored or the audit has
    fewer than 10 different answers.
    """
    answers = sorted({str(answer).strip() for answer in run.select("conflict", DELIVERED)["answer"].dropna()})
    if len(answers) < FEWEST_ANSWERS or rows.empty:
        return None
    document_answers = dict(zip(rows["item"], rows["answer"].astype(str).str.strip(), strict=True))
    old_answers = dict(zip(rows["item"], rows["prior_answer"].astype(str).str.strip(), strict=True))
    hits: set[tuple[str, str]] = set()
    tried = False
    for gain, condition in gains(run).items():
        if gain <= 1:
            continue
        under = run.select("conflict", condition)
        under = under[under["item"].isin(document_answers)]
        for item, token in zip(under["item"], under["top_token"], strict=True):
            if token is None or token != token:
                continue
            tried = True
            token = str(token).strip()
            # one letter begins many answers; one character of a script without spaces is half a word
            short = len(token) < 2 and not has_unspaced(token)
            if short or old_answers[item].startswith(token) or document_answers[item].startswith(token):
                continue
            hits |= {(item, answer) for answer in answers if answer.startswith(token)}
    return len(hits) / len(rows) / (len(answers) - 1) if tried else None


def corrected(share: Estimate, chance: float | None) -> Estimate:
    """The share beyond chance: (r - c) / (1 - c), never below zero; the chance rate is taken as known."""
    if not chance:
        return share
    value, low, high = (max(0.0, (limit - chance) / (1 - chance)) for limit in (share.value, share.low, share.high))
    return Estimate("rescued beyond chance", value, low, high, share.n, share.points, share.units, share.level)


def verdict(run: RunFrame) -> Verdict:
    """Apply ``RULE`` to a run."""
    rows = run.select("conflict", DELIVERED, "known")
    failing = proportion("failing as delivered", 1 - truth(rows["success_top1"]), points_of(rows))

    def undecided(why: str, share: Estimate | None = None) -> Verdict:
        rate = failing if failing.n else None
        return Verdict("inconclusive", f"The data do not decide: {why}.", share, None, rate, None)

    if failing.n < FEWEST:
        count = "no conflict" if failing.n == 0 else f"only {plural(failing.n, 'conflict')}"
        were = "was" if failing.n < 2 else "were"
        return undecided(f"{count} whose old answer the base model knows {were} measured")
    if failing.points < FEWEST_POINTS:
        return undecided(f"the known conflicts cover only {plural(failing.points, 'knowledge point')}")
    if failing.high < NO_FAILURE:
        sentence = f"There is little to repair: as delivered, {percent(failing)} of {failing.n} known conflicts fail."
        return Verdict("no-failure", sentence, None, None, failing, None)
    if (run.manifest.get("adapters") or {}).get("static") is False:
        sentence = (
            f"As delivered, {percent(failing)} of {failing.n} known conflicts fail, but the method is not a weight update, so "
            "it has no gain to vary and the magnitude question does not apply."
        )
        return Verdict("inconclusive", sentence, None, None, failing, None)
    failed = failures(run, "known")
    share = proportion("rescued", rescued(run, failed), points_of(failed))
    if share.n == 0:
        why = (
            "no gain above 1 was tried"
            if len(failed)
            else "no known conflict fails, but too few were measured to call it no failure"
        )
        return undecided(why, missing("rescued", why))
    if share.n < FEWEST or share.points < FEWEST_POINTS:
        return undecided(f"only {plural(share.n, 'failure')} on {plural(share.points, 'knowledge point')}", share)
    chance = chance_rate(run, failed)
    beyond = corrected(share, chance)
    label, meaning = judge(beyond)
    beyond_chance = f" ({percent(beyond)} beyond chance)" if chance and chance >= 0.005 else ""
    if chance is None:
        beyond_chance = " (chance could not be measured)"
    too_strong = int(np.nansum(overshot(failed)))
    if too_strong:
        meaning += f"; {too_strong} of {len(failed)} succeed at a gain below 1, so the adapter is too strong for them"
    sentence = (
        f"Of {share.n} failures on known conflicts ({plural(share.points, 'knowledge point')}), scaling the adapter up fixes "
        f"{percent(share)}{beyond_chance}: {meaning}."
    )
    return Verdict(label, sentence, share, beyond, failing, chance)


def judge(share: Estimate) -> tuple[str, str]:
    """Label of a corrected share, from its interval alone, and what that means."""
    if share.low > MAGNITUDE:
        return "magnitude", "the adapter points the right way but is too small"
    if share.high < REPRESENTATIONAL:
        return "representational", "the adapter does not give the document's answer at any gain tried"
    if share.low > EITHER and share.high < 1 - EITHER:
        return "mixed", "some failures are a matter of magnitude and some are not"
    return "inconclusive", "the interval is too wide to say of which kind the failures are"
