"""Null documents: for every item another document of the set, and the documents whose mean adapter it is compared with."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from override_gap.margins.items.item import BELIEF, NOT_STATED, Document, Item
from override_gap.margins.items.item_set import ItemSet
from override_gap.margins.items.matching import first_mention

#: So many documents are looked at for an item; where every document names one of two answers, none will do.
TRIED = 500
#: A mean is over at most so many documents of each half of the set: their adapters are held at once while it is made.
MEAN_DOCUMENTS = 64


@dataclass(frozen=True)
class NullDocuments:
    """What the conditions null-other and null-mean compare an item's own document with; it depends on the item set alone.

    `partners`: per item id another document, of the same relation (`meta.relation`) where there is one; it shares no knowledge
    point with the item's own and neither states nor names the item's answer or old answer. Documents are in the order of
    their content's hash, and the partner is the first allowed one after the item's own. Items without one are in
    `unpartnered`, with the reason.

    `halves`: at most MEAN_DOCUMENTS documents of each half of the set, such that no knowledge point has documents in both
    halves; `mean_half` is, per document text, the half that does not hold it: its items are compared with that half's mean.
    """

    partners: Mapping[str, Document]
    unpartnered: Mapping[str, str]
    halves: tuple[tuple[Document, ...], tuple[Document, ...]]
    mean_half: Mapping[str, int]
    of_relation: int
    """How many items' partners are of the item's relation."""

    @classmethod
    def of(cls, items: ItemSet) -> NullDocuments:
        """Those of an item set."""
        order = sorted(items.documents, key=lambda document: document.key)
        stated = {document.text: _Stated.of(items.by_document[document.text]) for document in order}
        # documents that questions of belief alone ask about are no partners: other items' partners do not depend on them
        others = [d for d in order if any(item.split not in BELIEF for item in items.by_document[d.text])] or order
        rings = {"": _Ring.of(others)}
        for relation in {name for s in stated.values() for name in s.relations}:
            rings[relation] = _Ring.of([d for d in others if relation in stated[d.text].relations])
        partners: dict[str, Document] = {}
        unpartnered: dict[str, str] = {}
        of_relation = 0
        for document in order:
            own = stated[document.text]
            for item in items.by_document[document.text]:
                forms = own.forms if item.split == "negated" and own.forms else _forms([item])
                partner = _partner(forms, document, [rings[name] for name in sorted(own.relations)], stated)
                of_relation += partner is not None
                partner = partner or _partner(forms, document, [rings[""]], stated)
                if partner is None:
                    tried = min(TRIED, len(order) - 1)
                    unpartnered[item.id] = (
                        f"none of {tried} other documents is about another knowledge point and answer"
                    )
                else:
                    partners[item.id] = partner
        halves, mean_half = _halves(others)
        mean_half |= {document.text: 0 for document in order if document.text not in mean_half}
        return cls(partners, unpartnered, halves, mean_half, of_relation)

    @property
    def key(self) -> str:
        """A hash of the choice: part of what decides a run's numbers."""
        digest = hashlib.sha256()
        for name in sorted(self.partners):
            digest.update(f"{name}\0{self.partners[name].key}\0".encode())
        for half in self.halves:
            digest.update("\0".join(["half", *(document.key for document in half)]).encode())
        return digest.hexdigest()[:16]

    def as_json(self) -> dict[str, int | list[int]]:
        """Counts, for the manifest."""
        return {
            "partners_of_relation": self.of_relation,
            "partners_of_another": len(self.partners) - self.of_relation,
            "without_partner": len(self.unpartnered),
            "mean_documents": [len(half) for half in self.halves],
        }


@dataclass(frozen=True)
class _Stated:
    """What a document states, by the items that ask about it; the questions of NOT_STATED are about something else.

    `forms` are those of its answers and of the old answers to them.
    """

    relations: frozenset[str]
    answers: frozenset[str]
    forms: tuple[str, ...]

    @classmethod
    def of(cls, items: Sequence[Item]) -> _Stated:
        about = [item for item in items if item.split not in NOT_STATED]
        relations = (item.meta.get("relation") for item in about or items)
        return cls(
            frozenset(name for name in relations if isinstance(name, str) and name),
            frozenset(form.strip().casefold() for item in about for form in (item.answer, *item.aliases)),
            _forms(about),
        )


def _forms(items: Sequence[Item]) -> tuple[str, ...]:
    """All accepted forms of the items' answers and old answers, each once."""
    forms = [
        form
        for item in items
        for form in (
            item.answer,
            *item.aliases,
            *((item.prior_answer, *item.prior_aliases) if item.prior_answer else ()),
        )
    ]
    return tuple(dict.fromkeys(forms))


@dataclass(frozen=True)
class _Ring:
    """Documents in the order of their keys, the first behind the last."""

    documents: Sequence[Document]
    keys: Sequence[str]

    @classmethod
    def of(cls, documents: Sequence[Document]) -> _Ring:
        return cls(documents, [document.key for document in documents])

    def after(self, document: Document) -> Iterator[Document]:
        """At most TRIED documents behind this one."""
        first, size = bisect_right(self.keys, document.key), len(self.documents)
        for step in range(min(TRIED, size)):
            yield self.documents[(first + step) % size]


def _partner(
    forms: Sequence[str], own: Document, rings: Sequence[_Ring], stated: Mapping[str, _Stated]
) -> Document | None:
    answers, points = {form.strip().casefold() for form in forms}, set(own.points)
    for ring in rings:
        for other in ring.after(own):
            if other.text == own.text or points & set(other.points) or answers & stated[other.text].answers:
                continue
            if other.text.strip() and first_mention(other.text, forms) is None:
                return other
    return None


def in_groups(items: ItemSet, size: int) -> list[tuple[Document, ...]]:
    """The documents in groups of at most `size` neighbours by relation and content's hash.

    A partner is one of the next documents of the relation, so it mostly falls into the same group.
    """
    relations = {d.text: min(_Stated.of(items.by_document[d.text]).relations, default="") for d in items.documents}
    order = sorted(items.documents, key=lambda document: (relations[document.text], document.key))
    return [tuple(order[first : first + size]) for first in range(0, len(order), size)]


def _halves(order: Sequence[Document]) -> tuple[tuple[tuple[Document, ...], tuple[Document, ...]], dict[str, int]]:
    """The documents in two halves that share no knowledge point, as even as groups of one point after the other make them."""
    group: dict[str, int] = {}
    members: dict[int, list[Document]] = {}
    for number, document in enumerate(order):
        joined = sorted({group[point] for point in document.points if point in group})
        together = [*(d for n in joined for d in members.pop(n)), document]
        members[number] = together
        group.update({point: number for d in together for point in d.points})
    halves: tuple[list[Document], list[Document]] = ([], [])
    mean_half: dict[str, int] = {}
    for documents in members.values():
        own = int(len(halves[1]) < len(halves[0]))
        halves[own].extend(documents)
        mean_half.update({document.text: 1 - own for document in documents})
    first, second = (
        tuple(sorted((d for d in half if d.text.strip()), key=lambda d: d.key)[:MEAN_DOCUMENTS]) for half in halves
    )
    return (first, second), mean_half
