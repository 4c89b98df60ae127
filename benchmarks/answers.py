"""How much faster are answers of a batch than one at a time? SmolLM2, an adapter a document, 64 new tokens.

python benchmarks/answers.py [SUBJECT] [DOCUMENTS] > docs/speed/answers.md
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pandas as pd
import torch

from analyses.calibration import markdown
from margins.adapter import Adapter
from margins.items import Item, documents_of
from probes.attach import stack
from probes.generation import generate
from probes.load import open_subject
from probes.sources import open_source
from probes.subject import Subject
from reports.cli.named import items_of

ROUNDS = 2


def main(name: str = "smollm2", documents: str = "64") -> None:
    """Print seconds of both routes, alternating, and their ratio; both must give the same strings."""
    subject = open_subject(name, device="cpu")
    items = list({item.document: item for item in items_of("starter") if item.split == "conflict"}.values())
    items = items[: int(documents)]
    adapters = open_source("fitted:steps=3", subject).encode(documents_of(items))
    answers(subject, items[:2], adapters[:2])
    rows = []
    for number in range(ROUNDS):
        alone, singly = timed(
            lambda: [
                text for n in range(len(items)) for text in answers(subject, items[n : n + 1], adapters[n : n + 1])
            ]
        )
        together, batched = timed(lambda: answers(subject, items, adapters))
        rows.append(
            {
                "round": number + 1,
                "documents": len(items),
                "one at a time, s": f"{singly:.1f}",
                "one batch, s": f"{batched:.1f}",
                "ratio": f"{singly / batched:.1f}",
                "same answers": f"{sum(a == b for a, b in zip(alone, together, strict=True))} of {len(items)}",
                "threads": torch.get_num_threads(),
            }
        )
    print("# Answers of a batch against one at a time\n")
    print(
        f"Greedy answers of {subject.name} under one fitted adapter a document, up to 64 new tokens, key-value cache on "
        "both sides, float32 on CPU; `python benchmarks/answers.py` writes this page. Seconds hang on the machine; the "
        "ratio is of one run.\n"
    )
    print(markdown(pd.DataFrame(rows)))


def answers(subject: Subject, items: list[Item], adapters: list[Adapter]) -> list[str]:
    """The items' answers under their adapters as delivered, as one batch."""
    return generate(subject, items, stack(subject, adapters), torch.ones(len(items), subject.n_layers))


def timed(act: Callable[[], list[str]]) -> tuple[list[str], float]:
    """What an act gives and how many seconds it took."""
    start = time.perf_counter()
    found = act()
    return found, time.perf_counter() - start


if __name__ == "__main__":
    main(*sys.argv[1:3])
