"""`override-gap calibrate`: audit faults planted in the organism's hypernetwork, and count correct verdicts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from override_gap.reports.cli._args import writable
from override_gap.reports.cli.main import DONE, parser

if TYPE_CHECKING:
    from override_gap.analyses.calibration import Trial
    from override_gap.analyses.readings import RunFrame

SIZES = (72, 48, 24)
EPILOG = """examples:
  override-gap calibrate
  override-gap calibrate --seeds 5 --out runs/calibration --json
  override-gap calibrate --subject organism organisms/1/model --seeds 1 --out runs/two-worlds

--out receives the runs, confusion.md and confusion.csv.
"""


def main(argv: Sequence[str]) -> int:
    """Measure every planted fault over several seeds; print the confusion matrix and write it under --out."""
    arguments = parser("calibrate", EPILOG)
    arguments.add_argument(
        "--out", type=Path, default=Path("runs/calibration"), metavar="RUN", help="default: runs/calibration"
    )
    arguments.add_argument("--seeds", type=int, default=3, metavar="N", help="number of audits per fault (default 3)")
    arguments.add_argument(
        "--subject",
        nargs="+",
        default=["organism"],
        metavar="S",
        help="model folders of organisms, one or more worlds (default: the shipped one)",
    )
    arguments.add_argument("--json", action="store_true", help="print the confusion matrix as JSON")
    arguments.add_argument("--quiet", action="store_true", help="no progress")
    args = arguments.parse_args(argv)
    if args.seeds < 1:
        arguments.error(f"--seeds needs a whole number of at least 1, got {args.seeds}")
    writable(args.out, folder=True)
    from override_gap.analyses.calibration import confusion, markdown

    trials = [
        trial
        for world, name in enumerate(args.subject)
        for seed in range(args.seeds)
        for trial in audit_faults(name, seed, args.out / f"world-{world}", args.quiet)
    ]
    table = confusion(trials)
    text = markdown(table)
    print(table.to_json(orient="records") if args.json else text)
    (args.out / "confusion.md").write_text(text + "\n")
    table.to_csv(args.out / "confusion.csv", index=False)
    return DONE


def audit_faults(name: str, seed: int, folder: Path, quiet: bool = False) -> list[Trial]:
    """Audit every planted fault of one organism on the conflicts; the verdicts at each size."""
    from override_gap.analyses.calibration import trial
    from override_gap.analyses.readings import load
    from override_gap.margins.items.files import read_items
    from override_gap.margins.items.item import Document
    from override_gap.probes.organism.faults import (
        FAULTS,
        MEASURED_FAULTS,
        Fault,
        as_trained,
        growing_gain,
        repairing_gain,
    )
    from override_gap.probes.plan import Plan
    from override_gap.probes.run.loop import run
    from override_gap.probes.sources.hypernetwork import OrganismHypernetworkSource, organism_of
    from override_gap.probes.subject.load import open_subject

    subject = open_subject(name)
    organism = organism_of(subject)
    items = [item for item in read_items(organism.folder / "items.jsonl") if item.split == "conflict"]
    plan = Plan(policies="as-delivered,uniform", probes=("margins", "critical"), seed=seed, batch_size=128)

    def audit(source: OrganismHypernetworkSource, fault: str) -> RunFrame:
        if not quiet:
            print(f"{name}: {fault}, seed {seed}", file=sys.stderr, flush=True)
        return load(run(plan, subject, source, items, folder / f"{fault}-{seed}"))

    runs = {fault.name: audit(OrganismHypernetworkSource(organism, fault, seed), fault.name) for fault in FAULTS}
    rows = runs["as-trained"].select("conflict", "as-delivered")
    gains: dict[str, dict[str, float]] = {name: {} for name in MEASURED_FAULTS}
    for text, questions in rows.groupby("document"):
        key = Document(str(text)).key
        gains["growing"][key] = growing_gain(float(questions["prior_margin"].mean()))
        gains["amplified"][key] = repairing_gain(questions["critical_gain"].dropna().tolist())
    for name, truth in MEASURED_FAULTS.items():
        fault = Fault(name, truth, as_trained)
        runs[name] = audit(OrganismHypernetworkSource(organism, fault, seed, gains[name]), name)
    truths = {fault.name: fault.truth for fault in FAULTS} | MEASURED_FAULTS
    return [trial(readings, fault, truths[fault], seed, points) for fault, readings in runs.items() for points in SIZES]
