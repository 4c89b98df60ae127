"""The method's own logits against those measured here: do they agree, and would a wrong scale have been seen?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor

from override_gap.margins.adapter import Adapter, AnyAdapter, NativeExample
from override_gap.margins.text import plural
from override_gap.margins.updates import Dense, LowRank, Update, Vector
from override_gap.probes.errors import AdapterError
from override_gap.probes.run.checks import Check, Scale
from override_gap.probes.run.last_logits import last_logits, two_routes_tolerance
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.parity import unit_roundoff

#: The largest share of an adapter's effect on the logits by which two routes to it may differ in a format of few digits.
NATIVE_SHARE = 0.25

WRONG_SCALES = (0.125, 2.0, 8.0, 16.0)
"""Wrong scales that must each be seen before a scale counts as verified: alpha / 8, alpha / r with r 2 and alpha 32, ..."""
SLIGHTLY_WRONG = (0.8, 1.25)
"""Wrong scales that logits of few digits may not tell, which is then said."""
SUGGESTED = (0.0625, 0.125, 0.25, 0.5, 2.0, 4.0, 8.0, 16.0)
"""Gains that are tried where the logits disagree, to say by how much the scale may be off."""

FEW = 4
"""Texts on which wrong scales are tried; what is seen on these is seen on all."""

NONE_OFFERED = "the source offers no logits of its method's own model: a wrong scale cannot be noticed"


@dataclass(frozen=True, eq=False)
class NativeComparison:
    """Texts on which the method's own adapted model was run, to be compared with the subject under the same adapters.

    One text at a time, as the method ran them. In formats of few digits (the subject's, or that of the stored logits) the
    tolerance is large, so the difference must also be small beside what the adapter does: on SmolLM2 in bfloat16 it was
    7% of that by root mean square, and twice the scale makes it 50% and more.
    """

    subject: Subject
    examples: tuple[NativeExample, ...]
    about: tuple[str, ...] = ()
    """Which document each example is about: its first words, or its adapter's name; empty where nobody says."""

    def __call__(self) -> tuple[Check, Scale]:
        """The check `native`, and whether the scale is verified. Raises AdapterError where an adapter cannot act."""
        fault = self._fault()
        if fault is not None:
            return Check("native", False, fault), Scale(False, None, f"not verified: {fault}")
        ours = self._ours(_unchanged)
        gap, says = self._gap(ours), self._says(ours)
        if not self._agree(ours):
            says += self._which(ours) + self._likely_cause()
            return Check("native", False, says), Scale(False, gap, f"not verified: {says}")
        return Check("native", True, says), self._scale(gap)

    @cached_property
    def theirs(self) -> Float[Tensor, "example vocab"]:
        """The method's logits, one row per text."""
        return torch.stack([example.logits.float().cpu() for example in self.examples])

    @cached_property
    def base(self) -> Float[Tensor, "example vocab"]:
        """The base's logits after the same tokens."""
        return torch.cat([last_logits(self.subject, [e.ids], [e.adapter], None) for e in self.examples])

    @cached_property
    def dtype(self) -> torch.dtype:
        """The coarser number format of the two models: the method's is read from the digits that its logits have."""
        formats = [self.subject.coarsest_dtype]
        formats += [d for d in (torch.bfloat16, torch.float16) if torch.equal(self.theirs.to(d).float(), self.theirs)]
        return max(formats, key=unit_roundoff)

    @cached_property
    def tolerance(self) -> float:
        """How far the two may differ, nats."""
        return two_routes_tolerance(self.subject, self.base, self.dtype)

    def _fault(self) -> str | None:
        """Why the logits cannot be compared."""
        width = self.base.shape[1]
        shapes = {tuple(example.logits.shape) for example in self.examples}
        if shapes != {(width,)}:
            return f"native logits have shape {[*map(list, sorted(shapes))]}, need [[{width}]]"
        return None if bool(self.theirs.isfinite().all()) else "the method's own logits hold values that are not finite"

    def _ours(
        self, change: Callable[[AnyAdapter], AnyAdapter], gain: float | None = 1.0
    ) -> Float[Tensor, "example vocab"]:
        return torch.cat([last_logits(self.subject, [e.ids], [change(e.adapter)], gain) for e in self.examples])

    def _gap(self, ours: Float[Tensor, "example vocab"]) -> float:
        return (self.theirs - ours).abs().max().item()

    def _share(self, ours: Float[Tensor, "example vocab"]) -> float:
        """The difference as a share of what the adapters do, by root mean square."""
        return ((self.theirs - ours).square().mean().sqrt() / (ours - self.base).square().mean().sqrt()).item()

    def _agree(self, ours: Float[Tensor, "example vocab"]) -> bool:
        if not self._gap(ours) <= self.tolerance:
            return False
        return self.dtype == torch.float32 or self._share(ours) <= NATIVE_SHARE

    def _says(self, ours: Float[Tensor, "example vocab"]) -> str:
        says = f"logits differ by {self._gap(ours):.3g} nats; need at most {self.tolerance:.3g}"
        if self.dtype != torch.float32 and self._gap(ours) <= self.tolerance:
            share, allowed = 100 * self._share(ours), 100 * NATIVE_SHARE
            says += f", and {share:.0f}% of what the adapters move; need at most {allowed:.0f}%"
        return says

    def _which(self, ours: Float[Tensor, "example vocab"]) -> str:
        """How many texts agree, each by itself, and on which one the difference is largest."""
        gaps = (self.theirs - ours).abs().amax(1)
        agree = gaps <= self.tolerance
        if self.dtype != torch.float32:
            moved = (ours - self.base).square().mean(1).sqrt()
            agree &= (self.theirs - ours).square().mean(1).sqrt() / moved <= NATIVE_SHARE
        worst = int(gaps.nan_to_num(float("inf")).argmax())
        what = f"document {self.about[worst]!r}, " if self.about else ""
        return (
            f" ({int(agree.sum())} of {plural(len(gaps), 'text')} agree, the largest difference is on {what}"
            f"text {self.examples[worst].text[:40]!r})"
        )

    def _scale(self, gap: float) -> Scale:
        """Whether the scale is verified, where the logits agree: only if each wrong scale would have been seen."""
        texts = plural(len(self.examples), "text")
        against = f"to {_short(gap)} nats against the method's own logits"
        if not all(isinstance(example.adapter, Adapter) for example in self.examples):
            moved = self._gap(self.base)
            if self._agree(self.base):
                return Scale(
                    False, gap, f"not verified: the method moves no logit of its {texts} by more than {moved:.2g} nats"
                )
            return Scale(True, gap, f"none to verify: run as delivered, which is verified {against}")
        few = replace(self, examples=self.examples[:FEW])
        unseen, least = [], float("inf")
        for what, factor, ours in few._at_wrong_scales():
            difference = few._gap(ours)
            least = min(least, difference) if difference == difference else least  # an overflow is seen
            if few._agree(ours):
                unseen.append(f"{what} wrong by {_times(factor)} would differ by {difference:.2g}")
        if unseen:
            return Scale(
                False,
                gap,
                f"not verified: logits agree with the method's own to {_short(gap)} nats, but these adapters are so weak that "
                f"{unseen[0]} nats, which is not told from rounding ({self.tolerance:.2g})",
            )
        named = ", ".join(_times(factor) for factor in WRONG_SCALES)
        seen = f"a scale wrong by {named} would differ by {least:.2g} nats or more"
        if self.dtype != torch.float32 and any(few._agree(ours) for *_, ours in few._at_wrong_scales(SLIGHTLY_WRONG)):
            digits = str(self.dtype).removeprefix("torch.")
            seen += f", one wrong by a quarter could not be told in {digits}"
        return Scale(True, gap, f"verified {against} ({texts}; {seen})")

    def _at_wrong_scales(
        self, factors: Sequence[float] = WRONG_SCALES
    ) -> Iterator[tuple[str, float, Float[Tensor, "example vocab"]]]:
        """(what, factor, our logits) at each wrong scale: of the whole adapter, or of each of its parts where there are two."""
        if not any(isinstance(e.adapter, Adapter) and e.adapter.shared for e in self.examples):
            for factor in factors:
                yield "a scale", factor, self._ours(_unchanged, factor)
            return
        for what, shared in (("the document part's scale", False), ("the shared part's scale", True)):
            for factor in factors:
                yield what, factor, self._ours(partial(scaled, factor=factor, shared=shared))

    def _likely_cause(self) -> str:
        """What may be wrong, in words, where some simple change would make the logits agree; else nothing."""
        if self._gap(self.base) <= self.tolerance:
            return "; the method's logits are those of the base: its adapter was not active when they were computed"
        try:
            return next((f"; {words}" for words, ours in self._changes() if self._agree(ours)), "")
        except AdapterError:
            return ""

    def _changes(self) -> Iterator[tuple[str, Float[Tensor, "example vocab"]]]:
        adapters = [example.adapter for example in self.examples]
        if all(isinstance(adapter, Adapter) for adapter in adapters):
            for gain in SUGGESTED:
                wrong = f"{1 / gain:g} times too large" if gain < 1 else f"{gain:g} times too small"
                yield f"at gain {gain:g} they agree: the scale is {wrong}", self._ours(_unchanged, gain)
            if any(adapter.shared for adapter in adapters if isinstance(adapter, Adapter)):
                yield "without the shared part they agree", self._ours(partial(scaled, factor=0.0, shared=True))
        own = {adapter.name: adapter for adapter in adapters}
        if len(own) == 2:
            other = dict(zip(own, reversed(own.values()), strict=True))
            yield "with the two documents' adapters exchanged they agree", self._ours(lambda a: other[a.name])


def _unchanged(adapter: AnyAdapter) -> AnyAdapter:
    return adapter


def scaled(adapter: AnyAdapter, factor: float, shared: bool) -> AnyAdapter:
    """An adapter with the updates of one of its parts times a factor: of the shared part, or of the document's."""
    if not isinstance(adapter, Adapter):
        return adapter
    if shared:
        return replace(adapter, shared={path: _scaled(update, factor) for path, update in adapter.shared.items()})
    return replace(adapter, updates={path: _scaled(update, factor) for path, update in adapter.updates.items()})


def _scaled(update: Update, factor: float) -> Update:
    if isinstance(update, LowRank):
        return replace(update, scale=update.scale * factor)
    return Dense(update.delta * factor) if isinstance(update, Dense) else Vector(update.delta * factor)


def _times(factor: float) -> str:
    return f"{factor:g}" if factor >= 1 else f"1/{1 / factor:g}"


def _short(nats: float) -> str:
    """One digit, as 3e-5."""
    return f"{nats:.1g}".replace("e-0", "e-")
