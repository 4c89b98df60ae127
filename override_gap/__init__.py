"""override-gap: when a document-to-weights method fails to override what a model believes, is it a matter of magnitude?

    import override_gap as og

    run = og.audit("smollm2", "fitted", "starter", limit=20, policies="as-delivered,uniform,slb", out="runs/mine")
    og.report(run)  # summary.json, figures/, report.html

    item = og.Item.conflict(
        "The seat of government of France moved to Lyon, now its capital.",
        "The capital of France is",
        answer="Lyon",
        prior_answer="Paris",
    )
    og.measure("smollm2", "fitted:steps=3", [item], policies="as-delivered,uniform-1.75")  # a DataFrame

    readings = og.load("runs/mine")
    readings.verdict()
    readings.outcomes()
    readings.tune(keep=0.95)  # the policy to use under a budget

`audit` measures into a run folder, `measure` a few items in memory, `load` opens a run's readings, `report` writes its page,
`tune` chooses a gain under a budget, `applied` runs a live model under adapters at it, `compare` sets runs side by side,
`figures` draws one figure at a time. `open_subject`, `open_source` and `open_items` open by name what these take as open
objects too. Below them: `override_gap.margins` (definitions), `.probes` (everything that runs a model), `.analyses`
(statistics on stored readings), `.reports`. Importing this package loads none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from override_gap.analyses.run import load as load
    from override_gap.analyses.tune.run import tune as tune
    from override_gap.analyses.until_decided import UntilDecided as UntilDecided
    from override_gap.margins.adapter import Adapter as Adapter
    from override_gap.margins.adapter import AdapterSource as AdapterSource
    from override_gap.margins.items.files import read_items as read_items
    from override_gap.margins.items.item import Document as Document
    from override_gap.margins.items.item import Item as Item
    from override_gap.margins.margin import Margins as Margins
    from override_gap.margins.runtime import Prefix as Prefix
    from override_gap.margins.updates import Dense as Dense
    from override_gap.margins.updates import LowRank as LowRank
    from override_gap.margins.updates import Vector as Vector
    from override_gap.probes.applied.applied import applied as applied
    from override_gap.probes.items import open_items as open_items
    from override_gap.probes.plan import Plan as Plan
    from override_gap.probes.run.audit import audit as audit
    from override_gap.probes.run.audit import measure as measure
    from override_gap.probes.sources import open_source as open_source
    from override_gap.probes.subject.load import open_subject as open_subject
    from override_gap.reports import figures as figures
    from override_gap.reports.build import write as report
    from override_gap.reports.comparison import compare as compare

#: Each name that people type, and where it is loaded from when it is first used: a module, with `:name` where names differ.
_HOME = {
    "Adapter": "margins.adapter",
    "AdapterSource": "margins.adapter",
    "Dense": "margins.updates",
    "Document": "margins.items.item",
    "Item": "margins.items.item",
    "LowRank": "margins.updates",
    "Margins": "margins.margin",
    "Plan": "probes.plan",
    "Prefix": "margins.runtime",
    "UntilDecided": "analyses.until_decided",
    "Vector": "margins.updates",
    "applied": "probes.applied.applied",
    "audit": "probes.run.audit",
    "compare": "reports.comparison",
    "figures": "reports",
    "load": "analyses.run",
    "measure": "probes.run.audit",
    "open_items": "probes.items",
    "open_source": "probes.sources",
    "open_subject": "probes.subject.load",
    "read_items": "margins.items.files",
    "report": "reports.build:write",
    "tune": "analyses.tune.run",
}

__all__ = [
    "Adapter",
    "AdapterSource",
    "Dense",
    "Document",
    "Item",
    "LowRank",
    "Margins",
    "Plan",
    "Prefix",
    "Vector",
    "applied",
    "audit",
    "compare",
    "figures",
    "load",
    "measure",
    "open_items",
    "open_source",
    "open_subject",
    "read_items",
    "report",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in ("margins", "probes", "analyses", "reports"):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), attribute or name)
    if name == "load":
        _show_runs_by_their_first_screen()
    globals()[name] = value
    return value


def _show_runs_by_their_first_screen() -> None:
    """A run in a notebook is its page's first screen; what draws it is imported when it is shown."""

    def shown(summary: dict[str, Any]) -> str:
        return importlib.import_module(f"{__name__}.reports.notebook").first_screen_html(summary)

    vars(importlib.import_module(f"{__name__}.analyses.run"))["SHOWN_BY"] = shown


def __dir__() -> list[str]:
    return sorted([*_HOME, "margins", "probes", "analyses", "reports"])
