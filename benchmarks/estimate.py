"""How far the time that an audit says before its first batch is from the time that it takes.

`python -m benchmarks.estimate [SUBJECT ADAPTERS ITEMS]` audits with several sets of policies and probes and prints both.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import override_gap as og
from override_gap.probes.run import audit

AUDITS: tuple[dict[str, Any], ...] = (
    {"limit": 40, "policies": "as-delivered,uniform,slb", "probes": "margins"},
    {"limit": 40, "policies": "as-delivered"},
    {"limit": 150, "policies": "as-delivered,uniform-1.5,slb"},
    {"limit": 150},
)


def main(words: list[str]) -> None:
    """Audit, and print estimate, true time and their ratio, one line each."""
    subject, adapters, items = words or ("organism", "hypernetwork", "organism")
    for settings in AUDITS:
        said: list[float | None] = []
        began: list[float] = []
        expected = audit.seconds_of

        def heard(*given: Any, expected: Any = expected, said: Any = said, began: Any = began) -> float | None:
            said.append(expected(*given))
            began.append(time.monotonic())
            return said[-1]

        audit.seconds_of = heard
        try:
            with tempfile.TemporaryDirectory() as folder:
                og.audit(subject, adapters, items, out=Path(folder) / "run", say=lambda _: None, **settings)
        finally:
            audit.seconds_of = expected
        true = time.monotonic() - began[0]
        if (thought := said[0]) is not None:
            print(
                f"{json.dumps(settings)}: said {thought:.1f} s, took {true:.1f} s, ratio {thought / true:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
