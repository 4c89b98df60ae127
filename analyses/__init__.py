"""Statistics on stored readings; no model runs here.

run = load("runs/mine")                      # a run folder, as `audit` writes it
run.verdict(), run.prior_gradient()          # results that print and show themselves; .frame() gives a table
summarise(run)                               # all of them as summary.json holds them
side_by_side({"ours": run, "theirs": load("runs/other")})
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from override_gap.analyses.compare.methods import side_by_side
    from override_gap.analyses.readings import RunFrame
    from override_gap.analyses.run import Run, load
    from override_gap.analyses.stats.estimate import Estimate
    from override_gap.analyses.summary import summarise

__all__ = ["Estimate", "Run", "RunFrame", "load", "side_by_side", "summarise"]

_FILES = {
    "Estimate": "stats.estimate",
    "RunFrame": "readings",
    "Run": "run",
    "load": "run",
    "side_by_side": "compare.methods",
    "summarise": "summary",
}


def __getattr__(name: str) -> Any:
    """Import a name of the front door from its file when it is first used, so that importing one file loads no other."""
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
