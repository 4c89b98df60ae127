"""What to do: tables of the policy to use under a budget, what to expect of it, and the candidates it was chosen from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from override_gap.margins.gains_file import gains_of
from override_gap.reports.page.table import Table
from override_gap.reports.text import (
    ABSENT,
    SIZE_HEAD,
    escape_control_characters,
    estimate,
    rounded,
    size_cell,
    untrusted,
)

FIGURES = {
    "conflict": ("conflicts overridden", "share"),
    "conflict_as_delivered": ("conflicts overridden as delivered", "share"),
    "difference": ("more than as delivered", "points"),
    "novel": ("new facts recalled", "share"),
    "combination": ("answers that combine the document with another fact", "share"),
    "retention": ("unrelated answers kept", "share"),
    "kl": ("KL to the base on unrelated questions, nats per token", "number"),
}
LABELS = {
    "scale": "use another gain",
    "as-delivered": "leave it as delivered",
    "no-gain": "no gain helps",
    "undecided": "undecided",
}


def tuning_tables(summary: Mapping) -> list[Table]:
    """Those that this summary can fill."""
    return [table for table in (expected_table(summary), candidate_table(summary)) if table.rows]


def expected_table(summary: Mapping) -> Table:
    """Figures out of fold beside those in sample."""
    tuning = summary.get("tuning") or {}
    expected, fitted = tuning.get("expected") or {}, tuning.get("in_sample") or {}
    rows = tuple(
        (text, estimate(expected[name], kind), _value(fitted.get(name), kind), size_cell(expected[name]))
        for name, (text, kind) in FIGURES.items()
        if expected.get(name)
    )
    return Table(
        f"What to expect of {escape_control_characters(tuning.get('policy', ''))}",
        f"Out of fold: every {(tuning.get('folds') or {}).get('by', 'knowledge point')} is judged under the policy that was "
        "chosen without it. In sample: the policy on the items that it was chosen on; the difference is its optimism. The "
        "brackets reach as far as either's interval. Answers that combine take no part in the choice: both columns are one.",
        ("figure", "out of fold", "in sample", SIZE_HEAD),
        rows,
        open=True,
    )


def candidate_table(summary: Mapping) -> Table:
    """Every candidate with what it does on all items, the limits held against the budget, and how many folds chose it."""
    tuning = summary.get("tuning") or {}
    folds = (tuning.get("folds") or {}).get("n")
    rows = tuple(
        (
            untrusted(row["condition"]) + (" (chosen)" if row["chosen"] else ""),
            _share(row["conflict"]),
            _share(row["kept"]),
            _share(row["kept_at_least"]),
            rounded(row["kl"]),
            rounded(row["kl_at_most"]),
            "yes" if row["within"] else "not shown" if row["within_by_estimate"] else "no",
            f"{row['folds']} of {folds}",
        )
        for row in tuning.get("candidates") or []
    )
    return Table(
        "Policies under this budget",
        "On all items. At least, at most: the true value is within these limits with 95% certainty, and they are what the "
        "budget is held against; not shown: only the estimate is within it. Chosen is what overrides most within the budget.",
        ("policy", "overrides", "keeps", "at least", "KL", "at most", "within", "folds that chose it"),
        rows,
    )


def commands(summary: Mapping, manifest: Mapping) -> Iterator[str]:
    """The commands that apply the choice to the run's own adapters; RUN stands for the run folder."""
    tuning, plan = summary.get("tuning") or {}, manifest.get("plan") or {}
    if not tuning.get("candidates"):
        return
    budget = tuning["budget"]
    bounds = "".join(f" --{name} {budget[name]:g}" for name in ("keep", "kl") if budget[name] is not None)
    yield f"override-gap tune RUN{bounds}"
    if tuning["recommendation"] != "scale" or tuning["policy"] in ("base", "as-delivered"):
        return
    words = "".join(
        f" --{name} {shown(plan[name])}" for name in ("subject", "adapters", "items") if isinstance(plan.get(name), str)
    )
    if gains_of(tuning["policy"], 1)[1]:
        yield 'with og.applied(model, adapters, "RUN/gains.json") as tuned: ...'
    else:
        yield f"override-gap adapters export{words} --gains RUN/gains.json --form peft --out tuned"


def shown(word: str) -> str:
    """A word of a command: quoted where a shell would read it as several."""
    return (
        word if word.isascii() and all(letter.isalnum() or letter in "-_./:=," for letter in word) else json.dumps(word)
    )


def _value(figure: Mapping[str, Any] | None, kind: str) -> Any:
    """A figure without its interval: in sample it is that of the data alone."""
    return estimate(figure and {"value": figure["value"]}, kind)


def _share(value: float | None) -> str:
    """A share in per cent, to a tenth."""
    return ABSENT if value is None else f"{100 * value:.1f}%"
