"""Whether a difference from a method's own logits is rounding: both routes in float32 against the same weights in float64.

    python benchmarks/real/in_float64.py SOURCE native.safetensors native64.safetensors

The files are what `shine.py --float64` wrote. The reference is the plain base in float64 with B A, times its scale, added to its
weights. Per route, over all questions, the largest difference of a logit from it, nats: this toolkit's as-delivered reading and
the method's own model in float32, and the method's own model in float64, whose difference is no rounding in float32.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from benchmarks.real.difference import logits
from benchmarks.real.native import in_float64
from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject


@torch.no_grad()
def merged(model: Any, adapter: Adapter, ids: list[int]) -> Tensor:
    """[vocab] at the last of `ids`, the updates added to the weights of a float64 model, which are put back."""
    weights = {path: model.get_submodule(path).weight for path in adapter.updates}
    before = {path: weight.clone() for path, weight in weights.items()}
    for path, update in adapter.updates.items():
        assert isinstance(update, LowRank)
        weights[path] += update.scale * update.B.double() @ update.A.double()
    row = model(input_ids=torch.tensor([ids])).logits[0, -1]
    for path, weight in weights.items():
        weight.copy_(before[path])
    return row


def main() -> int:
    """Print each route's largest difference, and those at the question where the two float32 routes differ most."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("source", help="as `override-gap audit --adapters` takes it")
    parser.add_argument("native", type=Path, help="the method's own logits in float32")
    parser.add_argument("native64", type=Path, help="the same in float64")
    parser.add_argument("--subject", default="smollm2")
    parser.add_argument("--base", type=Path, help="the subject's folder, where it is not the subject itself")
    args = parser.parse_args()
    subject = open_subject(args.subject, device="cpu", dtype="float32")
    with safe_open(args.native, "pt") as file, safe_open(args.native64, "pt") as wide:
        index, theirs, theirs64 = (
            json.loads(file.metadata()["index"]),
            file.get_tensor("logits"),
            wide.get_tensor("logits"),
        )
    documents = [Document(text) for text in dict.fromkeys(row["document"] for row in index)]
    adapters = dict(zip([d.text for d in documents], open_source(args.source, subject).encode(documents), strict=True))
    base = AutoModelForCausalLM.from_pretrained(args.base or args.subject, dtype=torch.float32).eval()
    reference, rows = in_float64(base), []
    for row, native, native64 in zip(index, theirs, theirs64, strict=True):
        adapter = adapters[row["document"]]
        assert isinstance(adapter, Adapter)
        true, ours = merged(reference, adapter, row["ids"]), logits(subject, adapter, row["ids"], 1.0)
        pairs = (ours, native), (ours, true), (native, true), (native64, true)
        rows.append([(a - b).abs().max().item() for a, b in pairs])
    worst = max(range(len(rows)), key=lambda n: rows[n][0])
    print(f"{len(index)} questions on {len(documents)} documents; logits up to {theirs.abs().max():.0f}")
    names = "this toolkit - method, float32", "this toolkit, float32 - float64", "method, float32 - float64"
    for n, name in enumerate((*names, "method in float64 - float64")):
        print(f"{name}: {max(row[n] for row in rows):.2g} nats; at question {worst} {rows[worst][n]:.2g}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
