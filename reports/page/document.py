"""The page of a run: sections filled in, one HTML file written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from override_gap.analyses.readings import RunFrame
from override_gap.margins.runtime import refusal_message
from override_gap.margins.whole_files import make_folder, write_text
from override_gap.reports.figures.style import without_garbage_collection
from override_gap.reports.glossary import TERMS, explained
from override_gap.reports.page.assets import TEMPLATES, explorer_script, plot_specs, policy, style, vega
from override_gap.reports.page.drawings import page_figures
from override_gap.reports.page.explorer import explorer
from override_gap.reports.page.findings import finding
from override_gap.reports.page.first_screen import first_screen
from override_gap.reports.page.headline import first_numbers, headline_numbers
from override_gap.reports.page.sections import argument, columns, sections
from override_gap.reports.page.sentences import shortened
from override_gap.reports.page.tuning_tables import LABELS, commands, tuning_tables
from override_gap.reports.text import (
    both_intervals,
    capitalised,
    chat_message,
    chat_warnings,
    escape_control_characters,
    estimate,
    p_value,
    prior_message,
    rounded,
    sample_size,
    scale_is_verified,
    scale_message,
    script_json,
    untrusted,
)

QUANTITIES = {
    "auc": ("Area under the curve", "number"),
    "slope ratio": ("Adapter slope / prior slope", "number"),
    "pass-through of a raised prior": (
        "Nats of each that was added to the prior margin that reach the adapted one",
        "number",
    ),
    "balanced accuracy": (None, "share"),
    "rescued": ("Failures fixed by scaling the adapter up", "share"),
    "fixed by scaling up": ("Failures fixed by scaling the adapter up", "share"),
    "P(first token | criterion)": ("First tokens said, of those that the criterion promises", "share"),
    "override at matched KL": ("Conflicts overridden, minus uniform scaling that moves the base as far", "points"),
    "override at matched retention": (
        "Conflicts overridden, minus uniform scaling that keeps as many unrelated answers",
        "points",
    ),
}
"""Label and kind of a hypothesis's quantity, by the beginning of its name in summary.json; without a label, its name."""


def write_page(run_dir: Path, run: RunFrame, summary: Mapping, out: Path | None = None) -> Path:
    """Write figures/ and report.html (or `out`) for a run; the same run and summary give the same bytes."""
    run_dir = Path(run_dir)
    target = Path(out) if out is not None else run_dir / "report.html"
    with without_garbage_collection():
        html = render(run, summary, run_dir / "figures")
    make_folder(target.parent)
    return write_text(target, html)


def render(run: RunFrame, summary: Mapping, folder: Path) -> str:
    """The page as text; figures are written to `folder` on the way."""
    scripts, sheet = (vega(), explorer_script()), style("colours", "page", "first-screen", "explorer", "copy")
    drawn = page_figures(run, summary, folder)
    return (
        template_environment()
        .get_template("page.html")
        .render(
            manifest=run.manifest,
            summary=summary,
            parts=first_screen(summary),
            numbers=first_numbers(summary),
            further_numbers=headline_numbers(summary),
            figures=drawn,
            numbers_of={figure.name: place for place, figure in enumerate(drawn, 1)},
            argument=columns(argument(drawn)),
            sections=sections(summary, drawn),
            terms=TERMS,
            tuning_tables=tuning_tables(summary),
            tuning_labels=LABELS,
            commands=list(commands(summary, run.manifest)),
            items=script_json(explorer(run, summary)),
            specs=plot_specs(),
            style=sheet,
            scripts=scripts,
            policy=Markup(policy(scripts, sheet)),
        )
    )


def template_environment() -> Environment:
    """Templates in which everything that is not markup is escaped, and a missing name is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escape_control_characters(value) if type(value) is str else value,
    )
    for function in (
        untrusted,
        estimate,
        rounded,
        sample_size,
        p_value,
        indented_json,
        capitalised,
        refusal_message,
        prior_message,
        chat_message,
        chat_warnings,
        scale_message,
        scale_is_verified,
        quantity_label,
        quantity_kind,
        both_intervals,
        finding,
        explained,
        shortened,
    ):
        environment.filters[function.__name__] = function
    return environment


def quantity_label(name: str | None) -> str:
    """A hypothesis's quantity as a reader sees it."""
    label = next((label for start, (label, _) in QUANTITIES.items() if (name or "").startswith(start)), None)
    return label or capitalised(name or "estimate")


def quantity_kind(name: str | None) -> str:
    """How a hypothesis's quantity is shown: "share", "points" or "number", as `estimate` takes it."""
    return next((kind for start, (_, kind) in QUANTITIES.items() if (name or "").startswith(start)), "number")


def indented_json(data: object) -> str:
    """Settings as indented JSON."""
    return json.dumps(data, indent=1, ensure_ascii=False, sort_keys=True, default=str)
