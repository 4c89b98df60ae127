"""Until: an audit that may end before all of its units are measured, by a rule that looks at what was read so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from override_gap.probes.run.engine import Unit
from override_gap.probes.store.folder import RunError
from override_gap.probes.store.run_store import RunStore

Record = dict[str, Any]
"""The manifest's `until`: `rule` and what it is, `units_at_looks`, the `looks` that were made, where it `stopped` (or null)."""


@runtime_checkable
class Until(Protocol):
    """A rule by which an audit ends. It is made of statistics, which this package knows nothing of, and is handed down."""

    @property
    def looks(self) -> int:
        """How many looks at most, the last of them at everything."""
        ...

    def as_json(self) -> Mapping[str, Any]:
        """What the manifest says of the rule: `rule`, its name, and its settings."""
        ...

    def look(self, folder: Path, items: frozenset[str], shares: Sequence[float]) -> Mapping[str, Any]:
        """Look at the readings of these items in a run folder; `shares` of the planned points at the looks so far, this one last.

        Returns what the manifest says of the look: `decided`, and `says`, a sentence that is told, among others.
        """
        ...


@dataclass(frozen=True)
class LooksAhead:
    """When a run is looked at: after which units, and what was seen until now.

    `begun` counts the units that were there when this process began: it does not look at a part of what is known already.
    """

    until: Until
    units: Sequence[Unit]
    record: Record

    @classmethod
    def of(cls, until: Until, units: Sequence[Unit], before: Record | None, keys: Sequence[str]) -> LooksAhead:
        """The looks of a run, new or resumed; `before` is what its manifest says of them, `keys` are the units it holds.

        Raises RunError where the run was measured by another rule.
        """
        rule, held = dict(until.as_json()), set(keys)
        begun = max((n for n, unit in enumerate(units, 1) if unit.key in held), default=0)
        if before is not None:
            if any(before.get(name) != value for name, value in rule.items()):
                raise RunError(
                    "this run was begun with another rule for its end; give --until as before, or --until all"
                )
            return cls(until, units, {**before, "begun": begun})
        places = sorted({max(1, round(len(units) * n / until.looks)) for n in range(1, until.looks + 1)})
        return cls(until, units, {**rule, "units_at_looks": places, "begun": begun, "looks": [], "stopped": None})

    def due(self, measured: set[str]) -> int | None:
        """The number of units at which a look is to be made now: all of them are measured, and it was not looked there."""
        if self.record["stopped"] is not None:
            return None
        made = {look["units"] for look in self.record["looks"]}
        first = max([1, self.record["begun"], *made])
        upto = next((n for n, unit in enumerate(self.units) if unit.key not in measured), len(self.units))
        places = [n for n in self.record["units_at_looks"] if first <= n <= upto and n not in made]
        return places[0] if places else None

    def look(self, place: int, store: RunStore, say: Callable[[str], None]) -> LooksAhead:
        """Look after so many units; the record then holds what was seen, and that the run stops if it is decided."""
        items = [item for unit in self.units[:place] for item in unit.items]
        shares = [look["share"] for look in self.record["looks"]] + [share_of_points(self.units, place)]
        with store.local_copy() as folder:
            seen = dict(self.until.look(folder, frozenset(item.id for item in items), shares))
        total = sum(len(unit.items) for unit in self.units)
        look = {"units": place, "items": len(items), "share": shares[-1], **seen}
        stops = bool(seen["decided"]) and place < len(self.units)
        stopped = {"units": place, "items": len(items), "unmeasured": total - len(items)} if stops else None
        say(f"look after {len(items)} of {total} items: {seen['says']}" + ("; the audit stops here" if stops else ""))
        return LooksAhead(
            self.until, self.units, {**self.record, "looks": [*self.record["looks"], look], "stopped": stopped}
        )


def share_of_points(units: Sequence[Unit], place: int) -> float:
    """Share of the planned knowledge points that the first units measure; a point counts by the share of its conflicts there.

    Of an item set without conflicts all items count.
    """
    items = [(number, item) for number, unit in enumerate(units) for item in unit.items]
    asked = [(number, item.point) for number, item in items if item.split == "conflict"]
    asked = asked or [(number, item.point) for number, item in items]
    total: dict[str, int] = {}
    there: dict[str, int] = {}
    for number, point in asked:
        total[point] = total.get(point, 0) + 1
        there[point] = there.get(point, 0) + (number < place)
    return 1.0 if place >= len(units) else sum(there[point] / total[point] for point in total) / max(1, len(total))


def units_to_measure(units: Sequence[Unit], before: Record | None, until: Until | None) -> Sequence[Unit]:
    """The units of a run that is to end by a rule: of one that stopped those before its end, else all."""
    stopped = (before or {}).get("stopped") if until is not None else None
    return units[: stopped["units"]] if stopped else units


def resumed_to_the_end(before: Record | None) -> Record | None:
    """What the manifest says of earlier looks where a run goes on without the rule: they were made, and no longer stop it."""
    return None if before is None else {**before, "stopped": None}
