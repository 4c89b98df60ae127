"""Results of a benchmark row as JSON, with the kind of machine and package versions, without host names or paths."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results"
PACKAGES = ("torch", "transformers", "transformer-lens", "nnsight", "peft", "numpy", "pandas", "pyarrow")


class RecordError(ValueError):
    """A stored result that cannot be shown; the message names the file and what to do."""


@dataclass(frozen=True)
class Line:
    """One measured figure: `value` with `median low high n` in `unit`, and its goal.

    `goal` is ("at most" | "at least", number); None for a figure that only explains another.
    """

    measure: str
    against: str
    value: Mapping[str, Any]
    unit: str = "ratio"
    goal: tuple[str, float] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the goal; None without one."""
        if self.goal is None:
            return None
        kind, bound = self.goal
        return self.value["median"] <= bound if kind == "at most" else self.value["median"] >= bound


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "n": len(values)}


def single(value: float, n: int = 1) -> dict[str, Any]:
    """A figure without a spread."""
    return {"median": value, "low": value, "high": value, "n": n}


def write(row: str, subject: str, lines: list[Line], inputs: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Store a row's lines for a subject, or for none; returns the file."""
    content = {
        "row": row,
        "subject": subject,
        "inputs": dict(inputs),
        "lines": [asdict(line) | {"met": line.met} for line in lines],
        "machine": machine(),
        "versions": {name: installed_version(name) for name in PACKAGES},
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = result_file(row, subject, folder)
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def result_file(row: str, subject: str, folder: Path = RESULTS) -> Path:
    """The file that stores a row's results for a subject."""
    return folder / f"{'-'.join(filter(None, (row, subject)))}.json"


def read(file: Path, **expected: str | None) -> dict[str, Any]:
    """A stored result. Raises RecordError where it is damaged, holds NaN or infinity, or is of another row or subject."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError) as fault:
        raise RecordError(f"{file}: cannot be read ({fault}); measure it again") from fault
    actual = {name: result.get(name) if isinstance(result, dict) else None for name in expected}
    if not isinstance(result, dict) or actual != expected:
        raise RecordError(f"{file}: need {expected}, got {actual}; measure it again")
    return result


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a finite number")


def machine() -> dict[str, Any]:
    """Processor, cores, threads in use and memory."""
    import torch

    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(pages / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
    }


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines() if Path(file).is_file() else []


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
