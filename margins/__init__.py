"""What is measured: definitions that take tensors and return numbers. Nothing here runs a model.

Names are imported at first use, so that importing this package loads no library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from override_gap.margins.adapter import Adapter
    from override_gap.margins.items.files import read_items
    from override_gap.margins.items.item import Document, Item
    from override_gap.margins.margin import Margins
    from override_gap.margins.runtime import Prefix
    from override_gap.margins.updates import Dense, LowRank, Vector

__all__ = ["Adapter", "Dense", "Document", "Item", "LowRank", "Margins", "Prefix", "Vector", "read_items"]

_MODULES = {
    "Adapter": "adapter",
    "Dense": "updates",
    "Document": "items.item",
    "Item": "items.item",
    "LowRank": "updates",
    "Margins": "margin",
    "Prefix": "runtime",
    "Vector": "updates",
    "read_items": "items.files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
