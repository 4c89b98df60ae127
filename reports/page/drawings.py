"""Figures on a page: each drawn, saved in its folder and inlined as SVG, for a wide window and for a narrow one."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from override_gap.analyses.readings import RunFrame
from override_gap.margins.whole_files import make_folder
from override_gap.reports import figures
from override_gap.reports.figures.caption import Caption
from override_gap.reports.figures.style import GRID, INK, PAPER, YES, as_svg

BOTH = True
"""Whether figures have their narrow form beside the wide one; tests of what is not the page do without."""


@dataclass(frozen=True)
class PageFigure:
    """One figure on the page: its drawing and caption, or the reason that it is left out.

    `svg` holds two drawings of the same, of classes `wide` and `narrow`; page.css shows one, by the window's width.
    """

    name: str
    title: str
    svg: Markup | None
    caption: Caption | None
    hypotheses: tuple[str, ...]
    reason: str | None = None


def page_figures(run: RunFrame, summary: Mapping, folder: Path) -> list[PageFigure]:
    """Every figure in the order of the argument, saved in `folder` as SVG, PNG and PDF.

    One that the run cannot fill is listed with its reason, and its files of an earlier run are removed.
    """
    make_folder(folder)
    entries = []
    for spec in figures.FIGURES:
        if run.on_disk is not None:
            gc.collect()  # figures refer to themselves, and a page is drawn without collection (`without_garbage_collection`)
            run.release()
        try:
            drawings = spec.draw(run, summary), spec.draw(run, summary, narrow=True) if BOTH else None
            caption = spec.caption(summary)
        except figures.FigureUnavailable as fault:
            for form in figures.FORMS:
                (folder / f"{spec.name}.{form}").unlink(missing_ok=True)
            title = spec.name.replace("_", " ").capitalize()
            entries.append(PageFigure(spec.name, title, None, None, spec.hypotheses, str(fault)))
            continue
        entries.append(page_figure(spec.name, drawings[0], caption, folder, spec.hypotheses, drawings[1]))
    return entries


def page_figure(
    name: str,
    drawing: Figure,
    caption: Caption,
    folder: Path,
    hypotheses: Iterable[str] = (),
    narrow: Figure | None = None,
) -> PageFigure:
    """A drawn figure, saved in `folder` and inlined; of one that has a narrow form as well, both are inlined."""
    svg, *_ = figures.save(drawing, folder / name)
    inline = inline_svg(svg.read_text(encoding="utf-8"), name, caption.title, "wide" if narrow else "")
    if narrow is not None:
        inline += inline_svg(as_svg(narrow), f"{name}-narrow", caption.title, "narrow")
    return PageFigure(name, caption.title, inline, caption, tuple(hypotheses))


def inline_svg(svg: str, name: str, label: str, form: str = "") -> Markup:
    """An SVG file's element for the page: ids prefixed by its name, neutral colours and blue taken from the page.

    `form` is its class, by which page.css shows it or not. Its shape is stated in its style, so that a browser which has not
    drawn it yet (page.css, content-visibility) leaves the right room.
    """
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
        '<svg class="{}" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{}" '
        'style="aspect-ratio: {} / {}" role="img" aria-label="{}">'
    ).format(form, box, *box.split()[2:], label)
    return opening + Markup(svg[len(head) :])
