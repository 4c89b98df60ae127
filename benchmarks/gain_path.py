"""What the gain path costs beside `causal`, and how far its shares are from those at more gains.

`python -m benchmarks.gain_path organism` and `... smollm2 --limit 20 --batch 20` print the figures of docs/definitions.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from override_gap.margins.items.item import Document
from override_gap.margins.nested_quadrature import nested_rules
from override_gap.probes.attach.stack import part_stacks, stack
from override_gap.probes.items import open_items
from override_gap.probes.readings.layers import read_causal
from override_gap.probes.readings.margin_path import MarginPath, PathSlopes, read_margin_path
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.readings.reuse import ReusedPasses
from override_gap.probes.sources.open import open_source
from override_gap.probes.subject.load import open_subject

T = TypeVar("T")
ITEMS = {"organism": "organism", "smollm2": "benchmark"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("subject", choices=tuple(ITEMS))
    arguments.add_argument("--limit", type=int, default=194, help="conflicts")
    arguments.add_argument("--batch", type=int, default=64)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    subject = open_subject(options.subject)
    items = [i for i in open_items(ITEMS[options.subject]) if i.split == "conflict"][: options.limit]
    adapters = open_source("hypernetwork", subject).encode([Document(i.document) for i in items])
    order = sorted(zip(items, adapters, strict=True), key=lambda pair: len(locate(subject, pair[0]).fed))
    seconds: dict[str, float] = {}
    nodes, gaps, errors = [], [], []

    def timed(name: str, work: Callable[[], T]) -> T:
        begun = time.process_time()
        result = work()
        seconds[name] = seconds.get(name, 0.0) + time.process_time() - begun
        return result

    for start in range(0, len(order), options.batch):
        batch, own = zip(*order[start : start + options.batch], strict=True)
        prior = read_prior(subject, batch, [locate(subject, i) for i in batch], layers=True, keep_blocks=True)
        stacked, parts, layers = stack(subject, own), part_stacks(subject, own), list(range(subject.n_layers))
        passes = ReusedPasses(subject, prior, stacked, layers=True)
        delivered = passes.run_delivered()
        timed("shared", lambda p=prior, s=stacked, r=passes, n=layers: read_causal(subject, p, s, n, r))
        timed("plain", lambda p=prior, s=stacked, n=layers: read_causal(subject, p, s, n))
        path = timed("path", lambda p=prior, q=parts, d=delivered: read_margin_path(subject, p, q, d))
        assert isinstance(path, MarginPath), path
        slopes, rule, rows = PathSlopes(subject, prior, parts), nested_rules()[3], list(range(len(batch)))
        slopes.run(rows, rule)
        exact = torch.stack([slopes.integral(n, rule) for n in rows])
        shares, true = path.push - path.pull, exact[:, 0] - exact[:, 1]
        nodes.append(path.nodes)
        gaps.append(path.gap / delivered.margins.adapter.abs())
        errors.append((shares - true).abs().amax(1) / true.abs().amax(1))
        assert path.closed.all(), "an item is open"
    passes_taken, gap, error = torch.cat(nodes).float(), torch.cat(gaps), torch.cat(errors)
    print(
        f"{options.subject}: {len(items)} conflicts, all closed; gains per conflict {passes_taken.mean():.2f}, at most "
        f"{int(passes_taken.max())}; largest gap {gap.max():.2%} of the adapter margin; error of a share against "
        f"{len(nested_rules()[3].nodes)} gains, of the largest share: median {error.median():.2%}, largest {error.max():.2%}"
    )
    print(
        f"CPU seconds: gain path {seconds['path']:.2f}, causal with shared passes {seconds['shared']:.2f} (ratio "
        f"{seconds['path'] / seconds['shared']:.2f}), causal with plain passes {seconds['plain']:.2f} "
        f"({seconds['path'] / seconds['plain']:.2f})"
    )


if __name__ == "__main__":
    main()
