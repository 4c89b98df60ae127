"""The page itself: figures drawn, sections gathered, one HTML file written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from override_gap.margins.runtime import refusal_message
from override_gap.reports import figures
from override_gap.reports.figures.style import GRID, INK, PAPER, YES, uncollected
from override_gap.reports.page.answer_tables import spoken
from override_gap.reports.page.assets import TEMPLATES, explorer_script, plot_specs, policy, style, vega
from override_gap.reports.page.explorer import explorer
from override_gap.reports.page.headline import headline_numbers
from override_gap.reports.page.published import published
from override_gap.reports.page.tables import tables
from override_gap.reports.text import embedded, escape_control_characters, estimate, p_value, said, short


@dataclass(frozen=True)
class Shown:
    """One figure on the page: its drawing and words, or the reason that it is left out."""

    name: str
    title: str
    svg: Markup | None
    caption: figures.Caption | None
    hypotheses: tuple[str, ...]
    reason: str | None = None


def write(run_dir: Path, run, summary: Mapping, out: Path | None = None) -> Path:
    """Write figures/ and report.html (or `out`) for a run; the same run and summary give the same bytes."""
    run_dir = Path(run_dir)
    target = Path(out) if out is not None else run_dir / "report.html"
    with uncollected():
        html = render(run, summary, run_dir / "figures")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_text(html, encoding="utf-8", newline="\n")
    partial.replace(target)
    return target


def render(run, summary: Mapping, folder: Path) -> str:
    """The page as text; figures are written to `folder` on the way."""
    scripts, sheet = (vega(), explorer_script()), style("page", "explorer")
    return (
        environment()
        .get_template("page.html")
        .render(
            manifest=run.manifest,
            summary=summary,
            facts=headline_numbers(summary),
            figures=drawn(run, summary, folder),
            tables=[*published(summary), *tables(summary), *spoken(summary)],
            items=embedded(explorer(run, summary)),
            specs=plot_specs(),
            style=sheet,
            scripts=scripts,
            policy=Markup(policy(scripts, sheet)),
        )
    )


def environment() -> Environment:
    """Templates with everything escaped that is not markup already, and a name that is missing an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escape_control_characters(value) if type(value) is str else value,
    )
    for act in (said, estimate, short, p_value, pretty, sentence, refusal_message):
        made.filters[act.__name__] = act
    return made


def drawn(run, summary: Mapping, folder: Path) -> list[Shown]:
    """Every figure in the order of the argument, saved as SVG, PNG and PDF; an absent one keeps its place and its reason."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for sheet in figures.FIGURES:
        try:
            made, words = sheet.draw(run, summary), sheet.caption(summary)
        except figures.FigureUnavailable as why:
            for form in figures.FORMS:
                (folder / f"{sheet.name}.{form}").unlink(missing_ok=True)
            title = sheet.name.replace("_", " ").capitalize()
            shown.append(Shown(sheet.name, title, None, None, sheet.hypotheses, str(why)))
            continue
        svg, *_ = figures.save(made, folder / sheet.name)
        inline = inlined(svg.read_text(encoding="utf-8"), sheet.name, words.title)
        shown.append(Shown(sheet.name, words.title, inline, words, sheet.hypotheses))
    return shown


def inlined(svg: str, name: str, label: str) -> Markup:
    """An SVG file's element for the page: ids made its own, neutral colours and blue taken from the page."""
    svg = svg[svg.index("<svg") :]
    # Matplotlib's style element would hold for the whole page; page.css gives its rule to the figures alone.
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


def sentence(text: str) -> str:
    """The text with a capital at its start, the rest as it stands."""
    return text[:1].upper() + text[1:]


def pretty(data: object) -> str:
    """Settings as indented JSON."""
    return json.dumps(data, indent=1, ensure_ascii=False, sort_keys=True, default=str)
