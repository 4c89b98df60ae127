"""A batch's effects: what its adapters do to its questions, read once some policy needs them and kept for all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.effect import effect, lead
from override_gap.margins.gain_policies import PolicyInputs
from override_gap.margins.items.divergence import Divergence
from override_gap.probes.attach.runtime import RuntimeBatch
from override_gap.probes.attach.stack import Stack
from override_gap.probes.readings.adapted import Adapted
from override_gap.probes.readings.effect import adapted_as_asked, base_as_asked
from override_gap.probes.readings.gain_path import layer_effects
from override_gap.probes.readings.prior import Prior
from override_gap.probes.subject.model import Subject

ReadAt = Callable[[Float[Tensor, "batch layer"]], Adapted]


@dataclass(frozen=True)
class Effects:
    """The effects of a batch's adapters; `read` holds by gain the pairs of effect and lead, `by_layer` a row per item.

    A source that is no weight update is refused what needs an effect before anything is measured.
    """

    subject: Subject
    prior: Prior
    divergences: Sequence[Divergence]
    adapters: Stack | RuntimeBatch
    read: dict[float, list[tuple[float, float]]] = field(default_factory=dict)
    by_layer: list[Float[Tensor, " layer"] | None] = field(default_factory=list)

    def known(self, inputs: Sequence[PolicyInputs], gain: float, read_at: ReadAt) -> list[PolicyInputs]:
        """The inputs with effect and lead at a uniform gain; the pass is that of the condition `uniform-GAIN`."""
        if gain not in self.read:
            base, adapted = self._as_asked(gain, read_at)
            pairs = zip(effect(base, adapted, gain).tolist(), lead(base, adapted).tolist(), strict=True)
            self.read[gain] = list(pairs)
        return [replace(i, effect=e, lead=of) for i, (e, of) in zip(inputs, self.read[gain], strict=True)]

    def known_by_layer(self, inputs: Sequence[PolicyInputs], read_at: ReadAt) -> list[PolicyInputs]:
        """The inputs with the effect of every layer as delivered; None where the parts do not add up."""
        if not self.by_layer:
            base, adapted = self._as_asked(1.0, read_at)
            rows = layer_effects(self.subject, self.divergences, self._stack, base, adapted)
            self.by_layer.extend(row if bool(row.isfinite().all()) else None for row in rows)
        return [replace(i, layer_effects=row) for i, row in zip(inputs, self.by_layer, strict=True)]

    @property
    def _stack(self) -> Stack:
        assert isinstance(self.adapters, Stack), "what needs an effect is refused to a method that is no weight update"
        return self.adapters

    def _as_asked(self, gain: float, read_at: ReadAt) -> tuple[Tensor, Tensor]:
        """The logits of base and adapted model at the last token of each question as asked."""
        read = read_at(torch.full((len(self.divergences), self.subject.n_layers), gain))
        adapted = adapted_as_asked(self.subject, self.divergences, self._stack, gain, read)
        return base_as_asked(self.subject, self.prior, self.divergences), adapted
