"""Looks: what a manifest says of a run that was looked at while it was measured, and the level its verdict's intervals have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from override_gap.analyses.stats.estimate import LEVEL
from override_gap.analyses.stats.group_sequential import bounds, coverage
from override_gap.margins.text import plural


@dataclass(frozen=True)
class Looks:
    """The looks of a run that was to end once its verdict was decided: shares of the points measured, and where it stopped.

    `stopped` counts the `units` and `items` measured and the items left `unmeasured`; None where it did not stop early.
    """

    shares: tuple[float, ...]
    planned: int
    stopped: Mapping[str, int] | None

    @property
    def level(self) -> float:
        """Coverage of the verdict's intervals: that of the look at which the run stopped, else of a last look at everything."""
        shares = self.shares if self.stopped or self.shares[-1:] == (1.0,) else (*self.shares, 1.0)
        return coverage(bounds(shares, (1 - LEVEL) / 2)[-1])

    @property
    def sentence(self) -> str:
        """That the run stopped early or was looked at before its end, and what follows for its numbers."""
        level = f"the intervals of the verdict are {shown(self.level)} instead of 95%, since they were looked at more than once"
        if not self.stopped:
            before = len([share for share in self.shares if share < 1])
            return f"The run was looked at {plural(before, 'time')} before its end: {level} (O'Brien-Fleming)."
        total = self.stopped["items"] + self.stopped["unmeasured"]
        return (
            f"Stopped early, at look {len(self.shares)} of at most {self.planned}, after {self.stopped['items']} of {total} "
            f"items, once the label was decided: {level} (O'Brien-Fleming). All other intervals are 95%, as if the number of "
            "items had been planned; estimates lie, on average, a little too far from the bounds of the label."
        )

    def as_json(self) -> dict[str, Any]:
        """The section ``until`` of the summary."""
        return {
            "rule": "decided",
            "looks": len(self.shares),
            "planned_looks": self.planned,
            "stopped": None if self.stopped is None else dict(self.stopped),
            "level": self.level,
            "says": self.sentence,
        }


def looks_of(manifest: Mapping[str, Any]) -> Looks | None:
    """The looks of a run; None where nobody looked before its end."""
    until = manifest.get("until")
    if not until or not until["looks"]:
        return None
    shares = tuple(float(look["share"]) for look in until["looks"])
    return None if shares[0] == 1.0 else Looks(shares, len(until["units_at_looks"]), until["stopped"])


def level_of(manifest: Mapping[str, Any]) -> float:
    """Coverage of the intervals of a run's verdict: 95% unless it was looked at before its end."""
    looks = looks_of(manifest)
    return LEVEL if looks is None else looks.level


def shown(level: float) -> str:
    """A coverage in per cent, with two digits of what it leaves out: ``95.8%``, ``99.921%``."""
    digits = 1 - math.floor(math.log10(max(100 * (1 - level), 1e-12)))
    return f"{100 * level:.{max(1, digits)}f}%"
