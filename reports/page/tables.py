"""The summary's sections as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from override_gap.reports.text import chance, counted, estimate, said, short

MEASURES = {
    "top1": "first token (top1)",
    "margin": "net margin (margin)",
    "answer": "greedy answer (answer)",
    "answer_substring": "greedy answer, plain substring rule",
}

#: Split, tier and population of each column of the outcome tables.
COLUMNS = (
    ("novel", None, "all"),
    ("combination", None, "all"),
    ("conflict", None, "all"),
    ("conflict", None, "known"),
    ("conflict", "light", "all"),
    ("conflict", "medium", "all"),
    ("conflict", "deep", "all"),
    ("retention", None, "all"),
)


@dataclass(frozen=True)
class Table:
    """A titled table; cells are markup that is already safe, the first of a row is its heading."""

    title: str
    note: str
    head: tuple[Markup | str, ...]
    rows: tuple[tuple[Markup | str, ...], ...]
    open: bool = False


def tables(summary: Mapping) -> list[Table]:
    """Every table of the page that this run can fill."""
    made: list[Table] = []
    for build in (_outcomes, _gradient, _margins, _criterion, _layers, _dose, _matched, _paired):
        made.extend(table for table in build(summary) if table.rows)
    return made


def _order(rows: Iterable[Mapping]) -> list[str]:
    return list(dict.fromkeys(row["condition"] for row in rows))


def _outcomes(summary: Mapping) -> Iterable[Table]:
    rows = summary.get("outcomes") or []
    conditions = _order(rows)
    for measure, name in MEASURES.items():
        here = {
            (row["split"], row["tier"], row.get("population", "all"), row["condition"]): row
            for row in rows
            if row["measure"] == measure
        }
        columns = [column for column in COLUMNS if any(key[:3] == column for key in here)]
        head, body = ["condition"], [[said(condition)] for condition in conditions]
        for split, tier, population in columns:
            cells = [here.get((split, tier, population, condition)) for condition in conditions]
            counts = {counted(cell) for cell in cells if cell}
            label = " ".join(part for part in (split, tier, "known" if population == "known" else "") if part)
            # n stands once, at the top, where it is the same all the way down.
            once = Markup('{}<br><span class="n">{}</span>').format(label, *counts) if len(counts) == 1 else label
            head.append(once)
            for line, cell in zip(body, cells, strict=True):
                line.append(estimate(cell, "share") + ("" if len(counts) == 1 else _below(cell)))
        measured = {key[3] for key in here}
        kept = tuple(tuple(line) for line, name in zip(body, conditions, strict=True) if name in measured)
        yield Table(f"Success by {name}", "Per cent with 95% interval.", tuple(head), kept, open=measure == "top1")


def _below(own: Mapping | None) -> Markup:
    return Markup('<br><span class="n">{}</span>').format(counted(own)) if own else Markup("")


def _gradient(summary: Mapping) -> Iterable[Table]:
    found = summary.get("prior_gradient") or {}
    main = [{**found}] if found.get("quartiles") else []
    rest = [row for row in found.get("by_condition") or [] if not main or _same(row) != _same(found)]
    head = ("condition", "measure", "items", "weakest", "second", "third", "strongest", "gap", "p")
    note = "Share overridden in quartiles of prior strength, and weakest minus strongest in percentage points."
    for rows, title, opened in (
        (
            [row for row in main + rest if row["measure"] == "top1" and row["population"] == "all"],
            "Prior gradient by condition (top1, all conflicts)",
            True,
        ),
        (
            [row for row in main + rest if not (row["measure"] == "top1" and row["population"] == "all")],
            "Prior gradient by condition, other measures and known items",
            False,
        ),
    ):
        yield Table(
            title,
            note,
            head,
            tuple(
                (
                    said(row["condition"]),
                    row["measure"],
                    row["population"],
                    *(estimate(own, "share") for own in row["quartiles"]),
                    estimate(row.get("gap"), "points"),
                    chance((row.get("gap") or {}).get("p")),
                )
                for row in rows
                if len(row["quartiles"]) == 4
            ),
            opened,
        )


def _same(row: Mapping) -> tuple:
    return row.get("condition"), row.get("measure"), row.get("population")


def _margins(summary: Mapping) -> Iterable[Table]:
    found = summary.get("margins") or {}
    named = [(name, found.get(name)) for name in ("prior", "adapter", "push", "pull")]
    named += [(f"adapter, {row['condition']}", row) for row in found.get("adapter_by_condition") or []]
    yield Table(
        "Margins over conflicts",
        "In nats; cv = sd / |mean|, blank where the mean is near zero.",
        ("margin", "mean", "sd", "cv", "n"),
        tuple(
            (said(name), short(own.get("mean")), short(own.get("sd")), short(own.get("cv")), counted(own))
            for name, own in named
            if own
        ),
    )
    extra = [("adapter against prior margin, Spearman", "\u2013", found.get("correlation"), None)]
    if found.get("equivalence"):
        own = found["equivalence"]
        bound = f" (constant if within \u00b1{own['bound']:g})" if own.get("bound") is not None else ""
        extra.append((f"adapter slope / prior slope{bound}", own.get("axis", ""), own, own.get("p")))
    yield Table(
        "Slopes and association of margins",
        (found.get("correlation") or {}).get("note") or "Least squares, errors clustered by knowledge point.",
        ("quantity", "axis", "estimate", "p", "n"),
        tuple(
            (said(name), said(axis), estimate(own), chance(p), counted(own))
            for name, axis, own, p in [
                (row["quantity"], row["axis"], row, row.get("p")) for row in found.get("slopes") or []
            ]
            + extra
            if own
        ),
    )


def _criterion(summary: Mapping) -> Iterable[Table]:
    rows = (summary.get("criterion") or {}).get("agreement") or []
    yield Table(
        "Does the criterion say what the model says?",
        "Net margin above zero against success by the measure. Between the two answers the criterion is an "
        "identity; what can disagree is a third token, or a longer answer.",
        ("condition", "measure", "agreement", "override by both", "criterion only", "said only", "n"),
        tuple(
            (
                said(row["condition"]),
                row["measure"],
                estimate(row, "share"),
                *(short(row.get(key)) for key in ("true_override", "third_token", "without_criterion")),
                counted(row),
            )
            for row in rows
        ),
    )


def _layers(summary: Mapping) -> Iterable[Table]:
    found = summary.get("layers") or {}
    keys = [
        key
        for key in (
            "norm",
            "attribution_base",
            "attribution_adapted",
            "lens_base",
            "lens_adapted",
            "direct",
            "alone",
            "removed",
        )
        if any(row.get(key) for row in found.get("profile") or [])
    ]
    yield Table(
        "Layers",
        found.get("note") or "Means over conflicts with 95% intervals; \u22121 is the embedding.",
        ("layer", *(key.replace("_", ", ") for key in keys)),
        tuple(
            (short(row["layer"]).replace("-", "\u2212"), *(estimate(_as_value(row.get(key))) for key in keys))
            for row in found.get("profile") or []
        ),
    )
    yield Table(
        "Layers chosen, and those that should have been",
        "As many layers as the policy boosts, by their mean causal effect. Carried: the share of all layers' effect.",
        ("policy", "chose most often", "largest effect", "carried by its choice", "carried by the best", "n"),
        tuple(
            (
                said(row["condition"]),
                ", ".join(map(str, row["chosen"])),
                ", ".join(map(str, row["best"])),
                f"{row['carried']:.0%}",
                f"{row['best_carried']:.0%}",
                counted(row),
            )
            for row in found.get("choices") or []
        ),
        open=True,
    )


def _as_value(own: Mapping | None) -> Mapping | None:
    return {**own, "value": own["mean"]} if own else None


def _dose(summary: Mapping) -> Iterable[Table]:
    found = summary.get("dose") or {}
    critical = found.get("critical") or {}
    named: tuple[tuple[str, Mapping | None, str], ...] = (
        ("gain at which half of the failures flip", found.get("half_gain"), "number"),
        ("critical gain, measured, median", critical.get("measured_median"), "number"),
        ("critical gain, predicted, median", critical.get("predicted_median"), "number"),
        ("not rescued by any gain in range", critical.get("not_rescuable"), "share"),
        ("measured over predicted critical gain, median", critical.get("linearity"), "number"),
    )
    yield Table(
        "Dose and response",
        "",
        ("quantity", "estimate", "n"),
        tuple((name, estimate(own, kind), counted(own)) for name, own, kind in named if own),
    )


def _matched(summary: Mapping) -> Iterable[Table]:
    found = summary.get("matched_retention") or {}
    yield Table(
        "Policies against uniform scaling at equal retention",
        "Positive: the policy overrides more conflicts than uniform scaling that costs the same retention.",
        ("condition", "matched gain", "difference in override", "p", "n", "note"),
        tuple(
            (
                said(row["condition"]),
                short(row.get("matched_gain")),
                estimate(row.get("difference"), "points"),
                chance(row.get("p")),
                counted(row.get("difference")),
                said(row.get("note") or None),
            )
            for row in found.get("comparisons") or []
        ),
        open=True,
    )
    yield Table(
        "Override, retention and novel recall",
        "Per cent by top1.",
        ("condition", "override", "retention", "novel"),
        tuple(
            (
                said(row["condition"]),
                estimate(row.get("override"), "share"),
                estimate(row.get("retention"), "share"),
                estimate(row.get("novel"), "share"),
            )
            for row in found.get("frontier") or []
        ),
    )


def _paired(summary: Mapping) -> Iterable[Table]:
    rows = summary.get("comparisons") or []
    yield Table(
        "Conditions compared on the same items",
        "First minus second; gained and lost count the questions that only one of the two gets.",
        ("first", "second", "split", "measure", "difference", "gained", "lost", "p", "p, Holm"),
        tuple(
            (
                said(row["first"]),
                said(row["second"]),
                row["split"],
                row["measure"],
                estimate(row["difference"], "points"),
                short(row.get("gained")),
                short(row.get("lost")),
                chance(row.get("p")),
                chance(row.get("p_holm")),
            )
            for row in rows
        ),
    )
