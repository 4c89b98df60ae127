"""Recommend: from a choice and its figures out of fold to one of four recommendations, said in sentences."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from override_gap.analyses.causes import HELD, causes
from override_gap.analyses.matched_retention import MARGIN
from override_gap.analyses.price import percent
from override_gap.analyses.readings import BASE, DELIVERED, gain_of, values
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.tune.choice import DELIVERED_BEST, NO_GAIN, SCALE, UNDECIDED
from override_gap.analyses.tune.more import more_conflicts, more_unrelated
from override_gap.analyses.tune.situation import Situation
from override_gap.analyses.verdict import verdict
from override_gap.margins.text import plural

WHY_NOT = {
    "at a price": "only a gain that costs much repairs it",
    "third token": "another token stays first",
    "saturates": "the margin stops growing too soon",
    "broken first": "the adapter breaks the model first",
    "no content": "the document's answer rises no more than other answers do",
    "undecided": "the search ended too soon",
}
"""Why a failure is not repaired by an affordable gain, by its cause, in the words of a recommendation."""


@dataclass(frozen=True)
class Advice:
    """A recommendation, the sentence that gives it, further ones, and how many more items would decide."""

    recommendation: str
    says: str
    further: tuple[str, ...] = ()
    more: dict[str, int | None] = field(default_factory=dict)
    leave: bool = False
    """Whether as delivered is recommended although the rule picks another candidate, which gains nothing to speak of."""


def recommend(situation: Situation) -> Advice:
    """The recommendation by the rule that docs/tune.md states."""
    if not any(name not in (BASE, DELIVERED) for name in situation.found.names):
        return _nothing_else(situation)
    final, delivered = situation.final, situation.delivered
    if situation.name(final) == BASE:
        return _only_the_base(situation)
    if final == delivered:
        return _stays(situation)
    if situation.priced.within[delivered]:
        return _up(situation)
    return _because_of_the_price(situation)


def _nothing_else(situation: Situation) -> Advice:
    """Only as delivered was measured; the failures may have been searched at other gains."""
    if (situation.run.manifest.get("adapters") or {}).get("static") is False:
        return Advice(
            NO_GAIN, "No gain helps: the method is not a weight update, so it has no gain to vary.", leave=True
        )
    searched = causes(situation.run)
    reached = verdict(situation.run).label if searched is not None else ""
    if searched is not None and reached == "representational":
        return Advice(NO_GAIN, f"No gain helps: {_few_repaired(situation)}.", leave=True)
    says = "No other gain was measured on all items, so none can be chosen: audit with --policies uniform"
    if searched is not None and (gains := values(searched.items["gain"])).size and np.isfinite(gains).any():
        gain = float(np.nanmedian(gains))
        says += f",uniform-{gain:g} (half of the failures that a gain repairs are repaired by {gain:g})"
    return Advice(UNDECIDED, f"{says}.", leave=True)


def _only_the_base(situation: Situation) -> Advice:
    """No gain is within the budget."""
    if situation.not_shown:
        place = situation.not_shown[0]
        needed = more_unrelated(situation.found, situation.priced, place, situation.budget)
        says = (
            f"Undecided: no gain is shown to be within the budget; {situation.name(place)} {situation.price(place)}"
            f"{needed.sentence}."
        )
        # a file that drops the adapter would say more than is known, where as delivered may be within the budget
        stays = bool(situation.priced.estimated[situation.delivered])
        return Advice(UNDECIDED, says, more={"retention": needed.n}, leave=stays)
    others = [place for place, name in enumerate(situation.found.names) if name != BASE]
    cheapest = max(others, key=lambda place: _cheap(situation, place))
    says = (
        f"No gain helps within this budget: even {situation.name(cheapest)}, the cheapest that was measured, "
        f"{situation.price(cheapest)}."
    )
    return Advice(NO_GAIN, says, ("A smaller gain may cost less, and override less; it can be tried with --policies.",))


def _cheap(situation: Situation, place: int) -> tuple[float, float]:
    """Larger where a candidate costs less."""
    lost, kl = situation.priced.lost, situation.priced.kl
    return (-(lost.value[place] if lost is not None else 0.0), -(kl.value[place] if kl is not None else 0.0))


def _stays(situation: Situation) -> Advice:
    """The rule picks as delivered: because it is best, because more costs too much, or because no gain does more."""
    delivered = situation.delivered
    override = situation.priced.override
    more = [place for place in range(len(override)) if override[place] > override[delivered] + 1e-12]
    gaps = {place: situation.gap(place, delivered) for place in more}
    surely = [place for place in sorted(more, key=lambda place: -override[place]) if gaps[place].low > 0]
    unsure = [place for place in surely if place in situation.not_shown]
    if unsure:
        place = unsure[0]
        needed = more_unrelated(situation.found, situation.priced, place, situation.budget)
        says = (
            f"Undecided: {situation.name(place)} overrides {override[place]:.0%} of conflicts against "
            f"{override[delivered]:.0%} as delivered, but is not shown to be within the budget: it {situation.price(place)}"
            f"{needed.sentence}."
        )
        return Advice(UNDECIDED, says, more={"retention": needed.n})
    if surely:
        place = min(surely, key=lambda place: tuple(-part for part in _cheap(situation, place)))
        says = (
            f"As delivered is best within this budget: {_achieves(situation)}; {situation.name(place)}, the cheapest policy "
            f"that overrides more ({override[place]:.0%}), {situation.price(place)}."
        )
        return Advice(DELIVERED_BEST, says)
    return _no_more(situation, gaps, set(situation.not_shown))


def _no_more(situation: Situation, gaps: dict[int, Estimate], unpriced: set[int]) -> Advice:
    """No candidate surely overrides more than as delivered."""
    override, delivered = situation.priced.override, situation.delivered
    largest = max(gaps.values(), key=lambda gap: gap.high, default=None)
    if largest is not None and largest.high >= MARGIN:
        needed = more_conflicts(largest)
        says = (
            f"Undecided: whether another gain overrides more than as delivered is open ({largest.name}: "
            f"{100 * largest.value:+.0f} points [{100 * largest.low:.0f}, {100 * largest.high:.0f}]){needed.sentence}."
        )
        return Advice(UNDECIDED, says, more={"conflict": needed.n})
    top = max((override[place] for place in gaps), default=override[delivered])
    if 1 - override[delivered] <= MARGIN + 1e-12 or not _failures(situation):
        return Advice(
            DELIVERED_BEST, f"As delivered is best: {_achieves(situation)}, and no gain measured overrides more."
        )
    says = (
        f"No gain helps: as delivered the adapters override {override[delivered]:.0%} of conflicts, and the most that any "
        f"gain measured overrides is {top:.0%}{_reason(situation)}."
    )
    return Advice(NO_GAIN, says)


def _up(situation: Situation) -> Advice:
    """The rule picks another policy although as delivered is within the budget."""
    gap = situation.expected["difference"]
    assert gap is not None
    if gap.low > 0:
        return Advice(SCALE, f"Use {situation.name(situation.final)}: {_achieves(situation)}.", _beyond(situation))
    if gap.high < MARGIN:
        override = situation.priced.override
        if _failures(situation) and 1 - override[situation.delivered] > MARGIN:
            says = (
                f"No gain helps: within the budget no policy overrides more than {100 * gap.high:.0f} points more than as "
                f"delivered{_reason(situation)}."
            )
            return Advice(NO_GAIN, says, leave=True)
        return Advice(DELIVERED_BEST, "As delivered is best: no policy within the budget overrides more.", leave=True)
    needed = more_conflicts(gap)
    says = (
        f"Undecided: {situation.name(situation.final)} seems best, but out of fold it overrides {100 * gap.value:+.0f} points "
        f"[{100 * gap.low:.0f}, {100 * gap.high:.0f}] more than as delivered{needed.sentence}."
    )
    return Advice(UNDECIDED, says, more={"conflict": needed.n})


def _because_of_the_price(situation: Situation) -> Advice:
    """As delivered is not shown to be within the budget, and another policy is."""
    gap = situation.expected["difference"]
    final, delivered = situation.final, situation.delivered
    assert gap is not None
    use = f"Use {situation.name(final)}: {_achieves(situation)}"
    above_base = situation.gap(final, situation.found.names.index(BASE))
    if situation.priced.estimated[delivered] and gap.low <= 0:
        needed = more_unrelated(situation.found, situation.priced, delivered, situation.budget)
        says = (
            f"Undecided: as delivered may be within the budget, but is not shown to be: it {situation.price(delivered)}"
            f"{needed.sentence}; until then {situation.name(final)} is: {_achieves(situation)}."
        )
        return Advice(UNDECIDED, says, more={"retention": needed.n})
    if above_base.low <= 0:
        says = (
            f"No gain helps within this budget: as delivered {situation.price(delivered)}, and what is within it overrides "
            f"no more than the base alone ({situation.name(final)}: {situation.priced.override[final]:.0%})."
        )
        return Advice(NO_GAIN, says)
    return Advice(SCALE, f"{use}. As delivered {situation.price(delivered)}.", _beyond(situation))


def _achieves(situation: Situation) -> str:
    """What the choice does out of fold, in words."""
    won, as_is = situation.expected["conflict"], situation.expected["conflict_as_delivered"]
    assert won is not None
    assert as_is is not None
    same = sum(place == situation.final for place in situation.chosen)
    own = situation.final == situation.delivered or same == len(situation.chosen)
    said = f"on facts held out, what is chosen (this in {same} of {len(situation.chosen)} folds)"
    text = f"{'it' if own else said} overrides {percent(won)} of conflicts"
    if situation.final != situation.delivered:
        text += f" (as delivered {percent(as_is)})"
    kept, kl = situation.expected.get("retention"), situation.expected.get("kl")
    if kept is not None:
        text += f" and keeps {percent(kept)} of unrelated answers"
    if kl is not None:
        text += f", moving the base by {kl.value:.2g} nats per token there"
    return text


def _beyond(situation: Situation) -> tuple[str, ...]:
    """What would override more, if it were shown to be within the budget, or measured at all."""
    override = situation.priced.override
    gain, largest = (
        gain_of(situation.name(situation.final)),
        max(gain_of(name) or 0.0 for name in situation.found.names),
    )
    if gain is not None and gain == largest and override[situation.final] < 1 - MARGIN:
        return (
            f"It is the largest gain that was measured: a larger one may override more (uniform-{2 * gain:g} in --policies).",
        )
    better = [place for place in situation.not_shown if override[place] > override[situation.final] + 1e-12]
    if not better:
        return ()
    place = better[0]
    needed = more_unrelated(situation.found, situation.priced, place, situation.budget)
    return (
        f"{situation.name(place)} would override more ({override[place]:.0%}) and may be within the budget, but is not shown to "
        f"be: it {situation.price(place)}{needed.sentence}.",
    )


def _failures(situation: Situation) -> bool:
    """Whether some conflict that the base knows fails as delivered."""
    rows = situation.run.select("conflict", DELIVERED, "known")
    return bool((rows["success_top1"] == False).any())  # noqa: E712


def _few_repaired(situation: Situation) -> str:
    """How many failures a gain repairs where those are few, and what is the matter with the others."""
    searched = causes(situation.run)
    assert searched is not None
    repaired, n = int(searched.items["cause"].isin(HELD).sum()), len(searched.items)
    return f"a gain repairs {repaired or 'none'} of {plural(n, 'failure')}{_reason(situation)}"


def _reason(situation: Situation) -> str:
    """Why no gain helps, from the causes of the failures that were searched."""
    searched = causes(situation.run)
    if searched is None:
        return " (why was not searched: --probes search)"
    counts, n = searched.items["cause"].value_counts(), len(searched.items)
    found = {why: int(counts[cause]) for cause, why in WHY_NOT.items() if cause in counts}
    whole = f"in all of the {n} failures" if n > 1 else "there"
    parts = [f"{whole if count == n else f'in {count} of the {n} failures'} {why}" for why, count in found.items()]
    return f"; {', '.join(parts)}" if parts else ""
