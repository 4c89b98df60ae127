"""How far this toolkit is from Doc-to-LoRA's own model on every question whose logits its script stored, and from mistakes.

    python benchmarks/real/doc_to_lora.py FILE.safetensors [--subject smollm2]

FILE is what `--python` wrote into RUN/adapters. Per mistake (scale, head bias, transposition, another base) the smallest of the
questions' largest differences of a logit: what a handshake would have seen at the least.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import LowRank
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.sources.compact import read_compact
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject


@torch.no_grad()
def logits(subject: Subject, adapter: Adapter | None, ids: tuple[int, ...]) -> Float[Tensor, " vocab"]:
    """Logits at the last token, under an adapter or of the base."""
    row = torch.tensor([ids])
    if adapter is None:
        return subject.model(input_ids=row).logits[0, -1]
    with attached(subject, stack(subject, [adapter]), torch.ones(1, subject.n_layers)):
        return subject.model(input_ids=row).logits[0, -1]


def rescaled(factor: float) -> Callable[[Adapter], Adapter]:
    """An adapter read with a wrong scale, its head bias too."""

    def change(adapter: Adapter) -> Adapter:
        updates, shared = (
            {path: LowRank(u.A, u.B, factor * u.scale) for path, u in part.items() if isinstance(u, LowRank)}
            for part in (adapter.updates, adapter.shared)
        )
        return Adapter(adapter.name, updates, shared)

    return change


def main() -> int:
    """Print the differences."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--subject", default="smollm2")
    args = parser.parse_args()
    subject, source = open_subject(args.subject, device="cpu", dtype="float32"), read_compact(args.file)
    examples = source.native_examples() if source.native_examples else ()
    documents = {example.adapter.name for example in examples}
    print(f"{len(examples)} questions on {len(documents)} of {len(source.index['documents'])} documents")
    mistakes: dict[str, Callable[[Adapter], Adapter | None]] = {
        "as exported": lambda adapter: adapter,
        "scale / 8 (alpha / r)": rescaled(1 / 8),
        "scale / 16": rescaled(1 / 16),
        "head bias forgotten": lambda adapter: Adapter(adapter.name, adapter.updates),
        "no adapter": lambda adapter: None,
    }
    gaps: dict[str, list[float]] = {name: [] for name in (*mistakes, "another base")}
    for example in examples:
        assert isinstance(example.adapter, Adapter)
        for name, change in mistakes.items():
            ours = logits(subject, change(example.adapter), example.ids)
            gaps[name].append((ours - example.logits).abs().max().item())
    with torch.no_grad():  # a base that was trained on: 1% of noise in each matrix
        torch.manual_seed(0)
        for weight in subject.model.parameters():
            if weight.ndim == 2:
                weight.add_(0.01 * weight.std() * torch.randn_like(weight))
    for example in examples:
        assert isinstance(example.adapter, Adapter)
        gaps["another base"].append((logits(subject, example.adapter, example.ids) - example.logits).abs().max().item())
    for name, values in gaps.items():
        print(f"{name}: {min(values):.2g} to {max(values):.2g} nats")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
