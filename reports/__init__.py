"""What people look at: figures, the page of a run, the page of a comparison. Nothing here computes a statistic.

    from override_gap import reports

    reports.write("runs/mine")                                     # summary.json, figures/, report.html
    reports.compare("runs/ours", "runs/theirs", out="both.html")   # methods side by side on the same items
    reports.figures.prior_gradient("runs/mine").savefig("gradient.pdf")

Each name is imported when it is first used, so importing this package loads neither pandas nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from override_gap.reports import figures
    from override_gap.reports.build import write
    from override_gap.reports.comparison import compare

_MODULES = {"write": "build", "compare": "comparison"}

__all__ = ["compare", "figures", "write"]


def __getattr__(name: str) -> Any:
    if name == "figures":
        return import_module("override_gap.reports.figures")
    if name in _MODULES:
        return getattr(import_module(f"override_gap.reports.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
