"""Published shares of successes, which a report shows beside the measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

SPLITS = ("novel", "combination", "conflict", "retention")
TIERS = ("light", "medium", "deep")
MEASURES = ("margin", "top1", "answer", "answer_substring")


@dataclass(frozen=True)
class Reference:
    """One published share of successes, over a split, a tier of it or a quartile of prior strength."""

    __no_type_check__ = True  # made from a plan file: checked below, with a message that says what is needed

    split: str
    condition: str
    measure: str
    value: float
    """Between 0 and 1."""
    source: str
    tier: str | None = None
    quartile: int | None = None
    """Of prior strength over all conflicts: 1 is the weakest, 4 the strongest."""
    differs: str | None = None
    """What of the published measurement this plan does otherwise: questions, template, precision."""

    def __post_init__(self) -> None:
        for name, known in (("split", SPLITS), ("measure", MEASURES), ("tier", (None, *TIERS))):
            value = getattr(self, name)
            if value not in known:
                words = ", ".join(str(word) for word in known if word)
                raise ValueError(f"{name} needs one of {words}, got {value!r}")
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)) or not 0 <= self.value <= 1:
            raise ValueError(f"value needs to be a share between 0 and 1, got {self.value!r}")
        if self.quartile not in (None, 1, 2, 3, 4):
            raise ValueError(f"quartile needs 1 (weakest prior) to 4 (strongest), got {self.quartile!r}")
        if self.split != "conflict" and (self.tier or self.quartile):
            raise ValueError(f"tier and quartile belong to conflicts, got split {self.split!r}")
        if self.tier and self.quartile:
            raise ValueError("a reference has a tier or a quartile, not both")
        for name in ("condition", "source", "differs"):
            value = getattr(self, name)
            absent = name == "differs" and value is None
            if not absent and (not isinstance(value, str) or not value.strip()):
                raise ValueError(f"{name} needs a few words, got {getattr(self, name)!r}")


def reference_from(table: Mapping[str, Any]) -> Reference:
    """The reference that a table of a plan file describes. Raises ValueError for an unknown or missing key or a wrong value."""
    known = {field.name: field.default for field in fields(Reference)}
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; known: {', '.join(known)}")
    missing = [name for name in ("split", "condition", "measure", "value", "source") if name not in table]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return Reference(**table)
