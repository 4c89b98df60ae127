"""Winner: which method overrides most within a budget, in words that claim no more than the paired intervals say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from override_gap.analyses.price import interval, percent
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.tune import Budget

ALPHA = 0.05
FEW = 20
"""Where fewer unrelated questions are shared, the answer says how many."""


@dataclass(frozen=True, eq=False)
class Standing:
    """The methods under a budget, most conflicts overridden first.

    `leads` holds, by other method, the leader's paired lead over it (value, low, high, p_holm); `told_apart` those others for
    which Holm's adjusted p is below .05. `unchosen`: why a method has no policy under the budget, by name. `undecided`: the
    methods for which tuning leaves open what to do. `unrelated`: how many unrelated questions all methods share, if known.
    """

    order: Sequence[str]
    shares: Mapping[str, Estimate]
    policies: Mapping[str, str]
    leads: Mapping[str, Mapping[str, Any]]
    unchosen: Mapping[str, str]
    undecided: Sequence[str] = ()
    unrelated: int | None = None

    @classmethod
    def of(
        cls,
        shares: Mapping[str, Estimate],
        pairs: Sequence[Mapping[str, Any]],
        policies: Mapping[str, str],
        unchosen: Mapping[str, str],
        undecided: Sequence[str] = (),
        unrelated: int | None = None,
    ) -> Standing:
        """From every method's share of conflicts overridden, and the paired differences of every two."""
        order = tuple(sorted(shares, key=lambda name: (-shares[name].value, name)))
        leads = {}
        for row in pairs:
            if order and order[0] in (row["first"], row["second"]):
                ahead = row["first"] == order[0]
                gap, sign = row["difference"], 1 if ahead else -1
                low, high = (gap["low"], gap["high"]) if ahead else (gap["high"], gap["low"])
                leads[row["second"] if ahead else row["first"]] = {
                    "value": sign * gap["value"],
                    "low": None if low is None else sign * low,
                    "high": None if high is None else sign * high,
                    "p_holm": row["p_holm"],
                }
        return cls(order, shares, policies, leads, unchosen, tuple(undecided), unrelated)

    @property
    def told_apart(self) -> tuple[str, ...]:
        """The methods that the leader is shown to be ahead of."""
        return tuple(
            name
            for name in self.order[1:]
            if (p := self.leads[name]["p_holm"]) is not None and p < ALPHA and self.leads[name]["value"] > 0
        )

    def as_json(self) -> dict[str, Any]:
        """Row of ``winners``: the leader, whether it is ahead of all others, its lead over the next, and what is undecided."""
        undecided = list(self.undecided)
        if not self.order:
            return {
                "method": None,
                "policy": None,
                "ahead_of_all": False,
                "next": None,
                "lead": None,
                "undecided": undecided,
            }
        second = self.order[1] if len(self.order) > 1 else None
        return {
            "method": self.order[0],
            "policy": self.policies[self.order[0]],
            "ahead_of_all": bool(self.order[1:]) and set(self.told_apart) == set(self.order[1:]),
            "next": second,
            "lead": dict(self.leads[second]) if second is not None else None,
            "undecided": undecided,
        }


def winner_in_words(found: Standing, budget: Budget) -> str:
    """The answer: what each method achieves within the budget, and which is shown to be ahead of which."""
    sentences = []
    if found.order:
        n = found.shares[found.order[0]].n
        open_ = {name: " (undecided)" if name in found.undecided else "" for name in found.order}
        each = [
            f"{name} at {found.policies[name]}{open_[name]} overrides {percent(found.shares[name])}"
            for name in found.order
        ]
        shared = ""
        if found.unrelated is not None and found.unrelated < FEW:
            shared = f" (unrelated questions that all of them share: {found.unrelated})"
        sentences.append(
            f"Within the budget ({budget}), {_and([f'{each[0]} of conflicts', *each[1:]])}, out of fold on the same "
            f"{n} items{shared}: {_ahead(found)}."
        )
    sentences += [f"{name} is not compared: {_lower(why)}" for name, why in found.unchosen.items()]
    return " ".join(sentences)


def _ahead(found: Standing) -> str:
    if len(found.order) < 2:
        return "there is no other to compare it with"
    first, *others = found.order
    apart = found.told_apart
    unsure = [name for name in others if name not in apart]
    if not apart:
        if len(others) == 1:
            return f"they are not told apart (difference {_points(found.leads[others[0]])})"
        return f"{first} is not shown to be ahead of any of them (of {others[0]} by {_points(found.leads[others[0]])})"
    led = _and([f"{name} by {_points(found.leads[name])}" for name in apart])
    text = f"{first} is ahead of {led}"
    if unsure:
        text += f", not shown to be ahead of {_and([f'{name} ({_points(found.leads[name])})' for name in unsure])}"
    return text


def _points(lead: Mapping[str, Any]) -> str:
    low, high = lead["low"], lead["high"]
    between = "" if low is None or high is None else interval(100 * low, 100 * high, ".0f")
    return f"{100 * lead['value']:z.0f} points{between}"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
