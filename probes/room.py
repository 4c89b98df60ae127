"""Room: how many items a batch may hold on this machine, found out by running out of memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

Row = TypeVar("Row")
Result = TypeVar("Result")
# what torch raises as a plain RuntimeError on CPU, MPS and inside CUDA's libraries
WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


@dataclass
class Room:
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
        release()
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


def release() -> None:
    """Give back what is no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
