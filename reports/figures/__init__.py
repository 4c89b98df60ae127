"""The report's figures, in the order of the argument; each is drawn from a run folder in one call.

    override_gap.reports.figures.prior_gradient("runs/mine").savefig("gradient.pdf")

Each takes a run (or a run folder), an optional summary and `rc=` settings that override the house style, returns a
matplotlib Figure, and raises `FigureUnavailable` with the reason where the run does not hold the figure's data.
A figure's module is imported when it is first used, so importing this package loads no matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from override_gap.reports.figures.caption import Caption
    from override_gap.reports.figures.sheets.belief import belief
    from override_gap.reports.figures.sheets.calibration import calibration
    from override_gap.reports.figures.sheets.causes import causes
    from override_gap.reports.figures.sheets.components import components
    from override_gap.reports.figures.sheets.constancy import constancy
    from override_gap.reports.figures.sheets.disagreement import disagreement
    from override_gap.reports.figures.sheets.dose_response import dose_response
    from override_gap.reports.figures.sheets.layers import layers
    from override_gap.reports.figures.sheets.margins import margins
    from override_gap.reports.figures.sheets.one_item import one_item
    from override_gap.reports.figures.sheets.outcomes import outcomes
    from override_gap.reports.figures.sheets.prior_dose import prior_dose
    from override_gap.reports.figures.sheets.prior_gradient import prior_gradient
    from override_gap.reports.figures.sheets.retention import retention
    from override_gap.reports.figures.sheets.robustness import robustness
    from override_gap.reports.figures.style import FORMS, FigureUnavailable, save


@dataclass(frozen=True)
class FigureSpec:
    """One figure of the report: its name, the hypotheses that it bears on, how it is drawn and captioned."""

    name: str
    hypotheses: tuple[str, ...] = ()

    @property
    def draw(self) -> Callable[..., Any]:
        """Takes a run and a summary, returns the Figure."""
        return getattr(self._module, self.name)

    @property
    def caption(self) -> Callable[..., Any]:
        """Takes a summary, returns the Caption."""
        return self._module.caption

    @property
    def _module(self) -> Any:
        return import_module(f"override_gap.reports.figures.sheets.{self.name}")


FIGURES = (
    FigureSpec("outcomes"),
    FigureSpec("prior_gradient", ("H1",)),
    FigureSpec("margins", ("H3",)),
    FigureSpec("constancy", ("H2",)),
    FigureSpec("prior_dose", ("H6",)),
    FigureSpec("calibration", ("H3",)),
    FigureSpec("disagreement", ("H3",)),
    FigureSpec("layers", ("H5",)),
    FigureSpec("components"),
    FigureSpec("dose_response", ("H4",)),
    FigureSpec("causes", ("H4",)),
    FigureSpec("retention", ("H5",)),
    FigureSpec("robustness"),
    FigureSpec("belief"),
    FigureSpec("one_item"),
)

_MODULES = {
    **{spec.name: f"sheets.{spec.name}" for spec in FIGURES},
    **dict.fromkeys(("FORMS", "FigureUnavailable", "save"), "style"),
    "Caption": "caption",
}

__all__ = [
    "FIGURES", "FORMS", "Caption", "FigureSpec", "FigureUnavailable", "belief", "calibration", "causes", "components",
    "constancy",
    "disagreement", "dose_response", "layers", "margins", "one_item", "outcomes", "prior_dose", "prior_gradient", "retention",
    "robustness", "save",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"override_gap.reports.figures.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
