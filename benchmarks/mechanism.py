"""What the mechanism probes show on made-up worlds and on a real model: the prior changed, the margin split, adapters compared.

Each subject is audited under its hypernetwork and under fitted adapters, once for each of two sets of probes.

    python benchmarks/mechanism.py --worlds worlds/6 worlds/7 --out runs/mechanism > docs/mechanism.md

`worlds/N` is made by `override-gap organism train --seed N --out worlds/N`. If interrupted, give the same command again to
resume; `--only NAME ...` audits some subjects, `--read` writes the page from the run folders as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.mechanism_page import page
from override_gap.analyses.readings import RunFrame, load
from override_gap.margins.items.item import Item
from override_gap.probes.items import open_items
from override_gap.probes.run.audit import audit
from override_gap.reports.cli._progress import ProgressBar

POLICIES = ("as-delivered", "uniform-0.5", "uniform-2", "null-other")
PARTS = {
    "split": ("margins", "layers", "causal", "gain-path", "components", "geometry", "neutral"),
    "dose": ("margins", "prior-dose"),
}
"""Two audits of each subject, so that each can be made again by itself; of what both hold the first is shown."""
STRONG = "fitted:steps=8,lr=1e-2"


@dataclass(frozen=True)
class Case:
    """One audit: its name on the page, the subject, the adapters and the items by part."""

    name: str
    subject: str
    adapters: str
    items: Callable[[str], str | list[Item]]


def benchmark(part: str) -> list[Item]:
    """Conflicts of the benchmark and the retention questions beside them; of every second point where each layer is run alone."""
    every = 1 if part == "dose" else 2
    items = [item for item in open_items("benchmark") if item.split in ("conflict", "retention")]
    points = sorted({item.point for item in items if item.split == "conflict"})[::every]
    return [item for item in items if item.point in points]


def named(items: str, part: str) -> str:
    """The same items in both parts."""
    return items


def cases(worlds: Sequence[Path]) -> list[Case]:
    """The organism as shipped, the worlds given, and SmolLM2, each under a hypernetwork and under fitted adapters."""
    found = []
    own = [("organism", "organism", partial(named, "organism"))]
    own += [(f"world {w.name}", str(w / "model"), partial(named, str(w / "items.jsonl"))) for w in worlds]
    own += [("SmolLM2", "smollm2", benchmark)]
    for name, subject, items in own:
        found += [Case(name, subject, "hypernetwork", items), Case(f"{name}, fitted", subject, STRONG, items)]
    return found


def audited(case: Case, part: str, folder: Path) -> RunFrame:
    """Audit a case into its folder, or go on with it."""
    print(case.name, part, file=sys.stderr)
    settings = {"policies": POLICIES, "probes": PARTS[part], "answers": 0, "device": "cpu"}
    with ProgressBar(quiet=False) as bar:
        return load(audit(case.subject, case.adapters, case.items(part), out=folder, progress=bar, **settings))


def main(argv: Sequence[str] | None = None) -> int:
    """Audit every case and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/mechanism"), help="folder for the run folders")
    parser.add_argument("--worlds", type=Path, nargs="*", default=[], help="folders of trained organisms")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS), help="which probes")
    parser.add_argument("--only", nargs="*", help="names of the cases to audit")
    parser.add_argument("--read", action="store_true", help="write the page from the run folders as they are")
    args = parser.parse_args(argv)
    frames: dict[str, dict[str, RunFrame]] = {}
    for case in cases(args.worlds):
        if args.only and case.name not in args.only:
            continue
        for part in args.parts:
            folder = args.out / f"{case.name.replace(', ', '-').replace(' ', '-')}-{part}"
            if args.read and not any((folder / "readings").glob("*.parquet")):
                continue
            frame = load(folder) if args.read else audited(case, part, folder)
            frames.setdefault(case.name, {})[part] = frame
    print(page(frames))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
