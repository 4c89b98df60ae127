"""How far this toolkit's as-delivered reading is from a method's own model, and what a wrong scale would look like.

    python benchmarks/real/difference.py SOURCE native.safetensors [--wrong 0.354]

SOURCE is what `override-gap audit --adapters` takes; native.safetensors is what `native.py` wrote in the method's
environment. For every question: the largest difference of any logit, nats, on the same token ids; with `--wrong`, the same with
every update that many times as large as delivered.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from override_gap.margins.adapter import AnyAdapter
from override_gap.margins.items.item import Document
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.runtime import RuntimeBatch, batched, final_states
from override_gap.probes.sources import open_source
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject


@torch.no_grad()
def logits(subject: Subject, adapter: AnyAdapter, ids: list[int], gain: float) -> Tensor:
    """[vocab] at the last of `ids`, under the adapter at a gain."""
    row, none = torch.tensor([ids]), torch.zeros(1, dtype=torch.long)
    batch = Batch(row, torch.ones_like(row), torch.tensor([len(ids) - 1]), none)
    together = batched(subject, [adapter], [len(ids)])
    if isinstance(together, RuntimeBatch):
        return subject.logits(final_states(subject, batch, together, [0]))[0]
    with attached(subject, together, torch.full((1, subject.n_layers), gain)):
        return subject.logits(forward(subject, batch, batch.at[:, None]).final[:, 0])[0]


def main() -> int:
    """Compare a source with the method's own logits."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("source", help="as `override-gap audit --adapters` takes it")
    parser.add_argument("native", type=Path, help="the method's own logits")
    parser.add_argument("--wrong", type=float, help="a wrong scale, as a multiple of the right one")
    parser.add_argument("--subject", default="smollm2")
    args = parser.parse_args()
    subject = open_subject(args.subject, device="cpu")
    with safe_open(args.native, "pt") as file:
        index, theirs = json.loads(file.metadata()["index"]), file.get_tensor("logits")
    documents = [Document(text) for text in dict.fromkeys(row["document"] for row in index)]
    adapters = open_source(args.source, subject).encode(documents)
    by_text = {document.text: adapter for document, adapter in zip(documents, adapters, strict=True)}
    own_ids = sum(list(subject.tokenize(row["text"])) != row["ids"] for row in index)
    gains = [0.0, 1.0, *([args.wrong] if args.wrong else [])]
    far: dict[float, list[float]] = {gain: [] for gain in gains}
    for row, native in zip(index, theirs, strict=True):
        for gain in gains:
            far[gain].append((logits(subject, by_text[row["document"]], row["ids"], gain) - native).abs().max().item())
    places = len(getattr(adapters[0], "paths", ()))
    print(f"{len(index)} questions on {len(documents)} documents, {places} updates each")
    print(f"questions whose token ids differ between the two tokenisers: {own_ids}")
    print(f"largest difference from the method's own logits: {max(far[1.0]):.2g} nats")
    print(f"the base without an adapter is {min(far[0.0]):.2g} to {max(far[0.0]):.2g} nats away")
    if args.wrong:
        print(
            f"with every update {args.wrong:g} times as large: {min(far[args.wrong]):.2g} to {max(far[args.wrong]):.2g} nats away"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
