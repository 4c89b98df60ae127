"""The items of one audit with their documents, grouped and hashed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from override_gap.margins.items.item import Document, Item, documents_of, items_hash


@dataclass(frozen=True)
class ItemSet:
    """Items, their documents, the items that ask about each document's text, and the SHA-256 of the items' content."""

    items: tuple[Item, ...]
    documents: tuple[Document, ...]
    by_document: Mapping[str, tuple[Item, ...]]
    sha256: str

    @classmethod
    def of(cls, items: Sequence[Item]) -> ItemSet:
        """Group and hash items."""
        groups: dict[str, list[Item]] = {}
        for item in items:
            groups.setdefault(item.document, []).append(item)
        grouped = {text: tuple(group) for text, group in groups.items()}
        return cls(tuple(items), tuple(documents_of(items)), grouped, items_hash(items))

    def first(self, count: int) -> list[Item]:
        """The first items and all others about their documents, so that these are complete."""
        texts = {item.document for item in self.items[:count]}
        return [item for item in self.items if item.document in texts]

    def in_chat(self) -> ItemSet:
        """The same items, each put through the chat template; the hash stays that of the items as they were given."""
        grouped = {text: tuple(replace(item, chat=True) for item in group) for text, group in self.by_document.items()}
        items = tuple(replace(item, chat=True) for item in self.items)
        return replace(self, items=items, documents=tuple(documents_of(items)), by_document=grouped)
