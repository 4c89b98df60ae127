"""The page's folds: figures and tables by what they are about, each fold titled by what it found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from override_gap.reports.page.answer_tables import disagreement_table, drawn_answer_table
from override_gap.reports.page.belief_table import belief_tables
from override_gap.reports.page.cause_tables import cause_tables
from override_gap.reports.page.component_tables import component_tables
from override_gap.reports.page.drawings import PageFigure
from override_gap.reports.page.findings import finding
from override_gap.reports.page.gain_path_tables import gain_path_tables
from override_gap.reports.page.gain_tables import gain_table, matched_gain_tables, search_cost_table
from override_gap.reports.page.geometry_tables import geometry_tables
from override_gap.reports.page.margin_tables import criterion_table, layer_tables, margin_tables
from override_gap.reports.page.null_table import null_table
from override_gap.reports.page.prior_dose_tables import prior_dose_tables
from override_gap.reports.page.published import published
from override_gap.reports.page.robustness_tables import robustness_tables
from override_gap.reports.page.strength_table import strength_table
from override_gap.reports.page.success_tables import paired_condition_table, prior_gradient_tables, success_tables
from override_gap.reports.page.table import Table
from override_gap.reports.page.verdict_table import verdict_table

ARGUMENT = ("prior_gradient", "margins", "dose_response", "causes", "retention", "outcomes", "constancy", "calibration")
"""Figures that carry the argument, the most important first: those of the first `OPEN` that the run can fill stand open."""
OPEN = 4


@dataclass(frozen=True)
class Section:
    """A fold: its title, what it found, and the figures and tables in it."""

    name: str
    title: str
    finding: str
    figures: tuple[PageFigure, ...]
    tables: tuple[Table, ...]


FIGURES_OF = {
    "causes": ("causes",),
    "successes": ("outcomes",),
    "prior": ("prior_gradient", "prior_dose"),
    "margins": ("margins", "constancy", "calibration", "disagreement"),
    "gains": ("dose_response", "retention"),
    "layers": ("layers", "components"),
    "wordings": ("robustness", "belief"),
    "one-item": ("one_item",),
}
TITLES = {
    "causes": "Why conflicts fail",
    "successes": "Successes under every condition",
    "prior": "Prior strength",
    "margins": "Margins and the criterion",
    "gains": "Gains and what they cost",
    "layers": "Layers, components and adapters",
    "wordings": "Wordings, several documents and belief",
    "one-item": "One item from gain to gain",
}


def columns(figures: Sequence[PageFigure]) -> list[list[PageFigure]]:
    """These figures in two columns of like height, in order within each; the first stands first."""
    if len(figures) < 2:
        return [list(figures)]
    heights = {figure.name: _height(figure) for figure in figures}
    first, *others = figures
    choices = [[first, *chosen] for n in range(len(others)) for chosen in combinations(others, n)]

    def taller(left: list[PageFigure]) -> float:
        total = sum(heights[figure.name] for figure in left)
        return max(total, sum(heights.values()) - total)

    left = min(choices, key=taller)
    return [left, [figure for figure in figures if figure not in left]]


def _height(figure: PageFigure) -> float:
    """Height of a figure's narrow drawing in widths, with what its title and caption take."""
    boxes = re.findall(r'viewBox="[\d.]+ [\d.]+ ([\d.]+) ([\d.]+)"', str(figure.svg))
    return float(boxes[-1][1]) / float(boxes[-1][0]) + 0.3 if boxes else 1.0


def argument(figures: Sequence[PageFigure]) -> list[PageFigure]:
    """The figures that stand open, in the page's order."""
    drawn = {figure.name: figure for figure in figures if figure.svg}
    chosen = [name for name in ARGUMENT if name in drawn][:OPEN]
    return [figure for figure in figures if figure.name in chosen]


def sections(summary: Mapping[str, Any], figures: Sequence[PageFigure]) -> list[Section]:
    """The folds that have something in them; a figure that stands open is in none."""
    shown = {figure.name for figure in argument(figures)}
    grouped = tables_of(summary)
    folds = []
    for name, title in TITLES.items():
        own = tuple(figure for figure in figures if figure.name in FIGURES_OF[name])
        inside = tuple(figure for figure in own if figure.svg and figure.name not in shown)
        if not inside and not grouped[name]:
            continue
        findings = [text for figure in (*inside, *own) if (text := finding(figure.name, summary))]
        folds.append(Section(name, title, findings[0] if findings else "", inside, grouped[name]))
    return folds


def tables_of(summary: Mapping[str, Any]) -> dict[str, tuple[Table, ...]]:
    """The tables of each fold that this summary can fill."""
    grouped = {
        "causes": (verdict_table(summary), *cause_tables(summary), null_table(summary)),
        "successes": (*published(summary), *success_tables(summary), paired_condition_table(summary)),
        "prior": (*prior_gradient_tables(summary), *prior_dose_tables(summary)),
        "margins": (
            *margin_tables(summary),
            strength_table(summary),
            criterion_table(summary),
            disagreement_table(summary),
            drawn_answer_table(summary),
        ),
        "gains": (gain_table(summary), search_cost_table(summary), *matched_gain_tables(summary)),
        "layers": (
            *layer_tables(summary),
            *gain_path_tables(summary),
            *component_tables(summary),
            *geometry_tables(summary),
        ),
        "wordings": (*robustness_tables(summary), *belief_tables(summary)),
        "one-item": (),
    }
    return {name: tuple(table for table in own if table.rows) for name, own in grouped.items()}


def tables(summary: Mapping[str, Any]) -> list[Table]:
    """Every table that this summary can fill, in the page's order."""
    return [table for own in tables_of(summary).values() for table in own]
