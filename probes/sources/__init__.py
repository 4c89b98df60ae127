"""Where adapters come from: one file per form, and `open_source`, which opens the source that --adapters names.

Imported at first use, so that importing this package loads no library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from override_gap.probes.sources.open import open_source

__all__ = ["open_source"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.open"), name)
