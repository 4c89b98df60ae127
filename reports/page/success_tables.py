"""Tables of success: by condition, by quarter of prior strength, and two conditions on the same items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from markupsafe import Markup

from override_gap.reports.page.table import MEASURES, Cell, Table
from override_gap.reports.text import (
    SIZE_HEAD,
    estimate,
    p_cell,
    rounded,
    sample_size,
    size_cell,
    split_label,
    untrusted,
)

#: Split, tier and population of each column of the success tables, what decides first: a narrow window shows the first ones.
COLUMNS = (
    ("conflict", None, "all"),
    ("conflict", None, "known"),
    ("retention", None, "all"),
    ("novel", None, "all"),
    ("combination", None, "all"),
    ("conflict", "light", "all"),
    ("conflict", "medium", "all"),
    ("conflict", "deep", "all"),
)


def success_tables(summary: Mapping) -> Iterator[Table]:
    """One table per measure: a row per condition, a column per split, tier and population."""
    outcomes = summary.get("outcomes") or []
    conditions = list(dict.fromkeys(row["condition"] for row in outcomes))
    for measure, name in MEASURES.items():
        cells = {
            (row["split"], row["tier"], row.get("population", "all"), row["condition"]): row
            for row in outcomes
            if row["measure"] == measure
        }
        head: list[Cell] = ["condition"]
        lines: dict[str, list[Cell]] = {condition: [untrusted(condition)] for condition in conditions}
        for column in COLUMNS:
            if not any(key[:3] == column for key in cells):
                continue
            rows = {condition: cells.get((column[0], column[1], column[2], condition)) for condition in conditions}
            sizes = {sample_size(row) for row in rows.values() if row}
            # n is stated once, in the head, where it is the same in the whole column.
            same = len(sizes) == 1
            head.append(_label(*column) + (_two_lines(*sizes) if same else ""))
            for condition, row in rows.items():
                size = _two_lines(sample_size(row)) if row and not same else ""
                lines[condition].append(estimate(row, "share") + size)
        measured = {key[3] for key in cells}
        body = tuple(tuple(line) for condition, line in lines.items() if condition in measured)
        note = "Per cent with 95% interval. Known: conflicts whose old answer the base model gives as its first token."
        yield Table(f"Success by {name}", note, tuple(head), body, open=measure == "top1")


def _two_lines(size: str) -> Markup:
    """A sample size in small letters, its knowledge points on a line of their own."""
    return Markup('<br><span class="n">{}</span>').format(size).replace(" in ", Markup("<br>in "))


def _label(split: str, tier: str | None, population: str) -> Markup:
    words = (split_label(split), tier, "known" if population == "known" else None)
    return Markup(" ").join(word for word in words if word)


def prior_gradient_tables(summary: Mapping) -> Iterator[Table]:
    """Share overridden per quarter of prior strength: the main measure first, the others in a second table."""
    gradient = summary.get("prior_gradient") or {}
    rows = [gradient] if gradient.get("quartiles") else []
    rows += [row for row in gradient.get("by_condition") or [] if not rows or _identity(row) != _identity(gradient)]
    head = ("condition", "measure", "items", "weakest", "second", "third", "strongest", "gap", "p")
    note = (
        "Share overridden in quarters of prior strength, from the most weakly to the most firmly held; gap: weakest "
        "minus strongest, in percentage points."
    )
    for title, main in (
        ("Prior gradient by condition (top1, all conflicts)", True),
        ("Prior gradient by condition, other measures and known items", False),
    ):
        lines = tuple(
            (
                untrusted(row["condition"]),
                row["measure"],
                row["population"],
                *(estimate(quarter, "share") for quarter in row["quartiles"]),
                estimate(row.get("gap"), "points"),
                p_cell((row.get("gap") or {}).get("p")),
            )
            for row in rows
            if len(row["quartiles"]) == 4 and (_identity(row)[1:] == ("top1", "all")) is main
        )
        yield Table(title, note, head, lines, open=main)
    yield _adjusted_table(gradient)


ADJUSTED_FOR = {
    "doc_logprob": "log P(y_doc)",
    "prior_tokens": "old answer's length",
    "answer_tokens": "new answer's length",
    "question_form": "form",
    "relation": "relation",
}


def _adjusted_table(gradient: Mapping) -> Table:
    """Slopes on prior strength, alone and adjusted, beside those with the document in the prompt."""
    adjusted, beside = gradient.get("adjusted") or {}, gradient.get("in_context") or {}
    prompts = {_slope_identity(row): row for row in beside.get("slopes") or []}
    lines = []
    for row in adjusted.get("slopes") or []:
        prompt = prompts.get(_slope_identity(row)) or {}
        if row.get("value") is None:
            continue
        lines.append(
            (
                row["outcome"].replace("_", " "),
                row["population"],
                ", ".join(ADJUSTED_FOR[name] for name in row["adjusted_for"]) or "nothing",
                estimate(row),
                p_cell(row.get("p")),
                size_cell(row),
                estimate(prompt.get("prompt")),
                estimate(prompt.get("difference")),
            )
        )
    note = (
        "Per standard deviation of prior strength: log-odds of failure (first token; above 0 where firm answers resist) and "
        "nats of net margin (below 0 where they do). Log-odds grow with every covariate that matters, so compare their signs. "
        "log P(y_doc) under the base is one of the prior margin's two terms: where the base is nearly sure it carries that "
        "margin alone."
    )
    head = (
        "slope of",
        "items",
        "adjusted for",
        "adapter",
        "p",
        SIZE_HEAD,
        "document in the prompt",
        "adapter minus prompt",
    )
    return Table("Prior gradient, adjusted", note, head, tuple(lines))


def _slope_identity(row: Mapping) -> tuple:
    return row["population"], row["outcome"], tuple(row["adjusted_for"])


def _identity(row: Mapping) -> tuple:
    return row.get("condition"), row.get("measure"), row.get("population")


def paired_condition_table(summary: Mapping) -> Table:
    """Differences between two conditions of the run."""
    return Table(
        "Conditions compared on the same items",
        "First minus second; gained and lost count the questions on which only one of the two succeeds.",
        ("first", "second", "split", "measure", "difference", "gained", "lost", "p", "p, Holm"),
        tuple(
            (
                untrusted(row["first"]),
                untrusted(row["second"]),
                split_label(row["split"]),
                row["measure"],
                estimate(row["difference"], "points"),
                rounded(row.get("gained")),
                rounded(row.get("lost")),
                p_cell(row.get("p")),
                p_cell(row.get("p_holm")),
            )
            for row in summary.get("comparisons") or []
        ),
    )
