"""How a run is cut into units: which documents are measured together, and which items are answered in words."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from override_gap.margins.items.item import Document
from override_gap.margins.items.item_set import ItemSet
from override_gap.margins.items.null_documents import in_groups
from override_gap.probes.plan import content_key
from override_gap.probes.run.engine import Unit

DOCUMENTS_PER_UNIT = 32
#: Larger sets are cut so that each adapter is read about once; up to here every unit is a random sample of documents.
MOST_SAMPLED = 1024
#: So many documents of a relation stay together in a larger set: two groups are a unit.
TOGETHER = 16


def split_into_units(items: ItemSet, identity: str, seed: int, *, partners: bool = False) -> list[Unit]:
    """Documents in an order drawn by the seed, at most DOCUMENTS_PER_UNIT at a time: every unit is a random sample of them.

    Units are of like size, so that none is left with too few documents to be joined. With `partners` every item is also read
    under another document's adapter, and a set of more than MOST_SAMPLED documents is then drawn in groups of TOGETHER
    neighbours, among which that other document mostly is: with random units nearly every adapter would be read, or made, twice.
    """
    if partners and len(items.documents) > MOST_SAMPLED:
        groups = in_groups(items, TOGETHER)
        groups.sort(key=lambda group: _drawn(seed, group[0].key))
        documents = [document for group in groups for document in group]
    else:
        documents = sorted(items.documents, key=lambda document: _drawn(seed, document.key))
    size = max(1, math.ceil(len(documents) / max(1, math.ceil(len(documents) / DOCUMENTS_PER_UNIT))))
    return [_unit(documents[first : first + size], items, identity) for first in range(0, len(documents), size)]


def answered_in_words(units: Sequence[Unit], count: int, seed: int) -> frozenset[str]:
    """The ids to answer in words: conflicts and novel items of the first units, which are a random sample.

    In sets of more than MOST_SAMPLED documents, whose units need not be, they are drawn from all units.
    """
    ids = [item.id for unit in units for item in unit.items if item.split in ("conflict", "novel")]
    if sum(len(unit.documents) for unit in units) > MOST_SAMPLED:
        ids.sort(key=lambda name: _drawn(seed, name))
    return frozenset(ids[:count])


def _unit(documents: Sequence[Document], items: ItemSet, identity: str) -> Unit:
    asking = tuple(item for document in documents for item in items.by_document[document.text])
    return Unit(tuple(documents), asking, content_key(identity, [item.as_json() for item in asking]))


def _drawn(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()
