"""The table of the verdict's shares, each with both of its intervals."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from override_gap.reports.page.table import Cell, Table
from override_gap.reports.text import ABSENT, SIZE_HEAD, estimate, per_cent, size_cell

SHARES = {
    "failing": "known conflicts that fail as delivered",
    "held": "of these, repaired at some gain that does not break the model, with content: the share that decides",
    "affordable": "of these, repaired at a gain that costs little",
    "rescued": "of these, first token flipped by a larger gain that does not break the model, content or not",
    "in_words": "of those repaired and asked in words there, answered right",
}


def verdict_table(summary: Mapping) -> Table:
    """What the verdict read, by knowledge point and by relation (or the field that `--cluster` names)."""
    verdict = summary.get("verdict") or {}
    rows = tuple(
        (
            text,
            estimate(verdict[name], "share"),
            _limits(verdict[name], "point"),
            _limits(verdict[name], "cluster"),
            size_cell(verdict[name]),
        )
        for name, text in SHARES.items()
        if verdict.get(name)
    )
    return Table(
        "The shares behind the verdict",
        "The first interval is the one that the rule reads: the wider of the two, or that by knowledge point where there are "
        "fewer than ten relations.",
        ("share", "as read", "by knowledge point", "by relation, or the field of --cluster", SIZE_HEAD),
        rows if any(row[3] != ABSENT for row in rows) else (),
        open=True,
    )


def _limits(share: Mapping, level: str) -> Cell:
    """The interval at one clustering."""
    low, high = share.get(f"low_{level}"), share.get(f"high_{level}")
    if low is None or high is None:
        return ABSENT
    return Markup('<span class="ci">{}</span>').format(f"[{per_cent(low)}, {per_cent(high)}]")
