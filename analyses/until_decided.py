"""Until decided: an audit ends once its verdict's label is decided, by looks whose errors together are those of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from override_gap.analyses.looks import shown
from override_gap.analyses.readings import RunFrame, load
from override_gap.analyses.stats.estimate import LEVEL, Estimate
from override_gap.analyses.stats.group_sequential import bounds, coverage
from override_gap.analyses.verdict import MAGNITUDE, NO_FAILURE, REPRESENTATIONAL, Verdict, percent, verdict
from override_gap.probes.store.manifest import MOST_LOOKS

LOOKS = 5


@dataclass(frozen=True)
class UntilDecided:
    """The rule of `audit --until decided`: at most this many looks, after groups of units of like number.

    A look applies the rule of the verdict with intervals whose error is the one that Lan and DeMets' O'Brien-Fleming spending
    leaves for it (`stats.group_sequential`), and the audit stops where the label is decided. The error is that of a label whose
    claim is not so, at any truth: 2.5% per bound over all looks, so 5% where the failure rate is at 20% and the share held at
    its bound as well.
    """

    looks: int = LOOKS

    def __post_init__(self) -> None:
        if not 1 <= self.looks <= MOST_LOOKS:
            raise ValueError(f"an audit needs 1 to {MOST_LOOKS} looks, got {self.looks}")

    def as_json(self) -> dict[str, Any]:
        """What the manifest says of the rule."""
        return {
            "rule": "decided",
            "spending": "Lan-DeMets, O'Brien-Fleming type",
            "alpha": round(1 - LEVEL, 6),
            "most_looks": self.looks,
        }

    def look(self, folder: Path, items: frozenset[str], shares: Sequence[float]) -> dict[str, Any]:
        """The verdict on these items at the level of this look, and whether its label is decided."""
        bound = bounds(shares, (1 - LEVEL) / 2)[-1]
        level = coverage(bound)
        reached = verdict(of_items(load(folder), items), level)
        decided = is_decided(reached)
        read = "; ".join(
            f"{name} {percent(estimate)}"
            for name, estimate in (("failing", reached.failing), ("held", reached.held))
            if estimate is not None and estimate.known
        )
        read = f" ({read}, intervals of {shown(level)})" if read else ""
        return {
            "bound": bound,
            "level": level,
            "label": reached.label,
            "decided": decided,
            "failing": reached.failing.as_json() if reached.failing else None,
            "held": reached.held.as_json() if reached.held else None,
            "says": f"{reached.label} is decided{read}" if decided else f"not decided yet{read}",
        }


def of_items(run: RunFrame, items: frozenset[str]) -> RunFrame:
    """The run as if only these items had been measured."""
    tables = {
        name: table[table["item"].isin(items)] if len(table) else table
        for name, table in (
            ("readings", run.readings),
            ("layers", run.layers),
            ("drawn", run.drawn),
            ("search", run.search),
        )
    }
    return replace(run, **tables)


def is_decided(reached: Verdict) -> bool:
    """Whether more items could lead to no other label, as far as the verdict's intervals tell.

    No-failure as it is. The others where the failure rate is above 20%, and the share held lies above 2/3, below 1/3, or
    between: a share that may be above 2/3 as well as below is called mixed in the end, and is not decided.
    """
    if reached.label == "no-failure":
        return True
    if reached.label == "inconclusive" or reached.failing is None or reached.held is None:
        return False
    held: Estimate = reached.held
    between = held.low > REPRESENTATIONAL and held.high < MAGNITUDE
    return bool(reached.failing.low > NO_FAILURE and (held.low > MAGNITUDE or held.high < REPRESENTATIONAL or between))
