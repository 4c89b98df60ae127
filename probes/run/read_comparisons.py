"""What every unit of a run compares with, as one subject reads it: unrelated rows of tokens, and other answers' first tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.readings.neutral import NeutralTexts
from override_gap.probes.readings.prior import locate
from override_gap.probes.readings.unrelated import UnrelatedRows, row_of
from override_gap.probes.run.comparisons import Comparisons
from override_gap.probes.sources.second_moment import own_text
from override_gap.probes.subject.model import Subject

#: Texts of the base's own on which adapters are read, and their length.
TEXTS, TEXT_TOKENS = 2, 16
#: Texts of the base's own for the probe `neutral`, of which each document is read on those that share least with it.
NEUTRAL_TEXTS, NEUTRAL_TOKENS = 8, 32


@dataclass(frozen=True, eq=False)
class ReadComparisons:
    """A run's comparisons on a subject; each is read when it is first asked for, and kept for all units of the process.

    `plain`: every pass runs all layers, none resumes from the base's.
    """

    subject: Subject
    comparisons: Comparisons
    seed: int
    plain: bool = False

    @cached_property
    def questions(self) -> list[tuple[Item, Divergence]]:
        """The unrelated questions that can be read, with where."""
        return _located(self.subject, self.comparisons.unrelated)

    @cached_property
    def rows(self) -> UnrelatedRows:
        """The unrelated questions that can be read, then text of the base's own."""
        divergences = [place for _, place in self.questions]
        ids = own_text(self.subject, TEXTS, TEXT_TOKENS, self.seed).tolist()
        return UnrelatedRows.read(self.subject, [*divergences, *map(row_of, ids)], keep_blocks=not self.plain)

    @cached_property
    def known(self) -> list[bool]:
        """Whether the base knows each question: its first choice is the old answer, or the right one of a retention question."""
        first = self.rows.log_probs[: len(self.questions), -1].argmax(-1).tolist()
        right = [place.doc if place.pre is None else place.pre for _, place in self.questions]
        return [answer == top for answer, top in zip(right, first, strict=True)]

    @cached_property
    def neutral(self) -> NeutralTexts:
        """Text of the base's own, with its readings at every position."""
        return NeutralTexts.read(self.subject, own_text(self.subject, NEUTRAL_TEXTS, NEUTRAL_TOKENS, self.seed))

    @cached_property
    def others(self) -> tuple[list[Item], list[int]]:
        """The items with other answers that can be read, and the token with which each one's answer begins."""
        located = _located(self.subject, self.comparisons.others)
        return [item for item, _ in located], [first_token(place) for _, place in located]


def first_token(place: Divergence) -> int:
    """The token with which the document's answer begins: where both answers share it, the old answer's."""
    shared = place.at + 1 > place.start and place.pre is not None
    return place.tokens[place.start] if shared else place.doc


def _located(subject: Subject, items: Sequence[Item]) -> list[tuple[Item, Divergence]]:
    """The items that can be read, with where."""
    located = []
    for item in items:
        try:
            located.append((item, locate(subject, item)))
        except ItemError:
            continue  # an item that cannot be read is an error row of its own; here others serve
    return located
