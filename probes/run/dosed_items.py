"""Items whose prior is changed: in which other wording an update is taught, where it acts, and whose update is its placebo."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.items.joining import joined, stated_separator
from override_gap.probes.readings.prior import locate
from override_gap.probes.readings.prior_dose import other_layers
from override_gap.probes.run.comparisons import relation_of
from override_gap.probes.subject.model import Subject

#: How an update is taught: by another question about the fact, by its question behind another fact, or by its question.
ANOTHER, BEHIND, ITSELF = "another question", "behind another fact", "the question itself"
NO_MAP = "the adapter changes no linear map that sees every token, so an update of the belief has no place at its sites"
#: Other wordings that are read beside the one that is taught, at most.
OTHERS = 2


@dataclass(frozen=True)
class DosedItem:
    """One item with its adapter, and what an update of its belief is made of.

    `taught` is where the update is fitted, in the `wording` named; `others` are further wordings at which it is only read.
    `paths` are the linear maps that the adapter acts on, `other_paths` the same maps in the layers that it leaves alone.
    """

    item: Item
    place: Divergence
    adapter: Adapter
    paths: tuple[str, ...]
    other_paths: tuple[str, ...]
    wording: str
    taught: Divergence
    others: tuple[Divergence, ...]

    def seed(self, seed: int, part: str) -> int:
        """The seed of one of its updates: by content, so that no item's depends on the items beside it."""
        digest = hashlib.sha256(f"{seed}:{self.item.question}:{self.item.answer}:{part}".encode()).digest()
        return int.from_bytes(digest[:7], "big")

    @classmethod
    def of(
        cls, subject: Subject, item: Item, place: Divergence, adapter: Adapter, unit: Sequence[Item]
    ) -> DosedItem | str:
        """One item of a unit, or why no update can be made of it."""
        # an update of a norm's weight alone leaves no map to fit factors to
        paths = [path for path in adapter.paths if path in subject.sites]
        # a routed expert sees some tokens of a batch, and of which question they are cannot be told
        layouts = subject.rows.of(paths)
        paths = tuple(path for path in paths if layouts[path] == "rows")
        if not paths:
            return NO_MAP
        elsewhere = tuple(other_layers(subject, paths, adapter.paths))
        wordings = [(ANOTHER, other) for other in _asked_otherwise(item, unit)]
        wordings += [(BEHIND, other) for other in _behind_others(item, unit)]
        read: list[tuple[str, Divergence]] = []
        for kind, other in wordings:
            try:
                at = locate(subject, other)
            except ItemError:
                continue  # another wording serves
            # it must ask for the same two tokens, or its margin would be another one
            if (at.pre, at.doc) == (place.pre, place.doc):
                read.append((kind, at))
        kind, taught = read[0] if read else (ITSELF, place)
        others = tuple(at for _, at in read[1 : 1 + OTHERS])
        return cls(item, place, adapter, paths, elsewhere, kind, taught, others)


def placebo_of(item: Item, candidates: Sequence[Item]) -> Item | None:
    """The item whose update is an item's placebo: about another fact, with no answer in common; None where there is none.

    Of another relation if there is one; the next in an order drawn by content, so that the order of the items does not matter.
    """
    own, answers, relation = _order(item), _answers(item), relation_of(item)
    allowed = [other for other in candidates if other.point != item.point and not answers & _answers(other)]
    apart = [other for other in allowed if relation is None or relation_of(other) != relation]
    return min(apart or allowed, key=lambda other: (_order(other) < own, _order(other)), default=None)


def _asked_otherwise(item: Item, unit: Sequence[Item]) -> list[Item]:
    """Other questions about the same fact, with the same two answers."""
    same = [
        other
        for other in unit
        if other.point == item.point
        and other.split == "conflict"
        and other.question != item.question
        and (other.answer, other.prior_answer) == (item.answer, item.prior_answer)
    ]
    return sorted({other.question: other for other in same}.values(), key=_order)


def _behind_others(item: Item, unit: Sequence[Item]) -> list[Item]:
    """The question itself behind another question of the unit with its old answer, on a line of its own."""
    facts: dict[str, Item] = {}
    for other in sorted(unit, key=_order):
        if other.split == "conflict" and other.prior_answer and placebo_of(item, [other]) is not None:
            facts.setdefault(other.point, other)
    stated = [
        joined(fact.question, fact.prior_answer or "", separator=stated_separator(fact)) for fact in facts.values()
    ]
    return [replace(item, question=f"{text}\n{item.question}") for text in stated[: 1 + OTHERS]]


def _answers(item: Item) -> set[str]:
    return {form.strip().casefold() for form in (item.answer, *item.aliases, item.prior_answer or "") if form}


def _order(item: Item) -> bytes:
    return hashlib.sha256(f"{item.point}:{item.question}".encode()).digest()
