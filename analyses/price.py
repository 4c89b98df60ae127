"""What a method costs: the answers to unrelated questions that it changes, and how far it moves the base there, at every gain."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from override_gap.analyses.dose_response import gains
from override_gap.analyses.readings import DELIVERED, RunFrame, points_of, success_rate, values
from override_gap.analyses.results import rows_frame
from override_gap.analyses.stats.estimate import Estimate, HtmlRepr, json_number
from override_gap.analyses.stats.intervals import mean
from override_gap.margins.bounds import AFFORDABLE

KL_BOUND = AFFORDABLE
"""A mean KL(base || adapted) on unrelated questions up to this is affordable, nats per token."""
LOSS = 0.05
"""A share of unrelated answers that change up to this is affordable."""
UNITS = "nats per token"


@dataclass(frozen=True)
class GainPrice:
    """What one uniform gain costs on retention items, `retention` (the base's first choice stays) and mean `kl`, nats; and gives.

    `override`: of the conflicts whose old answer the base knows, the share whose document's answer comes first.
    """

    gain: float
    condition: str
    retention: Estimate
    kl: Estimate | None
    override: Estimate | None = None

    @property
    def affordable(self) -> bool:
        """Whether both costs are within their bounds; without a KL, whether retention is."""
        return self.retention.value >= 1 - LOSS - 1e-12 and (self.kl is None or self.kl.value <= KL_BOUND)

    def __str__(self) -> str:
        text = f"{percent(self.retention)} of unrelated answers kept"
        if self.kl is None:
            return text
        return f"{text}, KL to the base {self.kl.value:.2f}{interval(self.kl.low, self.kl.high, '.2f')} {UNITS} there"

    @property
    def with_success(self) -> str:
        """The price, and what is had for it."""
        if self.override is None:
            return str(self)
        return f"{self}, and the document's answer first on {percent(self.override)} of known conflicts"

    def as_json(self) -> dict[str, Any]:
        """Row of ``price.gains``."""
        return {
            "gain": self.gain,
            "condition": self.condition,
            "retention": self.retention.as_json(),
            "kl": None if self.kl is None else self.kl.as_json(),
            "override": None if self.override is None else self.override.as_json(),
            "affordable": self.affordable,
        }


@dataclass(frozen=True)
class Price(HtmlRepr):
    """The method's price as delivered and at every uniform gain of the run, gains ascending, the base (0) first.

    `sentence` states it; `affordable_gain` is the largest gain up to which every gain that was read is affordable.
    """

    rows: tuple[GainPrice, ...]

    @property
    def delivered(self) -> GainPrice | None:
        """The price at gain 1."""
        return next((row for row in self.rows if row.gain == 1.0), None)

    @property
    def affordable_gain(self) -> GainPrice | None:
        """The largest gain that was read whose price, and that of all smaller ones, is within the bounds; None: only the base."""
        largest = None
        for row in self.rows:
            if row.gain > 0 and not row.affordable:
                break
            largest = row if row.gain > 0 else largest
        return largest

    @property
    def sentence(self) -> str:
        """The price as delivered in words, and, where it is above the bounds, which smaller gain keeps more."""
        at_one = self.delivered
        if at_one is None:
            return ""
        text = f"Price as delivered: {at_one}."
        if at_one.affordable:
            return text
        bounds = f"at least {1 - LOSS:.0%} kept" + ("" if at_one.kl is None else f", KL up to {KL_BOUND:g}")
        text = f"{text} That is not affordable ({bounds})"
        less, smaller = self.affordable_gain, [row for row in self.rows if 0 < row.gain < 1]
        if less is not None:
            return f"{text}; at gain {less.gain:g} it is: {less.with_success}."
        if smaller:
            least = smaller[0]
            try_next = f"uniform-{least.gain / 2:g} in --policies would be the next to try"
            return f"{text}, nor is gain {least.gain:g}, the smallest that was read: {least.with_success}; {try_next}."
        return f"{text}; no smaller gain was read (name uniform-0.5 and uniform-0.25 in --policies)."

    def __str__(self) -> str:
        return "\n".join(["Price on unrelated questions", *(f"  gain {row.gain:g}: {row}" for row in self.rows)])

    def frame(self) -> pd.DataFrame:
        """One row per gain: retention and kl with their intervals, and whether both are within their bounds."""
        return rows_frame([row.as_json() for row in self.rows])

    def as_json(self) -> dict[str, Any]:
        """The section ``price`` of the summary."""
        less = self.affordable_gain
        return {
            "gains": [row.as_json() for row in self.rows],
            "affordable_gain": None if less is None else json_number(less.gain),
            "bounds": {"kl": KL_BOUND, "loss": LOSS},
            "sentence": self.sentence,
        }


def price(run: RunFrame) -> Price | None:
    """Retention and KL of unrelated questions at every uniform gain; None without retention items as delivered."""
    found = []
    for gain, condition in gains(run).items():
        kept = success_rate(run.select("retention", condition), "top1", "retention")
        if kept.n:
            won = success_rate(run.select("conflict", condition, "known"), "top1", "override")
            found.append(GainPrice(gain, condition, kept, mean_kl(run, condition), won if won.n else None))
    result = Price(tuple(found))
    return None if result.delivered is None else result


def mean_kl(run: RunFrame, condition: str = DELIVERED, split: str = "retention") -> Estimate | None:
    """Mean KL(base || condition) over a split's items, nats per token, clustered; None where the run holds none.

    The base itself has exactly 0, without an interval to speak of; no limit is below 0.
    """
    rows = run.select(split, condition)
    kl = values(rows["kl"])
    estimate = mean("KL to the base", kl, points_of(rows), units=UNITS)
    return not_below_zero(estimate) if estimate.n else None


def not_below_zero(estimate: Estimate) -> Estimate:
    """A mean of divergences, which are not below 0, with limits that are not either; one that is not known stays so."""
    return estimate if math.isnan(estimate.low) else replace(estimate, low=max(0.0, estimate.low))


def percent(share: Estimate) -> str:
    """``96% [85, 99]``, or without the brackets where there is no interval."""
    return f"{100 * share.value:z.0f}%{interval(100 * share.low, 100 * share.high, '.0f')}"


def interval(low: float, high: float, form: str) -> str:
    """`` [low, high]``, without a negative zero, or nothing where there is no interval."""
    return f" [{low:z{form}}, {high:z{form}}]" if low == low and high == high else ""
