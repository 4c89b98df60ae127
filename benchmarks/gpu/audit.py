"""The organism's default audit on a device, without its page: python -m benchmarks.gpu.audit DEVICE DTYPE FOLDER [short].

The short one is the rehearsal's: margins of all items, under three conditions.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from override_gap.analyses.readings import load
from override_gap.analyses.summary import summarise
from override_gap.probes.items import open_items
from override_gap.probes.plan import plan_from
from override_gap.probes.run.loop import run
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject


def main(argv: Sequence[str]) -> int:
    """Write the readings and what the audit found."""
    device, dtype, folder, *rest = argv
    plan = replace(plan_from({}), device=device, dtype=dtype)
    if rest == ["short"]:
        plan = replace(plan, probes=("margins",), policies="as-delivered,uniform-2")
    out = Path(folder)
    started = time.perf_counter()
    subject = open_subject(plan.subject, device=device, dtype=dtype)
    run(plan, subject, open_source("hypernetwork", subject), open_items("organism"), out / "run")
    seconds = time.perf_counter() - started
    frame = load(out / "run")
    verdict = summarise(frame)["verdict"]
    frame.readings.to_parquet(out / "readings.parquet", index=False)
    (out / "about.json").write_text(json.dumps({"seconds": seconds, "label": verdict["label"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
