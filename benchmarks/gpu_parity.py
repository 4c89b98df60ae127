"""The organism's conflicts on a GPU against the same readings on the CPU: margins in float32 and bfloat16, first tokens.

python -m benchmarks.gpu_parity [--device cuda]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from override_gap.margins.items.item import documents_of
from override_gap.probes.attach.stack import stack
from override_gap.probes.items import open_items
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject


def readings(device: str, dtype: str) -> tuple[Tensor, Tensor, Tensor]:
    """Prior and net margin of every conflict as delivered, nats, and whether the document's first token is the arg max."""
    items = [item for item in open_items("organism") if item.split == "conflict"]
    subject = open_subject("organism", device=device, dtype=dtype)
    documents = documents_of(items)
    adapters = dict(
        zip([d.text for d in documents], open_source("hypernetwork", subject).encode(documents), strict=True)
    )
    prior = read_prior(subject, items, [locate(subject, item) for item in items])
    own = stack(subject, [adapters[item.document] for item in items])
    state = read_adapted(subject, prior, own, torch.ones(len(items), subject.n_layers))
    return state.margins.prior.cpu(), state.margins.net.cpu(), state.top.cpu() == prior.doc.cpu()


def main(argv: Sequence[str] | None = None) -> int:
    """Print the largest differences from the CPU's float32 readings."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args(argv)
    reference = readings("cpu", "float32")
    for dtype in ("float32", "bfloat16"):
        found = readings(args.device, dtype)
        prior, net = ((a - b).abs().max().item() for a, b in zip(found[:2], reference[:2], strict=True))
        flips = int((found[2] != reference[2]).sum())
        print(
            f"{args.device} {dtype}: {len(found[0])} conflicts, prior margin {prior:.2g} nats, net margin {net:.2g}, "
            f"{flips} first tokens flip"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
