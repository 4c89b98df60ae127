"""Batching: which rows of a sorted list run together, so that little of a batch is padding."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from override_gap.probes.subject.model import Subject

#: What one more forward pass costs beside its tokens, in tokens: a pass starts some thirty operations a layer and reads every
#: weight. `python -m benchmarks.pass_start`, on one CPU thread, finds some 25 for SmolLM2 on one machine and 53 on another, and
#: 100 and more for the organism. A larger number buys fewer passes with more padding.
START = 36


def batches(lengths: Sequence[int], most: int) -> list[range]:
    """Runs of neighbouring rows, at most `most` each, that cost the least: rows x longest row + START, summed.

    Lengths are in tokens and ascend. The least is found exactly, by dynamic programming over where the last batch starts.
    """
    assert list(lengths) == sorted(lengths), "rows are sorted by length first"
    best, start = [0], [0]
    for end in range(1, len(lengths) + 1):
        options = [
            (best[first] + (end - first) * lengths[end - 1] + START, first) for first in range(max(0, end - most), end)
        ]
        cost, first = min(options)
        best.append(cost)
        start.append(first)
    cuts, end = [], len(lengths)
    while end:
        cuts.append(range(start[end], end))
        end = start[end]
    return cuts[::-1]


def padding_waste(lengths: Sequence[int], parts: Sequence[range]) -> float:
    """The share of the fed positions that is padding."""
    fed = sum(len(part) * max(lengths[n] for n in part) for part in parts)
    return 1 - sum(lengths) / fed if fed else 0.0


#: The share of the free memory that a batch may take: estimates are not exact, and other programs want some too.
SHARE = 0.5
#: More rows than this gain nothing: arithmetic is what limits a batch long before.
MOST = 128


def rows_that_fit(subject: Subject, positions: int, free: int | None = None) -> int:
    """Rows of so many positions that fit, between 1 and MOST. `free`: bytes, asked of the device by default."""
    free = free_bytes(subject.device) if free is None else free
    return max(1, min(MOST, int(SHARE * free // row_bytes(subject, positions))))


def row_bytes(subject: Subject, positions: int) -> int:
    """What one row takes at most, in bytes.

    At each position, in the model's dtype: the stream after every layer, kept for the base's and the delivered pass, and
    the widest layer's inner state three times over (gate, value and product). At the one position read, in float32: the
    logits of the base, the delivered pass, the pass under way, and a copy.
    """
    config = subject.model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * subject.d_model
    size = torch.finfo(subject.dtype).bits // 8
    each = size * (2 * subject.n_layers * subject.d_model + 3 * inner + 8 * subject.d_model)
    return positions * each + 4 * 4 * subject.unembedding.shape[0]


def free_bytes(device: torch.device) -> int:
    """Free memory where the model is: of the GPU, or of the machine, as Linux tells it; 4 GiB where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    told = Path("/proc/meminfo")
    for line in told.read_text().splitlines() if told.is_file() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 4 * 2**30


Row = TypeVar("Row")
Result = TypeVar("Result")
# what torch raises as a plain RuntimeError on CPU, MPS and inside CUDA's libraries
WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


@dataclass
class BatchSizer:
    """The largest batch that memory took, once it ran out; None before. One for a whole run: it is never raised again."""

    most: int | None = None

    def each(
        self,
        parts: Iterable[Sequence[Row]],
        work: Callable[[Sequence[Row]], Result],
        alone: Callable[[Row, BaseException], Result],
    ) -> Iterator[Result]:
        """The work on every part in its order; a part that memory does not hold is done in halves.

        `alone` says what becomes of a row that memory does not hold by itself.
        """
        for part in parts:
            first = 0
            while first < len(part):
                some = part[first : first + (self.most or len(part))]
                result, fault = self._tried(some, work)
                if fault is None:
                    yield result  # type: ignore[misc]
                elif len(some) == 1:
                    yield alone(some[0], fault)
                else:
                    self.most = len(some) // 2
                    continue
                first += len(some)

    @staticmethod
    def _tried(
        some: Sequence[Row], work: Callable[[Sequence[Row]], Result]
    ) -> tuple[Result | None, BaseException | None]:
        try:
            return work(some), None
        except (MemoryError, RuntimeError) as fault:
            if not out_of_memory(fault):
                raise
            # its frames hold the tensors that did not fit
            kept = fault.with_traceback(None)
        release_memory()
        return None, kept


def out_of_memory(fault: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, says that host or device memory ran out."""
    while fault is not None:
        said = str(fault).lower()
        if isinstance(fault, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(fault, RuntimeError) and any(word in said for word in WORDS):
            return True
        fault = fault.__cause__
    return False


def release_memory() -> None:
    """Collect garbage and empty the GPU's cache."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
