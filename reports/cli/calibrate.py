"""`override-gap calibrate`: audit faults planted in the organism's hypernetwork, and say whether the verdict finds each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from reports.cli.main import DONE, parser

SIZES = (72, 48, 24)


def main(argv: Sequence[str]) -> int:
    """Measure every planted fault over several seeds; print the confusion matrix and write it under --out."""
    made = parser("calibrate", "example:\n  override-gap calibrate --seeds 5 --out runs/calibration\n")
    made.add_argument(
        "--out", type=Path, default=Path("runs/calibration"), metavar="RUN", help="default: runs/calibration"
    )
    made.add_argument("--seeds", type=int, default=3, metavar="N", help="how often each fault is planted (default 3)")
    made.add_argument(
        "--subject", default="organism", metavar="S", help="an organism's model folder (default: the shipped one)"
    )
    args = made.parse_args(argv)
    if args.seeds < 1:
        made.error(f"--seeds needs a whole number from 1, got {args.seeds}")
    from analyses.calibration import confusion, markdown, trial
    from analyses.frame import load
    from margins.items import read_items
    from probes.load import open_subject
    from probes.organism.faults import FAULTS
    from probes.plan import Plan
    from probes.run import run
    from probes.sources.hypernetwork import OrganismHypernetwork, organism_of

    subject = open_subject(args.subject)
    organism = organism_of(subject)
    items = [item for item in read_items(organism.folder / "items.jsonl") if item.split == "conflict"]
    trials = []
    for fault in FAULTS:
        for seed in range(args.seeds):
            print(f"{fault.name}, seed {seed}", file=sys.stderr, flush=True)
            plan = Plan(policies="as-delivered,uniform", probes=("margins", "critical"), seed=seed, batch_size=128)
            out = args.out / f"{fault.name}-{seed}"
            readings = load(run(plan, subject, OrganismHypernetwork(organism, fault, seed), items, out))
            trials += [trial(readings, fault.name, fault.truth, seed, points) for points in SIZES]
    table = confusion(trials)
    text = markdown(table)
    print(text)
    (args.out / "confusion.md").write_text(text + "\n")
    table.to_csv(args.out / "confusion.csv", index=False)
    return DONE
