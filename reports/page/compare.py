"""The page of a comparison: methods side by side, as tables and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from markupsafe import Markup

from override_gap.margins.scratch import scratch
from override_gap.margins.whole_files import make_folder, write_text
from override_gap.reports import figures
from override_gap.reports.figures.sheets import delivered_and_best, trade_off
from override_gap.reports.figures.sheets import methods as sheets
from override_gap.reports.page.assets import policy, style
from override_gap.reports.page.budget_tables import budget_tables
from override_gap.reports.page.document import template_environment
from override_gap.reports.page.drawings import PageFigure, page_figure
from override_gap.reports.page.table import MEASURES, Table
from override_gap.reports.text import ABSENT, estimate, p_cell, per_cent, rounded, split_label, untrusted

LISTED = 40
"""Items listed by name per method; the JSON holds all of them."""


def write_comparison(comparison: Mapping, out: Path) -> Path:
    """Write the page of ``analyses.compare.methods.side_by_side(...).as_json()``; the same comparison gives the same bytes."""
    sheet = style("colours", "page", "first-screen", "compare")
    html = (
        template_environment()
        .get_template("compare.html")
        .render(
            comparison=comparison,
            names=_names(comparison),
            first=first_figure(comparison),
            figures=comparison_figures(comparison),
            tables=comparison_tables(comparison),
            style=sheet,
            policy=Markup(policy((), sheet)),
        )
    )
    make_folder(Path(out).parent)
    return write_text(Path(out), html)


def _names(comparison: Mapping) -> list[str]:
    return [method["name"] for method in comparison["methods"]]


def first_figure(comparison: Mapping) -> PageFigure:
    """The picture beneath the answer, drawn for a wide and for a narrow window; where it has nothing to show, the reason."""
    about = delivered_and_best.caption(comparison)
    try:
        wide, narrow = (delivered_and_best.delivered_and_best(comparison, narrow=narrow) for narrow in (False, True))
    except figures.FigureUnavailable as fault:
        return PageFigure("answer", about.title, None, None, (), str(fault))
    with scratch() as folder:
        return page_figure("answer", wide, about, Path(folder), narrow=narrow)


def comparison_figures(comparison: Mapping) -> list[PageFigure]:
    """The figures, inlined; one that has nothing to show is listed with its reason."""
    entries = []
    under_budget = (("trade-off", trade_off.trade_off, trade_off.trade_off_caption),) if "budget" in comparison else ()
    for name, draw, caption_of in (
        *under_budget,
        ("methods", sheets.by_method, sheets.by_method_caption),
        ("differences", sheets.differences, sheets.differences_caption),
    ):
        caption = caption_of(comparison)
        try:
            drawing = draw(comparison)
        except figures.FigureUnavailable as fault:
            entries.append(PageFigure(name, caption.title, None, None, (), str(fault)))
            continue
        with scratch() as folder:
            entries.append(page_figure(name, drawing, caption, Path(folder), narrow=draw(comparison, narrow=True)))
    return entries


def comparison_tables(comparison: Mapping) -> list[Table]:
    """Every table that this comparison can fill."""
    in_order = (
        *budget_tables(comparison),
        _verdict_table(comparison),
        *_success_tables(comparison),
        *_difference_tables(comparison),
        _order_table(comparison),
        *_only_tables(comparison),
    )
    return [table for table in in_order if table.rows]


def row_label(row: Mapping) -> str:
    """'conflict, deep, known' for a row's split, tier and population."""
    words = (split_label(row["split"]), row["tier"], "known" if row["population"] == "known" else None)
    return ", ".join(word for word in words if word)


def _success_tables(comparison: Mapping) -> Iterator[Table]:
    names = _names(comparison)
    for measure in comparison["measures"]:
        by_label: dict[str, dict[str, Mapping]] = {}
        for row in comparison["outcomes"]:
            if row["measure"] == measure:
                by_label.setdefault(row_label(row), {})[row["method"]] = row
        yield Table(
            f"Success by {MEASURES[measure]}",
            "Per cent with 95% interval, every method on the same items.",
            ("items", *(untrusted(name) for name in names), "n", "knowledge points"),
            tuple(
                (
                    label,
                    *(estimate(row[name], "share") for name in names),
                    rounded(row[names[0]]["n"]),
                    rounded(row[names[0]]["points"]),
                )
                for label, row in by_label.items()
            ),
            open=measure == comparison["measures"][0] or measure == "top1",
        )


def _verdict_table(comparison: Mapping) -> Table:
    return Table(
        "Verdicts",
        "Each run's own verdict on the method as delivered, over all known conflicts of that run. Failing: of these; repaired: "
        "of the failures, at some gain that does not break the model, with content; at little cost: repaired at an affordable "
        "gain; causes in failures. A label is about what fails: of methods of unlike strength, compare the causes.",
        ("method", "verdict", "failing", "repaired", "at little cost", "causes"),
        tuple(
            (
                untrusted(row["method"]),
                row["label"],
                *(
                    estimate(row[share], "share") if row[share] else ABSENT
                    for share in ("failing", "held", "affordable")
                ),
                causes_in_words(row) or ABSENT,
            )
            for row in comparison["verdicts"]
        ),
        open=True,
    )


def causes_in_words(verdict: Mapping) -> str:
    """The causes of a verdict with how many failures have each, most first: "too weak 26, no content 9"."""
    counts = {row["cause"]: row["count"] for row in verdict["causes"] if row["count"]}
    return ", ".join(f"{cause} {count}" for cause, count in sorted(counts.items(), key=lambda pair: -pair[1]))


def _difference_tables(comparison: Mapping) -> Iterator[Table]:
    for measure in comparison["measures"]:
        yield Table(
            f"Paired differences by {MEASURES[measure]}",
            "First minus second on the same items, in percentage points; gained and lost count the items on which only "
            "one of the two succeeds. Interval and p come from one two-sided test, clustered by knowledge point; Holm's "
            "adjustment runs over all pairs of methods on the same items, and the last interval is the one that excludes 0 "
            "exactly where Holm's p is below .05.",
            ("items", "first", "second", "difference", "gained", "lost", "p", "p, Holm", "interval, Holm"),
            tuple(
                (
                    row_label(row),
                    untrusted(row["first"]),
                    untrusted(row["second"]),
                    estimate(row["difference"], "points"),
                    rounded(row["gained"]),
                    rounded(row["lost"]),
                    p_cell(row["p"]),
                    p_cell(row["p_holm"]),
                    holm_interval(row),
                )
                for row in comparison["pairs"]
                if row["measure"] == measure
            ),
            open=measure == "top1",
        )


def holm_interval(row: Mapping) -> str:
    """The interval that belongs to Holm's p, in percentage points."""
    if row["low_holm"] is None or row["high_holm"] is None:
        return ABSENT
    return f"[{per_cent(row['low_holm'])}, {per_cent(row['high_holm'])}]"


def _order_table(comparison: Mapping) -> Table:
    return Table(
        "How stable is the order of the methods?",
        "Best first. Knowledge points are resampled 1,000 times: how often each method is best (a tie is divided), the "
        "95% range of its rank, and how often the order holds, that is, no two methods that differ change places or tie.",
        ("items", "measure", "method", "rank", "range", "best", "order holds"),
        tuple(
            (
                row_label(row),
                row["measure"],
                untrusted(method["method"]),
                rounded(method["rank"]),
                _rank_range(method),
                _percent(method["first"]),
                "" if n else "tied" if row["holds"] is None else _percent(row["holds"]),
            )
            for row in comparison["order"]
            for n, method in enumerate(row["methods"])
        ),
        open=True,
    )


def _rank_range(method: Mapping) -> str:
    if method["rank_low"] is None:
        return rounded(None)
    return f"{rounded(method['rank_low'])} to {rounded(method['rank_high'])}"


def _percent(value: float | None) -> str:
    return per_cent(value) + ("" if value is None else "%")


def _only_tables(comparison: Mapping) -> Iterator[Table]:
    yield Table(
        "Items that only one method gets right",
        "Items that this method gets right and no other of them does, beside those that all and that none get right.",
        ("items", "measure", "method", "only this method right", "all", "none", "n"),
        tuple(
            (
                row_label(row),
                row["measure"],
                untrusted(row["method"]),
                *(rounded(row[key]) for key in ("count", "all", "none", "n")),
            )
            for row in comparison["only"]
        ),
        open=True,
    )
    measure = "top1" if "top1" in comparison["measures"] else comparison["measures"][0]
    for row in comparison["only"]:
        if row["measure"] != measure or not row["count"]:
            continue
        note = f"The first {LISTED} of {row['count']}; --json gives all." if row["count"] > LISTED else ""
        yield Table(
            f"Only {row['method']} gets these right: {row_label(row)}, {measure}",
            note,
            ("item", "knowledge point", "question", "document's answer", "old answer"),
            tuple(
                tuple(untrusted(_cut(item[key])) for key in ("item", "point", "question", "answer", "prior_answer"))
                for item in row["items"][:LISTED]
            ),
        )


def _cut(text: str | None, limit: int = 300) -> str | None:
    return text if text is None or len(text) <= limit else f"{text[:limit]} \u2026"
