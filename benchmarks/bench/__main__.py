"""python -m benchmarks.bench [ROW ...] [--subject S] [--repeats N]: measure rows, store results, write docs/performance.md."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.bench.record import Line

# before torch is imported: one thread, so that CPU seconds count work and not threads that wait
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main(argv: Sequence[str]) -> int:
    """Measure the rows named, or all."""
    from benchmarks.bench import page, record, rows
    from benchmarks.bench.arguments import positive_integer

    known = sorted(module.name for module in pkgutil.iter_modules(rows.__path__))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(known)} (default: all)")
    parser.add_argument("--subject", choices=list(page.NAMED), help="default: both, where a row has both")
    parser.add_argument("--repeats", type=positive_integer, default=5, help="turns of each side (default 5)")
    parser.add_argument("--page", action="store_true", help="only write the page from the stored results")
    args = parser.parse_args(argv)
    unknown = [row for row in args.rows if row not in known]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; known: {', '.join(known)}")
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    measured = {name: importlib.import_module(f"benchmarks.bench.rows.{name}") for name in args.rows or known}
    selected = [
        (name, subject) for name, row in measured.items() for subject in row.SUBJECTS if args.subject in (None, subject)
    ]
    idle = [name for name in args.rows if all(name != other for other, _ in selected)]
    if idle:
        parser.error(f"row {idle[0]} has no subject {args.subject}")
    try:
        for name, subject in [] if args.page else selected:
            start = time.perf_counter()
            lines, inputs = measured[name].run(subject, args.repeats)
            record.write(name, subject, lines, {"repeats": args.repeats, **inputs})
            for line in lines:
                print(printed(f"{name} {subject}".strip(), line), flush=True)
            print(f"{name} {subject}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        missing = page.write()
    except record.RecordError as fault:
        parser.error(str(fault))
    except KeyboardInterrupt:
        print("\ninterrupted; results of finished rows are stored", file=sys.stderr)
        return 130
    for file in missing:
        print(f"{file.name}: not measured yet, so it is not on the page", file=sys.stderr)
    return 0


def printed(row: str, line: Line) -> str:
    """A line as it is printed."""
    v = line.value
    goal = "" if line.goal is None else f" (goal {line.goal[0]} {line.goal[1]:g}: {'met' if line.met else 'missed'})"
    spread = f"{v['median']:.3g} [{v['low']:.3g}, {v['high']:.3g}] {line.unit}"
    return f"{row}: {line.measure} / {line.against}: {spread}{goal}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
