"""Sections of docs/mechanism.md on the adapters themselves: against each other, on neutral text, and beside what they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.mechanism_table import estimate, first, table

Summaries = Mapping[str, Mapping[str, Any]]


def compared(summaries: Summaries) -> list[str]:
    """Own share, cosines, and what the updates are to the weights, over all layers."""

    def rows() -> Iterator[Sequence[str]]:
        for name, summary in summaries.items():
            found = summary.get("geometry")
            if not found:
                continue
            layers = found["layers"]
            read = [row for row in layers if row["looked_at"]]
            intruders, looked_at = (sum(row[key] for row in read) for key in ("intruders", "looked_at"))
            yield (
                name,
                str(found["documents"]),
                estimate(found["own_share"]),
                estimate(found["cosine_same"]),
                estimate(found["cosine_other"]),
                "yes" if found["one_adapter"] else "no",
                _range(layers, "own_share"),
                f"{intruders} of {looked_at}" if looked_at else "\N{EN DASH}",
                _range(read, "overlap", "overlap_random"),
            )

    head = (
        "audit",
        "documents",
        "own share",
        "cosine, one relation",
        "different ones",
        "one adapter",
        "own share by layer",
    )
    says = (
        "*Own share*: of the squared norm of a document's update, what is not common to documents of other relations; *by "
        "layer*: first, least and largest, last. *Intruders*: of the ten leading left singular vectors of each changed weight, "
        "those unlike every one of the weight's own. *In span*: least and largest share over layers of an update in the "
        "span of its weight's leading singular vectors, over that by chance."
    )
    return table("Adapters against each other", says, (*head, "intruders", "in span, times chance"), rows())


def _range(layers: Sequence[Mapping[str, Any]], key: str, over: str | None = None) -> str:
    """First, least to largest, last value over layers; or least and largest of a quotient of two columns."""
    if over is not None:
        quotients = [row[key] / row[over] for row in layers if row[key] is not None and row[over]]
        return f"{min(quotients):.2f} to {max(quotients):.2f}" if quotients else "\N{EN DASH}"
    values = [row[key]["value"] for row in layers if row[key]["value"] is not None]
    if not values:
        return "\N{EN DASH}"
    return f"{values[0]:.2f}; {min(values):.2f} to {max(values):.2f}; {values[-1]:.2f}"


def on_neutral_text(summaries: Summaries) -> list[str]:
    """KL, first choices, the document's own answer, and the stream behind the last layer."""

    def rows() -> Iterator[Sequence[str]]:
        for name, summary in summaries.items():
            found = summary.get("neutral")
            if not found:
                continue
            last = found["layers"][-1]
            yield (
                name,
                str(found["documents"]),
                estimate(found["kl"], 3),
                estimate(found["kept"]),
                estimate(found["answer_rise"], sign=True),
                estimate(found["answer_rank"]),
                estimate(last["radial"], 3, sign=True),
                estimate(last["angle"]),
            )

    head = (
        "audit",
        "documents",
        "KL",
        "first choices kept",
        "own answer rises",
        "above other answers",
        "length",
        "angle",
    )
    says = (
        "Each adapter as delivered on text of the base's own that shares least with its document: KL per token and rise "
        "of the document's own answer in nats, the share of other documents' answers that rise less (0.5: the text does not show "
        "which document it was), and the stream behind the last layer: relative change of its length, and its angle in radians."
    )
    return table("On text that has nothing to do with the document", says, head, rows())


def beside_effect(summaries: Summaries) -> list[str]:
    """The rank correlations of each measure with push and with KL on unrelated questions."""

    def rows() -> Iterator[Sequence[str]]:
        for name, summary in summaries.items():
            found = summary.get("geometry_effects") or []
            for measure in dict.fromkeys(row["measure"] for row in found):
                cells = [estimate(first(found, measure=measure, outcome=outcome)) for outcome in OUTCOMES]
                yield (name, measure, *cells)

    says = (
        "Rank correlation over documents of what an adapter is with what it does. 95% each: of so many intervals one in twenty "
        "is expected to leave out zero by chance."
    )
    return table("Does what an adapter is tell what it does?", says, ("audit", "measure", *OUTCOMES), rows())


OUTCOMES = ("push", "adapter margin", "success", "held", "KL", "answers lost")
SECTIONS = (compared, on_neutral_text, beside_effect)
