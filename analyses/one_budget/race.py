"""Race: what a comparison's answer is read from, the same for methods under one budget and for conditions as they were named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from override_gap.analyses.readings import DELIVERED, gain_of
from override_gap.margins.condition_names import BASE

ALPHA = 0.05
LONGEST = 48
"""Characters of a name in a sentence."""


@dataclass(frozen=True, eq=False)
class Race:
    """Methods by share, most first, with their paired differences.

    ``shown``: how each is called in a sentence; ``settings``: "at gain 1.5", empty where the name says it. ``prices``: unrelated
    answers kept. ``unchosen``: why a method has no policy within the budget. ``delivered``: share and price as delivered, where
    the shares are those of other policies.
    """

    split: str
    shares: Mapping[str, Mapping[str, Any]]
    pairs: Sequence[Mapping[str, Any]]
    shown: Mapping[str, str]
    settings: Mapping[str, str]
    prices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unchosen: Mapping[str, str] = field(default_factory=dict)
    recommendations: Mapping[str, str] = field(default_factory=dict)
    budget: str = ""
    delivered: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = field(default_factory=dict)
    one: str = ""
    """The method's name where all are settings of one."""

    @property
    def order(self) -> list[str]:
        """Names, the largest share first."""
        return sorted(self.shares, key=lambda name: (-self.shares[name]["value"], name))

    @property
    def n(self) -> int:
        """Questions behind every share."""
        return next((share["n"] for share in self.shares.values()), 0)

    @property
    def points(self) -> int:
        """Knowledge points behind every share."""
        return next((share["points"] for share in self.shares.values()), 0)

    @property
    def p_name(self) -> str:
        """How p is called: adjusted where there are more than two."""
        return "p" if len(self.shares) < 3 else "Holm's p"

    @property
    def told_apart(self) -> list[str]:
        """Those that the leader is shown to be ahead of."""
        return [name for name in self.order[1:] if (p := self.lead(name)["p"]) is not None and p < ALPHA]

    def named(self, name: str) -> str:
        """Name and setting."""
        return f"{self.shown[name]} {self.settings[name]}".strip()

    def with_setting(self, name: str) -> str:
        """Name and setting, the latter in brackets."""
        words = self.settings[name].removeprefix("at ").removeprefix("with ")
        return self.shown[name] + (f" ({words})" if words else "")

    def lead(self, other: str) -> dict[str, Any]:
        """The leader minus another: value, low, high and p that agree, n, points; `unadjusted` before Holm's adjustment."""
        first = self.order[0]
        row = next(row for row in self.pairs if {row["first"], row["second"]} == {first, other})
        sign = 1 if row["first"] == first else -1
        gap = row["difference"]
        raw = {
            "value": sign * gap["value"],
            **_turned(gap["low"], gap["high"], sign),
            "n": gap["n"],
            "points": gap["points"],
        }
        held = _turned(row["low_holm"], row["high_holm"], sign)
        return {**raw, **held, "p": row["p_holm"], "unadjusted": raw}


def _turned(low: float | None, high: float | None, sign: int) -> dict[str, float | None]:
    if low is None or high is None:
        return {"low": None, "high": None}
    return {"low": low, "high": high} if sign > 0 else {"low": -high, "high": -low}


def race(comparison: Mapping[str, Any], under_budget: bool) -> Race:
    """The methods of ``Methods.as_json()`` at their best policies, or under the conditions that were named."""
    return _at_budget(comparison) if under_budget else _as_given(comparison)


def _at_budget(comparison: Mapping[str, Any]) -> Race:
    budget = comparison["budget"]
    rows = budget["methods"]
    chosen = [row for row in rows if row["conflict"] is not None]
    return Race(
        "conflict",
        {row["method"]: row["conflict"] for row in chosen},
        [row for row in budget["pairs"] if row["at"] == "budget"],
        {row["method"]: shortened(row["method"]) for row in rows},
        {row["method"]: setting(row["policy"]) for row in rows},
        {row["method"]: row["retention"] for row in rows if row["retention"] is not None},
        {row["method"]: row["says"] for row in rows if row["conflict"] is None},
        {row["method"]: row["recommendation"] for row in rows},
        budget_words(budget),
        {
            row["method"]: (row["conflict_as_delivered"], row["retention_as_delivered"])
            for row in chosen
            if row.get("conflict_as_delivered") and row.get("retention_as_delivered")
        },
    )


def _as_given(comparison: Mapping[str, Any]) -> Race:
    measure = main_measure(comparison)
    splits = [
        row["split"] for row in comparison["outcomes"] if row["measure"] == measure and row["split"] != "retention"
    ]
    split = next((name for name in ("conflict", "novel", "combination") if name in splits), "conflict")

    def of(rows: str, split: str) -> list[Mapping[str, Any]]:
        where = {"split": split, "tier": None, "population": "all", "measure": measure}
        return [row for row in comparison[rows] if all(row[key] == value for key, value in where.items())]

    shown, settings, one = {}, {}, ""
    for method in comparison["methods"]:
        name, end = method["name"], f", {method['condition']}"
        shown[name] = shortened(name.removesuffix(end))
        settings[name] = setting(method["condition"])
    if len(set(shown.values())) == 1:  # conditions of one run: the setting is what tells them apart
        one = next(iter(shown.values()))
        shown = {name: words.removeprefix("at ").removeprefix("with ") for name, words in settings.items()}
        settings = dict.fromkeys(shown, "")
    elif len(set(shown.values())) < len(shown):
        shown, settings = {name: f"{shown[name]} {settings[name]}" for name in shown}, dict.fromkeys(shown, "")
    outcomes = {row["method"]: row for row in of("outcomes", split)}
    return Race(
        split,
        {name: outcomes[name] for name in outcomes},
        of("pairs", split),
        shown,
        settings,
        {row["method"]: row for row in of("outcomes", "retention")},
        one=one,
    )


def main_measure(comparison: Mapping[str, Any]) -> str:
    """The first token where it was measured."""
    return "top1" if "top1" in comparison["measures"] else comparison["measures"][0]


def setting(policy: str | None) -> str:
    """A condition in words: "at gain 1.5", "as delivered", "with slb"."""
    if policy is None:
        return ""
    if policy == DELIVERED:
        return "as delivered"
    if policy == BASE:
        return "without any adapter"
    gain = gain_of(policy)
    return f"with {policy}" if gain is None else f"at gain {gain:g}"


def budget_words(budget: Mapping[str, Any]) -> str:
    """A budget in words."""
    words = [] if budget["keep"] is None else [f"at least {100 * budget['keep']:g}% of unrelated answers kept"]
    words += (
        []
        if budget["kl"] is None
        else [f"a KL to the base of at most {budget['kl']:g} nats per token on unrelated questions"]
    )
    return " and ".join(words)


def percent(share: Mapping[str, Any]) -> str:
    """``96% [85, 99]``, or without the brackets where there is no interval."""
    text = f"{100 * share['value']:z.0f}%"
    return text if share["low"] is None else f"{text} [{100 * share['low']:z.0f}, {100 * share['high']:z.0f}]"


def points(lead: Mapping[str, Any]) -> str:
    """``4 points [-2, 10]``; with a digit more where a limit that is not 0 would be shown as 0."""
    limits = [lead["value"], *(limit for limit in (lead["low"], lead["high"]) if limit is not None)]
    digits = next((n for n in (0, 1, 2) if all(x == 0 or float(f"{100 * x:.{n}f}") != 0 for x in limits)), 3)
    value, *ends = [f"{100 * limit:z.{digits}f}" for limit in limits]
    return f"{value} points" + (f" [{', '.join(ends)}]" if ends else "")


def shortened(text: object) -> str:
    """A name for a sentence, cut where it is long."""
    words = " ".join(str(text).split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}\u2026"
