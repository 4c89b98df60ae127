"""Definitions: tensors in, numbers out. Nothing here runs a model."""

from override_gap.margins.adapter import Adapter, AdapterSource, layer_of
from override_gap.margins.items.files import read_items
from override_gap.margins.items.item import Document, Item, ItemError
from override_gap.margins.margin import Margins, answer_margin
from override_gap.margins.updates import Dense, LowRank

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
