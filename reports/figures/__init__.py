"""The report's figures, in the order of the argument; each can be drawn from a run folder in one call.

    override_gap.reports.figures.prior_gradient("runs/mine").savefig("gradient.pdf")

Each takes a run (or a run folder), an optional summary and `rc=` settings laid over the house style, returns a
matplotlib Figure, and raises `FigureUnavailable` with the reason where the run does not hold its data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from override_gap.reports.figures.caption import Caption
from override_gap.reports.figures.sheets import calibration as reliability
from override_gap.reports.figures.sheets import constancy as steady
from override_gap.reports.figures.sheets import disagreement as patterns
from override_gap.reports.figures.sheets import dose_response as dose
from override_gap.reports.figures.sheets import layers as depth
from override_gap.reports.figures.sheets import margins as plane
from override_gap.reports.figures.sheets import outcomes as bars
from override_gap.reports.figures.sheets import prior_gradient as gradient
from override_gap.reports.figures.sheets import retention as frontier
from override_gap.reports.figures.sheets import robustness as company
from override_gap.reports.figures.sheets.calibration import calibration
from override_gap.reports.figures.sheets.constancy import constancy
from override_gap.reports.figures.sheets.disagreement import disagreement
from override_gap.reports.figures.sheets.dose_response import dose_response
from override_gap.reports.figures.sheets.layers import layers
from override_gap.reports.figures.sheets.margins import margins
from override_gap.reports.figures.sheets.outcomes import outcomes
from override_gap.reports.figures.sheets.prior_gradient import prior_gradient
from override_gap.reports.figures.sheets.retention import retention
from override_gap.reports.figures.sheets.robustness import robustness
from override_gap.reports.figures.style import FORMS, FigureUnavailable, save


@dataclass(frozen=True)
class FigureSpec:
    """One figure of the report: its name, how it is drawn and what is said beneath it."""

    name: str
    draw: Callable[..., Figure]
    caption: Callable[..., Caption]
    hypotheses: tuple[str, ...] = ()
    """The hypotheses that the figure bears on."""


FIGURES = (
    FigureSpec("outcomes", outcomes, bars.caption),
    FigureSpec("prior_gradient", prior_gradient, gradient.caption, ("H1",)),
    FigureSpec("margins", margins, plane.caption, ("H3",)),
    FigureSpec("constancy", constancy, steady.caption, ("H2",)),
    FigureSpec("calibration", calibration, reliability.caption, ("H3",)),
    FigureSpec("disagreement", disagreement, patterns.caption, ("H3",)),
    FigureSpec("layers", layers, depth.caption, ("H5",)),
    FigureSpec("dose_response", dose_response, dose.caption, ("H4",)),
    FigureSpec("retention", retention, frontier.caption, ("H5",)),
    FigureSpec("robustness", robustness, company.caption),
)

__all__ = [
    "FORMS", "FIGURES", "FigureUnavailable", "Caption", "FigureSpec", "calibration", "constancy", "disagreement", "dose_response",
    "layers", "margins", "outcomes", "prior_gradient", "retention", "robustness", "save",
]  # fmt: skip
