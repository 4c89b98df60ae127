"""The search for a gain that repairs a failure: upwards until the item flips with content or the adapter breaks the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from override_gap.margins.bounds import AFFORDABLE
from override_gap.margins.content import has_content
from override_gap.margins.rises import (
    leading_alternatives,
    place_in_relation,
    place_of_answer,
    push_excess,
    rise_level,
    rise_rank,
)
from override_gap.probes.readings.adapted import Adapted
from override_gap.probes.readings.layers import ReadAtGains
from override_gap.probes.readings.prior import Prior
from override_gap.probes.readings.unrelated import Cost
from override_gap.probes.subject.model import Subject

#: Gains of the search, common to all documents, so that what they cost can be averaged: 2^k and 1.5 * 2^k.
ABOVE = (1.5, *(gain for k in range(1, 12) for gain in (2.0**k, 1.5 * 2.0**k)), 4096.0)
BELOW = (0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.09375, 0.0625, 0.046875, 0.03125)
#: Below this cost, nats per token, an adapter hardly acts: the gain is doubled at once.
QUIET = 0.01
#: An adapter that costs less than this at gain 1 is not too strong: smaller gains are not searched.
STRONG = 0.05

#: The costs of some rows' adapters at a gain.
Costs = Callable[[Sequence[int], float], Sequence[Cost]]


@dataclass(frozen=True)
class OtherAnswers:
    """The tokens with which other answers begin, and which of them are compared with each row's: all, and by relation."""

    tokens: Int[Tensor, " other"]
    counts: Bool[Tensor, "batch other"]
    same_relation: Bool[Tensor, "batch other"]


@dataclass(frozen=True)
class Step:
    """One row at one gain: the adapter's cost and, unless the adapter is broken there, what was read.

    Margins in nats; `rank`, `rank_relation` and `rank_base` as `Judge` reads them, None where the other answers are too
    few; `excess` as `push_excess` and `place` as `place_of_answer` give them.
    """

    row: int
    gain: float
    cost: Cost
    push: float | None = None
    pull: float | None = None
    net: float | None = None
    first: bool | None = None
    top: int | None = None
    doc_logprob: float | None = None
    rank: float | None = None
    rank_relation: float | None = None
    level_relation: float | None = None
    others: int | None = None
    rank_base: float | None = None
    excess: float | None = None
    place: int | None = None
    place_relation: int | None = None

    @property
    def held(self) -> bool:
        """Whether the answer comes first and the adapter gave it, where that can be told."""
        return bool(self.first) and self.content is not False

    @property
    def content(self) -> bool | None:
        """`has_content` of this reading; None where it cannot be told."""
        content = float(
            has_content(self.rank, self.rank_base, self.place, self.excess, self.rank_relation, self.level_relation)
        )
        return None if content != content else bool(content)


def search(
    subject: Subject, prior: Prior, read: ReadAtGains, costs: Costs, failing: Sequence[int], others: OtherAnswers
) -> list[Step]:
    """Each failing row at gains above 1 until it is held or broken, then below 1 if its adapter is strong there.

    Below 1, where smaller gains cost less, a row that is held at a gain is read on until one is affordable or it is lost again.
    A row whose cost cannot be read ends there: it is not known which gains break the model. The gains at and below which an
    adapter hardly acts (QUIET) are passed over in doublings. `read` gives a batch's readings at gains; rows that are not read
    stand at gain 0, which costs no pass where passes are reused.
    """
    judge = Judge(subject, prior, others)
    now = dict(zip(failing, costs(failing, 1.0), strict=True))
    now = {row: cost for row, cost in now.items() if cost.measured}
    steps = judge.steps(read, list(now), 1.0, list(now.values()))
    quiet = {row: cost.kl < QUIET for row, cost in now.items()}
    active = [row for row, cost in now.items() if not cost.broken]
    for gain in ABOVE:
        halfway = not math.log2(gain).is_integer()
        reached = [row for row in active if not (halfway and quiet[row])]
        if not active:
            break
        tried = judge.at(read, costs, reached, gain)
        steps += tried
        quiet |= {step.row: step.cost.kl < QUIET for step in tried}
        ended = {step.row for step in tried if step.cost.broken or not step.cost.measured or step.held}
        active = [row for row in active if row not in ended]
    held = {step.row for step in steps if step.held}
    active = [row for row, cost in now.items() if row not in held and not cost.kl < STRONG]
    for gain in BELOW:
        if not active:
            break
        tried = judge.at(read, costs, active, gain)
        steps += tried
        ended = {step.row for step in tried if not step.cost.measured or step.cost.kl < QUIET}
        ended |= {step.row for step in tried if (step.cost.kl <= AFFORDABLE if step.held else step.row in held)}
        held |= {step.row for step in tried if step.held}
        active = [row for row in active if row not in ended]
    return steps


@dataclass(frozen=True)
class Judge:
    """Reads rows of one batch at a gain and says what is seen there."""

    subject: Subject
    prior: Prior
    others: OtherAnswers

    def at(self, read: ReadAtGains, costs: Costs, rows: Sequence[int], gain: float) -> list[Step]:
        """Some rows at a gain; those whose adapter is broken there, or whose cost could not be read, are not read."""
        prices = list(costs(rows, gain)) if rows else []
        unread = [cost.broken or not cost.measured for cost in prices]
        steps = [Step(row, gain, cost) for row, cost, un in zip(rows, prices, unread, strict=True) if un]
        whole = [(row, cost) for row, cost, un in zip(rows, prices, unread, strict=True) if not un]
        return steps + self.steps(read, [row for row, _ in whole], gain, [cost for _, cost in whole])

    def steps(self, read: ReadAtGains, rows: Sequence[int], gain: float, costs: Sequence[Cost]) -> list[Step]:
        """Some rows read at a gain; one whose logits are not finite counts as broken."""
        if not rows:
            return []
        gains = torch.zeros(len(self.prior.pre), self.subject.n_layers)
        gains[list(rows)] = gain
        readings = read(gains)
        numbers = torch.tensor(list(rows), device=readings.hidden.device)
        rank, rank_relation, level_relation = self.ranks(readings, numbers)
        rank_base, excess = self.among_alternatives(readings, numbers)
        margins = readings.margins
        columns = [margins.push, margins.pull, margins.net, readings.doc_logprob]
        values = torch.stack([column[numbers.to(column.device)].double().cpu() for column in columns], dim=1).tolist()
        number = self.others.counts.sum(1).tolist()
        steps = []
        for k, (row, cost) in enumerate(zip(rows, costs, strict=True)):
            push, pull, net, doc_logprob = values[k]
            if not all(map(_finite, values[k])):
                steps.append(Step(row, gain, Cost(float("inf"), cost.kept)))
                continue
            top = int(readings.top[row])
            first = top == int(self.prior.doc[row])
            ranks = (
                rank[k],
                rank_relation[k],
                level_relation[k],
                number[row],
                rank_base[k],
                excess[k],
                self.places[row],
                self.places_in_relation[row],
            )
            steps.append(Step(row, gain, cost, push, pull, net, first, top, doc_logprob, *ranks))
        return steps

    def ranks(self, readings: Adapted, rows: Int[Tensor, " chosen"]) -> tuple[list[float | None], ...]:
        """`rise_rank` of some rows among all other answers, then that and `rise_level` among those of the same relation.

        The token that comes first is left out of all comparisons: another answer that stays ahead is no sign of an empty
        adapter. Of one relation, one other answer is enough to compare with.
        """
        tokens, chosen = self.others.tokens, rows.cpu()
        if not len(tokens):
            none: list[float | None] = [None] * len(chosen)
            return none, none, none
        states = (hidden[rows.to(hidden.device)] for hidden in (readings.hidden, self.prior.hidden))
        after, before = (self.subject.logits_of(state, tokens).cpu() for state in states)
        rises = after - before
        own = readings.margins.push[rows.to(readings.margins.push.device)].cpu().float()
        behind = tokens != readings.top[rows.to(readings.top.device)].cpu()[:, None]
        compared, alike = (counts[chosen] & behind for counts in (self.others.counts, self.others.same_relation))
        measured = (rise_rank(own, rises, compared), rise_rank(own, rises, alike, 1), rise_level(own, rises, alike))
        return tuple([_or_none(value) for value in column.tolist()] for column in measured)

    def among_alternatives(
        self, readings: Adapted, rows: Int[Tensor, " chosen"]
    ) -> tuple[list[float | None], list[float | None]]:
        """`rise_rank` of some rows among the base's leading alternatives, and `push_excess`; None where these are too few."""
        tokens = self.alternatives[rows.cpu()]
        if not tokens.shape[1]:
            return [None] * len(tokens), [None] * len(tokens)
        after, before = (self._own_logits(hidden, rows, tokens) for hidden in (readings.hidden, self.prior.hidden))
        rises = after - before
        margins = readings.margins
        push, pull = (m[rows.to(m.device)].cpu().float() for m in (margins.push, margins.pull))
        rank = rise_rank(push, rises, tokens != readings.top[rows.to(readings.top.device)].cpu()[:, None])
        return [_or_none(r) for r in rank.tolist()], [_or_none(e) for e in push_excess(push, pull, rises).tolist()]

    @cached_property
    def alternatives(self) -> Int[Tensor, "batch alternative"]:
        """The base's leading alternatives at each row's question."""
        return leading_alternatives(self.prior.logits, self.prior.pre, self.prior.doc).cpu()

    @cached_property
    def places(self) -> list[int]:
        """Where the base puts each row's y_doc among what it could answer instead of y_pre."""
        return place_of_answer(self.prior.logits, self.prior.pre, self.prior.doc).tolist()

    @cached_property
    def places_in_relation(self) -> list[int | None]:
        """Where the base puts each row's y_doc among the answers of its relation."""
        alike = self.others.same_relation
        return place_in_relation(self.prior.logits, self.prior.doc, self.others.tokens, alike)

    def _own_logits(
        self,
        hidden: Float[Tensor, "batch d_model"],
        rows: Int[Tensor, " chosen"],
        tokens: Int[Tensor, "chosen alternative"],
    ) -> Float[Tensor, "chosen alternative"]:
        """The logits of each row's own tokens, by the same products as the margins."""
        states = hidden[rows.to(hidden.device)].repeat_interleave(tokens.shape[1], 0)
        return self.subject.token_logits(states, tokens.flatten().to(states.device)).view(tokens.shape).cpu()


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")


def _or_none(value: float) -> float | None:
    return None if value != value else value
