"""What a handshake finds: its checks, whether the scale is verified, and the record of both that a run keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

MEANING = {
    "base": "the adapters are for this very model, by fingerprint",
    "fits": "every update has a place in the model, its shape, and is finite",
    "gain-zero": "gain 0 is the base to the last bit",
    "effect": "gain 1 changes the logits at the question",
    "tokens": "the method reads its own texts as this tokenizer gives them",
    "native": "gain 1 is the method's own adapted model",
    "batch": "an adapter does the same in a batch as alone",
    "documents": "two documents give different adapters",
}

NOT_RECORDED = "not verified: no check of it is recorded for this run"


class HandshakeError(ValueError):
    """Adapters that are not what they should be; the message names each failed check with its numbers."""


@dataclass(frozen=True)
class Check:
    """One check: passed, failed, or not made (None), and the numbers that say why."""

    name: str
    passed: bool | None
    says: str


@dataclass(frozen=True)
class Scale:
    """Whether the adapters' scale is verified against the method's own logits, and to how many nats.

    `verified` is None where the source offers none, False where they disagree, or agree so that a wrong scale would not
    have been seen. `gap_nats` is the largest difference of a logit.
    """

    verified: bool | None
    gap_nats: float | None
    says: str


@dataclass(frozen=True)
class Handshake:
    """All checks of a source, and the Frobenius norms of each adapter's document and shared part, in weight units."""

    checks: tuple[Check, ...]
    scale: Scale
    norms: tuple[tuple[float, float], ...] = ()
    left_out: tuple[str, ...] = ()
    """What the adapters change that is not measured; see `Adapter.left_out`."""
    notes: tuple[str, ...] = ()
    """What the source says of these documents; see `SourceTraits.notes_on`."""

    encode_s: float = field(default=0.0, compare=False)
    """Seconds that one document's adapter took to make; not part of the record."""

    @property
    def failed(self) -> list[Check]:
        """The checks that did not pass."""
        return [check for check in self.checks if check.passed is False]

    def require(self) -> None:
        """Raise HandshakeError if any check failed."""
        if self.failed:
            raise HandshakeError("; ".join(f"handshake {check.name} failed: {check.says}" for check in self.failed))

    def as_json(self) -> dict[str, Any]:
        """The record that a run's manifest and summary keep."""
        return {"checks": [asdict(check) for check in self.checks], "scale": asdict(self.scale)}


def merged_record(records: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The record of a run whose shards each had a handshake of their own: of every check the worst, of gaps the largest.

    None where a shard has none: then nothing is known of its adapters. A check counts as passed only where every shard
    made it and passed it.
    """
    known = [record for record in records if record is not None]
    if not known or len(known) < len(records):
        return None
    names = dict.fromkeys(check["name"] for record in known for check in record["checks"])
    checks = [
        _worst([c for record in known for c in record["checks"] if c["name"] == name], len(known)) for name in names
    ]
    scales = [record["scale"] for record in known]
    worst = max(scales, key=lambda scale: (_badness(scale["verified"]), scale["gap_nats"] or 0.0))
    return {"checks": checks, "scale": dict(worst)}


def _worst(checks: Sequence[Mapping[str, Any]], shards: int) -> dict[str, Any]:
    worst = dict(max(checks, key=lambda check: _badness(check["passed"])))
    if worst["passed"] and len(checks) < shards:
        return worst | {"passed": None, "says": "not checked for every shard"}
    return worst


def _badness(passed: bool | None) -> int:
    return {True: 0, None: 1, False: 2}[passed]
