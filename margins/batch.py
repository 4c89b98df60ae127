"""Batch: what a condition may ask of a batch of items, one method per way of running the model."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

from override_gap.margins.gain_policies import Policy

R = TypeVar("R")
Readings = TypeVar("Readings", covariant=True)


@runtime_checkable
class Batch(Protocol[Readings]):
    """What a condition may ask of a batch of items: one method per way of running the model."""

    def base(self) -> Readings:
        """The base model, no adapter."""
        ...

    def delivered(self) -> Readings:
        """Each item under its own adapter at gain 1."""
        ...

    def scaled(self, policy: Policy) -> Readings:
        """Each item under its own adapter, at the gains that the policy sets."""
        ...

    def fused(self, gain: float) -> Readings:
        """base + gain * (adapted - base) on the logits."""
        ...

    def prompted(self, prompt: str, *, documents: int = 1, adapted: bool = False) -> Readings:
        """Each item's texts in a prompt, with so many documents; the model is the base, or adapted at gain 1."""
        ...

    def joined(self, documents: int, *, mean: bool = False) -> Readings:
        """Each item under the adapters of so many documents joined into one, its own among them, at gain 1.

        They are added up; with `mean` their factors are averaged.
        """
        ...

    def reworded(self, wording: str) -> Readings:
        """Each item under the adapter made of its document in other words, at gain 1."""
        ...

    def under_other(self) -> Readings:
        """Each item under another document's adapter, at gain 1."""
        ...

    def under_mean(self) -> Readings:
        """Each item under the mean adapter of documents about other knowledge points, at gain 1."""
        ...

    def under_random(self) -> Readings:
        """Each item under a random adapter of its own adapter's norm and rank at every weight, at gain 1."""
        ...
