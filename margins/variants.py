"""Variants: conditions that change what the adapter or the prompt is made of, not how loud the adapter plays."""

from __future__ import annotations

import re
from dataclasses import dataclass

JOINED = (2, 4, 8)
STATED = (2, 3, 4, 5)
CONTESTED, CONTESTED_BASE = "contested", "contested-base"
#: Statements that do not say what the document says; an override by them would be wrong.
HEDGES = {"hedged": "It is rumoured that {document}", "negated": "It is not true that {document}"}

MEANING = {
    "joined": f"the adapters of {', '.join(map(str, JOINED))} documents joined into one; each asked about its own",
    "in-context-joined": f"no adapter: {', '.join(map(str, JOINED))} documents in one prompt",
    "stated": f"the document stated {', '.join(map(str, STATED))} times over, and an adapter made of that",
    "hedged": "an adapter made of 'It is rumoured that' and the document; overriding would be wrong",
    "negated": "an adapter made of 'It is not true that' and the document; overriding would be wrong",
    "contested": "the adapter as delivered, asked a second time after its answer was contradicted",
    "contested-base": "its control: the base behind the same words, which name the answer and could be copied",
}


@dataclass(frozen=True)
class Variant:
    """What a condition is made of: `count` documents, of which the item's own is one; or its own put as `wording`."""

    count: int = 1
    wording: str = "{document}"

    def retold(self, document: str) -> str:
        """The document in the variant's wording; braces in it stay as they are."""
        return self.wording.replace("{document}", document)


def variant(name: str) -> tuple[str, Variant] | None:
    """The family of a variant's name and what it is made of; None for a policy. Raises ValueError for a count below 2."""
    if name in HEDGES:
        return name, Variant(wording=HEDGES[name])
    if name in (CONTESTED, CONTESTED_BASE):
        return name, Variant()
    found = re.fullmatch(r"(joined|in-context-joined|stated)-([0-9]+)", name)
    if not found:
        return None
    family, count = found[1], int(found[2])
    if not 2 <= count <= 32:
        raise ValueError(
            f"policy {name!r}: the number of {'statements' if family == 'stated' else 'documents'} is 2 to 32"
        )
    if family == "stated":
        return family, Variant(wording=" ".join(["{document}"] * count))
    return family, Variant(count=count)


def sweep(name: str) -> list[str]:
    """The names that a family's bare name means; the name itself for all others."""
    counts = {"joined": JOINED, "in-context-joined": JOINED, "stated": STATED}.get(name, ())
    return [f"{name}-{count}" for count in counts] or [name]
