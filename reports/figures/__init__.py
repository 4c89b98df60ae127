"""The report's figures, in the order of the argument; each can be drawn from a run folder in one call.

    reports.figures.prior_gradient("runs/mine").savefig("gradient.pdf")

Each takes a run (or a run folder), an optional summary and `rc=` settings laid over the house style, returns a
matplotlib Figure, and raises `Absent` with the reason where the run does not hold its data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from . import bars, company, depth, dose, frontier, gradient, patterns, plane, reliability, steady
from .bars import outcomes
from .caption import Caption
from .company import robustness
from .depth import layers
from .dose import dose_response
from .frontier import retention
from .gradient import prior_gradient
from .patterns import disagreement
from .plane import margins
from .reliability import calibration
from .steady import constancy
from .style import FORMS, Absent, save


@dataclass(frozen=True)
class Sheet:
    """One figure of the report: its name, how it is drawn and what is said beneath it."""

    name: str
    draw: Callable[..., Figure]
    caption: Callable[..., Caption]
    hypotheses: tuple[str, ...] = ()
    """The hypotheses that the figure bears on."""


SHEETS = (
    Sheet("outcomes", outcomes, bars.caption),
    Sheet("prior_gradient", prior_gradient, gradient.caption, ("H1",)),
    Sheet("margins", margins, plane.caption, ("H3",)),
    Sheet("constancy", constancy, steady.caption, ("H2",)),
    Sheet("calibration", calibration, reliability.caption, ("H3",)),
    Sheet("disagreement", disagreement, patterns.caption, ("H3",)),
    Sheet("layers", layers, depth.caption, ("H5",)),
    Sheet("dose_response", dose_response, dose.caption, ("H4",)),
    Sheet("retention", retention, frontier.caption, ("H5",)),
    Sheet("robustness", robustness, company.caption),
)

__all__ = [
    "FORMS", "SHEETS", "Absent", "Caption", "Sheet", "calibration", "constancy", "disagreement", "dose_response",
    "layers", "margins", "outcomes", "prior_gradient", "retention", "robustness", "save",
]  # fmt: skip
