"""The page of a run: figures drawn, sections filled in, one HTML file written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from override_gap.analyses.readings import RunFrame
from override_gap.margins.runtime import refusal_message
from override_gap.margins.whole_files import make_folder, write_text
from override_gap.reports import figures
from override_gap.reports.figures.caption import Caption
from override_gap.reports.figures.style import GRID, INK, PAPER, YES, without_garbage_collection
from override_gap.reports.page.assets import TEMPLATES, explorer_script, plot_specs, policy, style, vega
from override_gap.reports.page.explorer import explorer
from override_gap.reports.page.headline import headline_numbers
from override_gap.reports.page.tables import tables
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


@dataclass(frozen=True)
class PageFigure:
    """One figure on the page: its drawing and caption, or the reason that it is left out."""

    name: str
    title: str
    svg: Markup | None
    caption: Caption | None
    hypotheses: tuple[str, ...]
    reason: str | None = None


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
    scripts, sheet = (vega(), explorer_script()), style("page", "explorer")
    return (
        template_environment()
        .get_template("page.html")
        .render(
            manifest=run.manifest,
            summary=summary,
            numbers=headline_numbers(summary),
            figures=page_figures(run, summary, folder),
            tables=tables(summary),
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
    ):
        environment.filters[function.__name__] = function
    return environment


def page_figures(run: RunFrame, summary: Mapping, folder: Path) -> list[PageFigure]:
    """Every figure in the order of the argument, saved in `folder` as SVG, PNG and PDF.

    One that the run cannot fill is listed with its reason, and its files of an earlier run are removed.
    """
    make_folder(folder)
    entries = []
    for spec in figures.FIGURES:
        try:
            drawing, caption = spec.draw(run, summary), spec.caption(summary)
        except figures.FigureUnavailable as fault:
            for form in figures.FORMS:
                (folder / f"{spec.name}.{form}").unlink(missing_ok=True)
            title = spec.name.replace("_", " ").capitalize()
            entries.append(PageFigure(spec.name, title, None, None, spec.hypotheses, str(fault)))
            continue
        entries.append(page_figure(spec.name, drawing, caption, folder, spec.hypotheses))
    return entries


def page_figure(
    name: str, drawing: Figure, caption: Caption, folder: Path, hypotheses: Iterable[str] = ()
) -> PageFigure:
    """A drawn figure, saved in `folder` and inlined."""
    svg, *_ = figures.save(drawing, folder / name)
    inline = inline_svg(svg.read_text(encoding="utf-8"), name, caption.title)
    return PageFigure(name, caption.title, inline, caption, tuple(hypotheses))


def inline_svg(svg: str, name: str, label: str) -> Markup:
    """An SVG file's element for the page: ids prefixed by its name, neutral colours and blue taken from the page."""
    svg = svg[svg.index("<svg") :]
    # Matplotlib's style element would apply to the whole page; page.css gives its rule to the figures alone.
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    for fixed, variable in ((INK, "--ink"), (GRID, "--grid"), (PAPER, "--paper"), (YES, "--blue")):
        svg = svg.replace(fixed, f"var({variable})")
    head = svg[: svg.index(">") + 1]
    box = head[head.index("viewBox=") :].split('"')[1]
    opening = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{}" role="img" '
        'aria-label="{}">'
    ).format(box, label)
    return opening + Markup(svg[len(head) :])


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
