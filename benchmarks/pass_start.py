"""The fixed cost of a forward pass, in tokens: the constant of `probes/readings/batching.py`.

python -m benchmarks.pass_start
"""

from __future__ import annotations

import statistics
import time

import torch

from override_gap.probes.subject.load import open_subject

LENGTHS = (4, 8, 16, 32, 64, 96)
REPEATS = 25


def start(name: str) -> float:
    """Intercept over slope of CPU seconds regressed on tokens; one row, one thread, lengths measured in turn."""
    model = open_subject(name, device="cpu").model.base_model
    rows = {length: torch.arange(5, 5 + length)[None] for length in LENGTHS}
    seconds: dict[int, list[float]] = {length: [] for length in LENGTHS}
    with torch.no_grad():
        for _ in range(REPEATS):
            for length, ids in rows.items():
                clock = time.process_time()
                model(input_ids=ids, use_cache=False)
                seconds[length].append(time.process_time() - clock)
    fit = statistics.linear_regression(LENGTHS, [statistics.median(times) for times in seconds.values()])
    return fit.intercept / fit.slope


if __name__ == "__main__":
    torch.set_num_threads(1)
    for subject in ("smollm2", "organism"):
        print(f"{subject}: {start(subject):.0f} tokens")
