"""Batching: which rows of a sorted list run together, so that little of a batch is padding and it fits in memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from override_gap.probes.subject.model import Subject

#: The fixed cost of a forward pass, in tokens: it starts some thirty operations per layer and reads every weight.
#: `python -m benchmarks.pass_start`, on one CPU thread, measures some 25 for SmolLM2 on one machine and 53 on another, and 100
#: and more for the organism. A larger number gives fewer passes with more padding.
PASS_COST = 36


def batches(lengths: Sequence[int], most: int) -> list[range]:
    """Runs of neighbouring rows, at most `most` each, that cost the least: rows x longest row + PASS_COST, summed.

    Lengths are in tokens, ascending. The optimum is exact, by dynamic programming over where the last batch starts.
    """
    assert list(lengths) == sorted(lengths), "rows are sorted by length first"
    best, start = [0], [0]
    for end in range(1, len(lengths) + 1):
        options = [
            (best[first] + (end - first) * lengths[end - 1] + PASS_COST, first)
            for first in range(max(0, end - most), end)
        ]
        cost, first = min(options)
        best.append(cost)
        start.append(first)
    cuts, end = [], len(lengths)
    while end:
        cuts.append(range(start[end], end))
        end = start[end]
    return cuts[::-1]


def padding_waste(lengths: Sequence[int], cuts: Sequence[range]) -> float:
    """The share of the positions fed that is padding."""
    fed = sum(len(rows) * max(lengths[n] for n in rows) for rows in cuts)
    return 1 - sum(lengths) / fed if fed else 0.0


#: The share of the free memory that a batch may take: estimates are rough, and other programs need some too.
MEMORY_SHARE = 0.5
#: More rows than this gain nothing: arithmetic limits a batch long before.
MAX_ROWS = 128


def rows_that_fit(subject: Subject, positions: int, free: int | None = None) -> int:
    """How many rows of so many positions fit, between 1 and MAX_ROWS. `free`: bytes; by default what the device has free."""
    free = free_bytes(subject.device) if free is None else free
    return max(1, min(MAX_ROWS, int(MEMORY_SHARE * free // row_bytes(subject, positions))))


def row_bytes(subject: Subject, positions: int) -> int:
    """The most memory that one row takes, in bytes.

    At each position, in the model's dtype: the stream after every layer, kept for the base's and the delivered pass, and
    the widest layer's inner state three times (gate, value and product). At the one position read, in float32: the logits
    of the base, the delivered pass, the current pass, and a copy.
    """
    config = subject.model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * subject.d_model
    size = torch.finfo(subject.dtype).bits // 8
    per_position = size * (2 * subject.n_layers * subject.d_model + 3 * inner + 8 * subject.d_model)
    return positions * per_position + 4 * 4 * subject.unembedding.shape[0]


def free_bytes(device: torch.device) -> int:
    """Free memory of the model's device: of the GPU, or of the machine as Linux states it; 4 GiB where nothing states it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    for line in meminfo.read_text().splitlines() if meminfo.is_file() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 4 * 2**30


Row = TypeVar("Row")
Result = TypeVar("Result")
# messages of the plain RuntimeErrors that torch raises on CPU, MPS and inside CUDA's libraries
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


@dataclass
class BatchSizer:
    """`most` is the largest batch that fits in memory, once memory has run out; None before.

    One per run: the number is never raised again.
    """

    most: int | None = None

    def each(
        self,
        batches: Iterable[Sequence[Row]],
        work: Callable[[Sequence[Row]], Result],
        alone: Callable[[Row, BaseException], Result],
    ) -> Iterator[Result]:
        """The results of `work` on every batch, in order; a batch that does not fit in memory is halved.

        `alone` gives the result for a row that does not fit by itself.
        """
        for batch in batches:
            first = 0
            while first < len(batch):
                rows = batch[first : first + (self.most or len(batch))]
                result, fault = self._try(rows, work)
                if fault is None:
                    yield result  # type: ignore[misc]
                elif len(rows) == 1:
                    yield alone(rows[0], fault)
                else:
                    self.most = len(rows) // 2
                    continue
                first += len(rows)

    @staticmethod
    def _try(
        rows: Sequence[Row], work: Callable[[Sequence[Row]], Result]
    ) -> tuple[Result | None, BaseException | None]:
        """The result, or the error that says memory ran out."""
        try:
            return work(rows), None
        except (MemoryError, RuntimeError) as fault:
            if not out_of_memory(fault):
                raise
            # its frames refer to the tensors that did not fit
            bare = fault.with_traceback(None)
        release_memory()
        return None, bare


def out_of_memory(fault: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, means that host or device memory ran out."""
    while fault is not None:
        message = str(fault).lower()
        if isinstance(fault, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(fault, RuntimeError) and any(words in message for words in OUT_OF_MEMORY):
            return True
        fault = fault.__cause__
    return False


def release_memory() -> None:
    """Collect garbage and empty the GPU's cache."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
