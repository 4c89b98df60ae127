"""Definitions: tensors in, numbers out. Nothing here runs a model."""

from margins.adapter import Adapter, AdapterSource, layer_of
from margins.items.files import read_items
from margins.items.item import Document, Item, ItemError
from margins.margin import Margins, answer_margin
from margins.updates import Dense, LowRank

__all__ = [
    "Adapter",
    "AdapterSource",
    "Dense",
    "Document",
    "Item",
    "ItemError",
    "LowRank",
    "Margins",
    "answer_margin",
    "layer_of",
    "read_items",
]
