"""Adapters encoded one by one: what a method's own logits are compared with where a batch changes an adapter's last digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from override_gap.margins.adapter import Adapter, AdapterSource, NativeExample
from override_gap.margins.geometry import gram
from override_gap.margins.items.item import Document
from override_gap.probes.sources.custom import encode_checked

SAME_ADAPTER = 0.05
"""Two encodings of a document that differ by at most this share of their norm are one adapter with other rounding."""


@dataclass(frozen=True)
class EncodedAlone:
    """Examples under adapters that were encoded one by one, and how far these are from those of the batch."""

    examples: tuple[NativeExample, ...]
    says: str


def encoded_alone(
    source: AdapterSource, examples: Sequence[NativeExample], documents: Sequence[Document]
) -> EncodedAlone | None:
    """Documents encoded one by one, as a method's own logits are made; None where that gives other adapters altogether.

    A method that fits each document gives one that differs in its last digits with what is fitted beside it, and its steps
    make more of that: logits of one are then not those of the other. What is no rounding is left to the comparison itself.
    """
    made, largest = [], 0.0
    for example, document in zip(examples, documents, strict=True):
        [adapter] = encode_checked(source, [document])
        if not isinstance(adapter, Adapter) or not isinstance(example.adapter, Adapter):
            return None
        products = torch.stack(list(gram([example.adapter, adapter]).values())).sum(0)
        apart = (products[0, 0] + products[1, 1] - 2 * products[0, 1]).clamp_min(0).sqrt() / products[1, 1].sqrt()
        largest = max(largest, float(apart))
        made.append(replace(example, adapter=adapter))
    if not largest <= SAME_ADAPTER:
        return None
    return EncodedAlone(
        tuple(made), f"adapters encoded alone, which differ by {largest:.2g} of their norm from those of a batch"
    )
