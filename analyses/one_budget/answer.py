"""The answer of a comparison in one breath: what was compared, what came out, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from override_gap.analyses.one_budget.race import ALPHA, Race, percent, points, race, shortened
from override_gap.analyses.stats.estimate import LEVEL, Estimate
from override_gap.analyses.tune.choice import UNDECIDED
from override_gap.analyses.tune.more import more_conflicts
from override_gap.margins.text import plural

AHEAD, OPEN, EQUAL, ALONE = "ahead", "undecided", "no difference", "alone"
"""The labels: one is shown to be ahead; more questions of a number that can be had would decide; no difference is shown;
there is nothing to compare with."""
MOST = 5
"""So many times as many questions as there are: beyond that no plan is made of their number."""
HALF = 0.5
"""A leader that overrides less than this share is no remedy, which is said."""
SAYS = {
    "conflict": ("overrides", "override", "conflicts"),
    "novel": ("recalls", "recall", "new facts"),
    "combination": ("answers", "answer", "questions that combine two facts"),
}


@dataclass(frozen=True, eq=False)
class Answer:
    """Three sentences and the numbers in them; ``difference`` is the leader minus the next, with the interval of ``p``.

    ``basis``: "budget", each method at its best policy within it, or "as given", the conditions that were named. With more
    than two compared, interval and p are those of Holm's adjustment. ``more``: how many more questions would decide.
    """

    label: str
    basis: str
    compared: str
    found: str
    do: str
    first: str | None = None
    second: str | None = None
    difference: Mapping[str, Any] | None = None
    p: float | None = None
    more: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The section ``answer`` of a comparison."""
        return {**vars(self), "difference": None if self.difference is None else dict(self.difference)}

    def __str__(self) -> str:
        return " ".join((self.compared, self.found, self.do))


def answer(comparison: Mapping[str, Any], under_budget: bool) -> Answer:
    """The answer of ``Methods.as_json()``: of its section ``budget`` where that is asked for, else of the named conditions."""
    found = race(comparison, under_budget)
    about: dict[str, Any] = {"basis": "budget" if under_budget else "as given", "compared": compared(comparison, found)}
    if len(found.order) < 2:
        return Answer(ALONE, **about, found=_alone(found), do=_do_alone(found))
    first, second = found.order[:2]
    lead = found.lead(second)
    gap = {key: lead[key] for key in ("value", "low", "high", "n", "points")}
    label, more = _label(found, lead)
    told = {"first": first, "second": second, "difference": gap, "p": lead["p"], "more": more}
    out = " ".join(filter(None, (came_out(found, lead), as_delivered(found))))
    return Answer(label, **about, found=out, do=advice(found, label, more), **told)


def compared(comparison: Mapping[str, Any], found: Race) -> str:
    """Which methods on which model, and on how many questions and facts."""
    items, subject = comparison["items"], shortened((comparison["subject"] or {}).get("name") or "a model")
    names = list(found.shown.values())
    listed = (f"{found.one}: " if found.one else "") + _and(
        names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]
    )
    noun = SAYS[found.split][2]
    if found.n == items["shared"]:
        return f"{listed} on {subject}: {plural(found.n, 'shared question')} ({noun}) about {plural(found.points, 'fact')}."
    said = ", where the document contradicts the model," if found.split == "conflict" else ""
    return (
        f"{listed} on {subject}: {plural(items['shared'], 'shared question')} about {plural(items['points'], 'fact')}, "
        f"among them {found.n:,} {noun}{said} about {plural(found.points, 'fact')}."
    )


def came_out(found: Race, lead: Mapping[str, Any]) -> str:
    """Every share, and the leader's lead over the next with interval and p."""
    verb, _, noun = SAYS[found.split]
    shown = found.order if len(found.order) <= 4 else found.order[:3]
    each = [f"{found.with_setting(name)} {percent(found.shares[name])}" for name in shown]
    each[0] = f"{found.with_setting(shown[0])} {verb} {percent(found.shares[shown[0]])} of {noun}"
    rest = f", {len(found.order) - len(shown)} more fewer" if len(shown) < len(found.order) else ""
    first, second = found.shown[found.order[0]], found.shown[found.order[1]]
    start = f"With {found.budget}, " if found.budget else f"{found.one}: " if found.one else ""
    text = f"{start}{_and(each) if not rest else ', '.join(each) + rest}"
    p = f"{found.p_name} {p_words(lead['p'])}"
    if lead["p"] is None:
        return f"{text}: a difference of {points(lead)}, which one fact alone cannot test."
    if lead["p"] >= ALPHA:
        return f"{text}: no difference is shown ({first} minus {second} {points(lead)}, {p})."
    apart = found.told_apart
    behind = "" if len(found.order) == 2 else ", and of all others" if len(apart) == len(found.order) - 1 else ""
    return f"{text}: {first} is ahead of {second} by {points(lead)}, {p}{behind}."


def as_delivered(found: Race) -> str:
    """What each overrides as delivered, and at what price; empty where all are compared as delivered, or not all was measured."""
    shown = found.order[:4]
    if not all(name in found.delivered for name in shown) or {found.settings[name] for name in shown} == {
        "as delivered"
    }:
        return ""
    verb = SAYS[found.split][0]
    each = [
        f"{found.shown[name]} {verb} {override['value']:.0%} and keeps {kept['value']:.0%}"
        for name, (override, kept) in ((name, found.delivered[name]) for name in shown)
    ]
    each[0] += " of unrelated answers"
    return f"As delivered: {'; '.join(each)}."


def advice(found: Race, label: str, more: int | None) -> str:
    """What to do: use one, measure more, or do not choose."""
    first, second = found.order[:2]
    verb, noun = SAYS[found.split][1:]
    if label == OPEN:
        needed = (
            f"measure about {more:,} more shared {noun} on further facts to decide, if the difference stays as it is"
        )
        return f"Do not choose by this run yet: {needed}."
    if label == EQUAL:
        both = f"{found.shown[first]} and {found.shown[second]}"
        return f"Do not choose between {both} by this run: no difference is shown{_seen(found)}."
    use = f"Use {found.named(first)}"
    price = found.prices.get(first)
    still = (
        f" It still does not {verb} {1 - found.shares[first]['value']:.0%} of {noun}."
        if found.shares[first]["value"] < HALF
        else ""
    )
    if found.budget:
        if found.recommendations.get(first) == UNDECIDED:
            open_ = "whether it stays within the budget, or another gain is better, is open (see its advice below)"
            return f"{use} for now: {open_}.{still}"
        kept = "" if price is None else f": it keeps {percent(price)} of unrelated answers"
        return f"{use}{kept}.{still}"
    if price is None or (other := found.prices.get(second)) is None:
        return (
            f"{found.named(first)} is the stronger, at a price that is unknown: unrelated answers were not measured, so audit "
            f"both with unrelated questions before you choose.{still}"
        )
    if price["value"] >= other["value"]:
        return f"{use}: it keeps no fewer unrelated answers ({percent(price)} against {percent(other)}).{still}"
    enough = f"keeping {percent(price)} of unrelated answers is enough ({found.shown[second]} keeps {percent(other)})"
    return f"{use} if {enough}.{still}"


def _seen(found: Race) -> str:
    """The difference that the interval still allows."""
    lead = found.lead(found.order[1])
    if lead["low"] is None:
        return ""
    verb = SAYS[found.split][0]
    limits = zip(found.order[:2], (lead["high"], -lead["low"]), strict=True)
    sides = [(found.shown[name], f"up to {100 * most:.0f} points more") for name, most in limits if 100 * most >= 0.5]
    if not sides:
        return ""
    said = f"{sides[0][0]} {verb} {sides[0][1]}" + "".join(f", or {name} {more}" for name, more in sides[1:])
    return f", and it is not ruled out that {said}"


def _label(found: Race, lead: Mapping[str, Any]) -> tuple[str, int | None]:
    if lead["p"] is None:
        return EQUAL, None
    if lead["p"] < ALPHA:
        return AHEAD, None
    raw = lead["unadjusted"]
    gap = Estimate("", raw["value"], raw["low"], raw["high"], raw["n"], raw["points"])
    more = more_conflicts(gap, (1 - LEVEL) / (len(found.order) - 1)).n
    return (OPEN, more) if more is not None and more <= MOST * found.n else (EQUAL, None)


def _alone(found: Race) -> str:
    within = f" with {found.budget}" if found.budget else ""
    if not found.order:
        why = "; ".join(text.removesuffix(".") for text in found.unchosen.values()) or "no question is shared"
        return f"Nothing can be compared{within}: {why}."
    name = found.order[0]
    verb, _, noun = SAYS[found.split]
    reasons = [f"{found.shown[other]}: {text.removesuffix('.')}" for other, text in found.unchosen.items()]
    why = f" ({'; '.join(reasons)})" if reasons else ""
    did = f"{found.with_setting(name)} {verb} {percent(found.shares[name])} of {noun}{within}"
    return f"{did}; there is nothing to compare it with{why}."


def _do_alone(found: Race) -> str:
    return "Do not choose by this run: audit every method on the same questions, unrelated ones among them, and compare again."


def p_words(p: float | None) -> str:
    """'= 0.03' or '< 0.0001'."""
    if p is None:
        return "unknown"
    return "< 0.0001" if p < 1e-4 else f"= {p:.4f}" if p < 0.01 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def _and(words: Sequence[str]) -> str:
    return "" if not words else words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
