"""The conflicts on which the prior is changed: a sample of those that the base knows, spread over knowledge points by seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from override_gap.margins.adapter import AdapterSource
from override_gap.margins.items.divergence import Divergence
from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.readings.batching import BatchSizer, rows_that_fit
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.subject.chat_template import ChatSettings
from override_gap.probes.subject.model import Subject

#: Conflicts that are asked at a time, until enough of them are known.
ASKED_TOGETHER = 64


@dataclass(frozen=True)
class DoseSample:
    """The ids of the sampled conflicts. The base was asked `conflicts_asked` conflicts in the sample's order, to find them."""

    chosen: frozenset[str] = frozenset()
    points: int = 0
    conflicts_asked: int = 0

    def as_json(self) -> dict[str, int]:
        """Counts, for the manifest."""
        return {"items": len(self.chosen), "points": self.points, "conflicts_asked": self.conflicts_asked}


def draw_sample(
    subject: Subject,
    source: AdapterSource,
    items: Sequence[Item],
    count: int,
    seed: int,
    chat: ChatSettings | None = None,
) -> DoseSample:
    """The first `count` conflicts that the base knows, in an order drawn by the seed that goes round the knowledge points."""
    subject = subject if chat is None else replace(subject, chat=chat)
    order = in_turn_over_points([item for item in items if item.split == "conflict"], seed)
    known: list[Item] = []
    asked = 0
    for first in range(0, len(order), ASKED_TOGETHER):
        some = order[first : first + ASKED_TOGETHER]
        sure = _known(subject, some)
        for item in some:
            asked += 1
            known += [item] if item.id in sure else []
            if len(known) == count:
                break
        if len(known) == count:
            break
    return DoseSample(frozenset(item.id for item in known), len({item.point for item in known}), asked)


def in_turn_over_points(items: Sequence[Item], seed: int) -> list[Item]:
    """Items one per knowledge point, then the second of each, and so on; points and their items in orders drawn by the seed."""

    def drawn(text: str) -> bytes:
        return hashlib.sha256(f"{seed}:dose:{text}".encode()).digest()

    by_point: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda item: drawn(item.id)):
        by_point.setdefault(item.point, []).append(item)
    ranked = [(turn, drawn(point), item) for point, own in by_point.items() for turn, item in enumerate(own)]
    return [item for _, _, item in sorted(ranked, key=lambda ranked_item: ranked_item[:2])]


def _known(subject: Subject, items: Sequence[Item]) -> set[str]:
    """The ids of conflicts to which the base's first answer token is the old answer's."""
    located: list[tuple[Item, Divergence]] = []
    for item in items:
        try:
            located.append((item, locate(subject, item)))
        except ItemError:
            continue  # its rows in the readings say why it cannot be read
    located.sort(key=lambda pair: len(pair[1].fed))
    size = rows_that_fit(subject, max((len(place.fed) for _, place in located), default=1))

    def read(pairs: Sequence[tuple[Item, Divergence]]) -> set[str]:
        prior = read_prior(subject, [item for item, _ in pairs], [place for _, place in pairs])
        return {item.id for (item, _), known in zip(pairs, prior.known.tolist(), strict=True) if known == 1.0}

    batches = [located[first : first + size] for first in range(0, len(located), size)]
    return set().union(*BatchSizer().each(batches, read, lambda _pair, _fault: set[str]()))
