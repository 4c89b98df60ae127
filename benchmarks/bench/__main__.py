"""python -m benchmarks.bench [ROW ...] [--subject S] [--repeats N]: measure rows, keep them, write docs/performance.md."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import time
from collections.abc import Sequence

# before torch is imported: one thread, so that CPU seconds are seconds of work and not of waiting
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main(argv: Sequence[str]) -> int:
    """Measure the rows named, or all."""
    from benchmarks.bench import page, record, rows

    known = sorted(found.name for found in pkgutil.iter_modules(rows.__path__))
    made = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    made.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(known)} (default: all)")
    made.add_argument("--subject", default="smollm2", help="smollm2 (default) or organism")
    made.add_argument("--repeats", type=int, default=5, help="turns of each side (default 5)")
    made.add_argument("--page", action="store_true", help="only write the page from what is kept")
    args = made.parse_args(argv)
    unknown = [row for row in args.rows if row not in known]
    if unknown:
        made.error(f"no row {unknown[0]!r}; known: {', '.join(known)}")
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    for name in [] if args.page else args.rows or known:
        start = time.perf_counter()
        row = importlib.import_module(f"benchmarks.bench.rows.{name}")
        lines, inputs = row.run(args.subject, args.repeats)
        record.write(name, lines, {"subject": args.subject, "repeats": args.repeats, **inputs})
        for line in lines:
            v = line.value
            spread = f"{v['median']:.3g} [{v['low']:.3g}, {v['high']:.3g}] {line.unit}"
            goal = (
                ""
                if line.goal is None
                else f" (goal {line.goal[0]} {line.goal[1]:g}: {'met' if line.met else 'missed'})"
            )
            print(f"{name}: {line.measure} / {line.against}: {spread}{goal}", flush=True)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    page.write()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
