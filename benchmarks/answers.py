"""How much faster is generating answers in a batch than one at a time? SmolLM2, one adapter per document, 64 new tokens.

python benchmarks/answers.py [SUBJECT] [DOCUMENTS] > docs/speed/answers.md
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pandas as pd
import torch

from override_gap.analyses.calibration import markdown
from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Item, documents_of
from override_gap.probes.attach.stack import stack
from override_gap.probes.items import open_items
from override_gap.probes.readings.generation import generate
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject

SINGLE = 8


def main(name: str = "smollm2", documents: str = "64") -> None:
    """Print CPU seconds per document of both ways and their ratio; both must give the same strings.

    CPU seconds of one thread, since wall-clock time also depends on other load. One at a time is measured on SINGLE
    documents spread over the set.
    """
    torch.set_num_threads(1)
    subject = open_subject(name, device="cpu")
    items = list({item.document: item for item in open_items("starter") if item.split == "conflict"}.values())
    items = items[: int(documents)]
    adapters = open_source("fitted:steps=1,lr=1e-2", subject).encode(documents_of(items))
    indices = range(0, len(items), max(1, len(items) // SINGLE))
    alone, singly = timed(lambda: [answers(subject, [items[n]], [adapters[n]])[0] for n in indices])
    together, batched = timed(lambda: answers(subject, items, adapters))
    same = sum(a == together[n] for n, a in zip(indices, alone, strict=True))
    if same < len(indices):
        raise SystemExit(
            f"{len(indices) - same} of {len(indices)} answers differ between the two ways, so no ratio is reported"
        )
    single, batch = singly / len(indices), batched / len(items)
    row = {
        "documents in one batch": len(items),
        "documents one at a time": len(indices),
        "one at a time, s per document": f"{single:.2f}",
        "one batch, s per document": f"{batch:.2f}",
        "ratio": f"{single / batch:.1f}",
        "same answers": f"{same} of {len(indices)}",
    }
    print("# Answers of a batch against one at a time\n")
    print(
        "How much time is saved by letting the model answer many questions at once, each with the adapter of its own document, "
        "instead of one after\nthe other? One measurement, whose answers have to be the same both ways.\n"
    )
    print(
        f"Greedy answers of {subject.name} under one fitted adapter per document, up to 64 new tokens, key-value cache on "
        "both sides, float32, CPU seconds of one thread; `python benchmarks/answers.py` writes this page. Seconds depend on "
        "the machine; the ratio is of one run.\n"
    )
    print(markdown(pd.DataFrame([row])))


def answers(subject: Subject, items: list[Item], adapters: list[Adapter]) -> list[str]:
    """The items' answers under their adapters as delivered, as one batch."""
    return generate(subject, items, stack(subject, adapters), torch.ones(len(items), subject.n_layers))


def timed(act: Callable[[], list[str]]) -> tuple[list[str], float]:
    """The result of a call, and the CPU seconds it took."""
    start = time.process_time()
    result = act()
    return result, time.process_time() - start


if __name__ == "__main__":
    main(*sys.argv[1:3])
