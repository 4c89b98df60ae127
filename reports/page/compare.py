"""The page of a comparison: methods side by side, as tables and figures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from markupsafe import Markup

from override_gap.reports import figures
from override_gap.reports.figures.sheets import methods as drawings
from override_gap.reports.page.assets import policy, style
from override_gap.reports.page.document import Shown, environment, inlined
from override_gap.reports.page.tables import MEASURES, Table
from override_gap.reports.text import chance, estimate, said, share, short

LISTED = 40
"""Items listed by name per method; the JSON holds all of them."""


def write_comparison(found: Mapping, out: Path) -> Path:
    """Write the page of ``analyses.compare.methods.side_by_side(...).as_json()``; the same comparison gives the same bytes."""
    out, sheet = Path(out), style("page")
    text = (
        environment()
        .get_template("compare.html")
        .render(
            found=found,
            names=[own["name"] for own in found["methods"]],
            figures=drawn(found),
            tables=tables(found),
            style=sheet,
            policy=Markup(policy((), sheet)),
        )
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(out)
    return out


def drawn(found: Mapping) -> list[Shown]:
    """Both figures, inlined; one that has nothing to show keeps its place and its reason."""
    shown = []
    for name, draw, caption in (
        ("methods", drawings.by_method, drawings.by_method_caption),
        ("differences", drawings.differences, drawings.differences_caption),
    ):
        words = caption(found)
        try:
            made = draw(found)
        except figures.FigureUnavailable as why:
            shown.append(Shown(name, words.title, None, None, (), str(why)))
            continue
        with tempfile.TemporaryDirectory() as folder:
            svg, *_ = figures.save(made, Path(folder) / name)
            shown.append(Shown(name, words.title, inlined(svg.read_text("utf-8"), name, words.title), words, ()))
    return shown


def tables(found: Mapping) -> list[Table]:
    """Every table that this comparison can fill."""
    made = [*_outcomes(found), *_pairs(found), *_order(found), *_only(found)]
    return [table for table in made if table.rows]


def place(row: Mapping) -> str:
    """'conflict, deep, known' for a row's split, tier and population."""
    return ", ".join(part for part in (row["split"], row["tier"], _known(row)) if part)


def _known(row: Mapping) -> str:
    return "known" if row["population"] == "known" else ""


def _outcomes(found: Mapping) -> Iterable[Table]:
    names = [own["name"] for own in found["methods"]]
    for measure in found["measures"]:
        rows = [row for row in found["outcomes"] if row["measure"] == measure]
        lines = {place(row): {own["method"]: own for own in rows if place(own) == place(row)} for row in rows}
        yield Table(
            f"Success by {MEASURES[measure]}",
            "Per cent with 95% interval, every method on the same items.",
            ("items", *(said(name) for name in names), "n", "clusters"),
            tuple(
                (
                    label,
                    *(estimate(cells[name], "share") for name in names),
                    short(cells[names[0]]["n"]),
                    short(cells[names[0]]["points"]),
                )
                for label, cells in lines.items()
            ),
            open=measure == found["measures"][0] or measure == "top1",
        )


def _pairs(found: Mapping) -> Iterable[Table]:
    for measure in found["measures"]:
        yield Table(
            f"Paired differences by {MEASURES[measure]}",
            "First minus second on the same items, in percentage points; gained and lost count the items that only one "
            "of the two gets. p is two-sided and clustered by knowledge point; Holm's adjustment runs over all pairs of "
            "methods on the same items.",
            ("items", "first", "second", "difference", "gained", "lost", "p", "p, Holm"),
            tuple(
                (
                    place(row),
                    said(row["first"]),
                    said(row["second"]),
                    estimate(row["difference"], "points"),
                    short(row["gained"]),
                    short(row["lost"]),
                    chance(row["p"]),
                    chance(row["p_holm"]),
                )
                for row in found["pairs"]
                if row["measure"] == measure
            ),
            open=measure == "top1",
        )


def _order(found: Mapping) -> Iterable[Table]:
    yield Table(
        "How firm is the order of the methods?",
        "Best first. Knowledge points are drawn anew 1,000 times: how often each method is best (ties divided), the 95% "
        "range of its rank, and how often no two methods that differ change sides or become equal.",
        ("items", "measure", "method", "rank", "range", "best", "order holds"),
        tuple(
            (
                place(row),
                row["measure"],
                said(own["method"]),
                short(own["rank"]),
                f"{short(own['rank_low'])} to {short(own['rank_high'])}"
                if own["rank_low"] is not None
                else short(None),
                _percent(own["first"]),
                _percent(row["holds"]) if number == 0 else "",
            )
            for row in found["order"]
            for number, own in enumerate(row["methods"])
        ),
        open=True,
    )


def _percent(value: float | None) -> str:
    return share(value) + ("" if value is None else "%")


def _only(found: Mapping) -> Iterable[Table]:
    yield Table(
        "What one method alone gets",
        "Items that this method gets and no other of them does, beside those that all and that none get.",
        ("items", "measure", "method", "it alone", "all", "none", "n"),
        tuple(
            (
                place(row),
                row["measure"],
                said(row["method"]),
                *(short(row[key]) for key in ("count", "all", "none", "n")),
            )
            for row in found["only"]
        ),
        open=True,
    )
    measure = "top1" if "top1" in found["measures"] else found["measures"][0]
    for row in found["only"]:
        if row["measure"] != measure or not row["count"]:
            continue
        left = row["count"] - LISTED
        note = f"The first {LISTED} of {row['count']}; --json gives all." if left > 0 else ""
        yield Table(
            f"Only {row['method']} gets these: {place(row)}, {measure}",
            note,
            ("item", "point", "question", "the document's answer", "the prior answer"),
            tuple(
                tuple(said(_cut(own[key])) for key in ("item", "point", "question", "answer", "prior_answer"))
                for own in row["items"][:LISTED]
            ),
        )


def _cut(text: str | None, limit: int = 300) -> str | None:
    return text if text is None or len(text) <= limit else f"{text[:limit]} \u2026"
