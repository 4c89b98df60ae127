"""What a batch gave under one condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import AnyAdapter
from override_gap.margins.items.divergence import Divergence
from override_gap.probes.attach.runtime import prefix_length
from override_gap.probes.readings.adapted import Adapted
from override_gap.probes.run.search import Searchable
from override_gap.probes.subject.model import Subject


@dataclass(frozen=True)
class ConditionReadings:
    """What a batch gave under one condition.

    `gains` are those at which adapters acted, None where none did or where logits were mixed; `adapters` act on the
    weights when an answer is generated at these gains; `questions` are as put to the model; `adapter_norms` are per item,
    in weight units, None where no update acted. `unreadable` maps a row to the reason why it was not measured,
    `refused` one to the reason why the condition has no gains or no adapter for it.
    `search` is what the search reads, where another adapter than the item's own is searched like it.
    `has_layers`: each item's own adapter or none acted, so that the margin may be split over layers. `has_answers`: answers
    can be generated, which is not so where only logits are mixed.
    """

    state: Adapted
    gains: Float[Tensor, "batch layer"] | None
    adapters: Sequence[AnyAdapter]
    questions: Sequence[str]
    adapter_norms: Sequence[float | None]
    unreadable: Mapping[int, str] = field(default_factory=dict)
    search: Searchable | None = None
    has_layers: bool = False
    has_answers: bool = True
    as_delivered: bool = False
    refused: Mapping[int, str] = field(default_factory=dict)


def too_long_behind_prefix(subject: Subject, place: Divergence, adapter: AnyAdapter | None) -> str | None:
    """Why an adapter's prefix leaves no room for an item's tokens, or None."""
    before, tokens = prefix_length(adapter), len(place.tokens)
    if before == 0 or subject.max_positions is None or before + tokens <= subject.max_positions:
        return None
    return f"{tokens} tokens behind a prefix of {before}, more than the model's {subject.max_positions} positions"
