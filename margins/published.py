"""References: published shares that a report shows beside what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

SPLITS = ("novel", "combination", "conflict", "retention")
TIERS = ("light", "medium", "deep")
MEASURES = ("margin", "top1", "answer", "answer_substring")


@dataclass(frozen=True)
class Reference:
    """One published share of successes, and of what: a split or a tier of it, or a quartile of prior strength."""

    split: str
    condition: str
    measure: str
    value: float
    """Between 0 and 1."""
    source: str
    tier: str | None = None
    quartile: int | None = None
    """Of prior strength over all conflicts: 1 is the weakest, 4 the strongest."""

    def __post_init__(self) -> None:
        for name, known in (("split", SPLITS), ("measure", MEASURES), ("tier", (None, *TIERS))):
            given = getattr(self, name)
            if given not in known:
                words = ", ".join(str(word) for word in known if word)
                raise ValueError(f"{name} needs one of {words}, got {given!r}")
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)) or not 0 <= self.value <= 1:
            raise ValueError(f"value needs a share between 0 and 1, got {self.value!r}")
        if self.quartile not in (None, 1, 2, 3, 4):
            raise ValueError(f"quartile needs 1 (weakest prior) to 4 (strongest), got {self.quartile!r}")
        if self.split != "conflict" and (self.tier or self.quartile):
            raise ValueError(f"tier and quartile belong to conflicts, got split {self.split!r}")
        if self.tier and self.quartile:
            raise ValueError("a reference has a tier or a quartile, not both")
        for name in ("condition", "source"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise ValueError(f"{name} needs a few words, got {getattr(self, name)!r}")


def reference(table: Mapping[str, Any]) -> Reference:
    """A reference from a table of a plan file. Raises ValueError for a key or a value that it cannot have."""
    known = {field.name: field.default for field in fields(Reference)}
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; known: {', '.join(known)}")
    missing = [name for name in ("split", "condition", "measure", "value", "source") if name not in table]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return Reference(**table)
