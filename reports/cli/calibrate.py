"""`override-gap calibrate`: audit adapters that were planted in the organism, and count correct verdicts and causes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from override_gap.reports.cli._args import writable
from override_gap.reports.cli._say import say, say_text
from override_gap.reports.cli.main import DONE, parser

if TYPE_CHECKING:
    from override_gap.analyses.calibration import Trial
    from override_gap.probes.organism.plants.plant import Plant

SHARES = (1.0, 0.5)
"""Shares of the knowledge points: all 72 (194 conflicts), and 36 (97 on average)."""
HEADS = {
    "confusion": """# Does the verdict name the known fault?

Adapters were made to fail in a known way (*plants*: too weak, without the document's content, and so on), and audited as any
method is. Each row is one kind of plant: *truth* is the verdict that it deserves, the columns behind count the verdicts that
were given, and *right* is the share that were right, with its interval *low* to *high*. The last two count what hypothesis H2
says. Verdicts: [glossary](../glossary.md); how it was made: [calibration](README.md).

""",
    "causes": """# Is each failure given the right cause?

Beside its verdict a report gives every failed question a cause, such as *too weak* or *no content*. Here adapters were made
to fail for a known reason (*known cause*; several, where the making leaves it open which), and the columns count the causes
that were given to their failed questions; *right* is the share given a known one. How it was made: [calibration](README.md).

""",
}
"""What stands above each table in its file."""
EPILOG = """examples:
  override-gap calibrate
  override-gap calibrate --plants times-0.1 forgetting mean-adapter
  override-gap calibrate --subject organism organisms/1/model --seeds 2 --draws 4 --out runs/two-worlds

Each plant is measured once per organism and seed; --draws audits are drawn from every measurement. A run that is complete is not
measured again. --out receives the runs, confusion.md, causes.md and both as CSV.
"""


def main(argv: Sequence[str]) -> int:
    """Measure the plants over several organisms and seeds; print both confusion matrices and write them under --out."""
    arguments = parser("calibrate", EPILOG)
    arguments.add_argument(
        "--out", type=Path, default=Path("runs/calibration"), metavar="RUN", help="default: runs/calibration"
    )
    arguments.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="measurements per plant and organism, each with other documents (default 1)",
    )
    arguments.add_argument(
        "--draws", type=int, default=4, metavar="N", help="audits drawn from each measurement and size (default 4)"
    )
    arguments.add_argument("--plants", nargs="+", metavar="NAME", help="only these (default: all)")
    arguments.add_argument(
        "--subject",
        nargs="+",
        default=["organism"],
        metavar="S",
        help="model folders of organisms, one or more worlds (default: the shipped one)",
    )
    arguments.add_argument("--json", action="store_true", help="print the confusion matrices as JSON")
    arguments.add_argument("--quiet", action="store_true", help="no progress")
    args = arguments.parse_args(argv)
    for name in ("seeds", "draws"):
        if getattr(args, name) < 1:
            arguments.error(f"--{name} needs a whole number of at least 1, got {getattr(args, name)}")
    from override_gap.probes.organism.plants.catalogue import PLANTS

    for name in args.plants or ():
        if name not in PLANTS:
            near = difflib.get_close_matches(name, PLANTS, n=1)
            arguments.error(
                f"no plant {name!r}{f'; did you mean {near[0]!r}?' if near else ''} Known: {', '.join(PLANTS)}"
            )
    writable(args.out, folder=True)
    from override_gap.analyses.calibration import cause_confusion, confusion, markdown
    from override_gap.margins.whole_files import write_text

    plants = [plant for plant in PLANTS.values() if not args.plants or plant.name in args.plants]
    trials: list[Trial] = []
    for world, name in enumerate(args.subject):
        for seed in range(args.seeds):
            trials += audit_plants(name, plants, seed, args.draws, args.out / f"world-{world}", args.quiet)
    tables = {"confusion": confusion(trials), "causes": cause_confusion(trials)}
    for name, table in tables.items():
        text = markdown(table)
        say_text(str(table.to_json(orient="records")) if args.json else f"{text}\n")
        write_text(args.out / f"{name}.md", f"{HEADS[name]}{text}\n")
        write_text(args.out / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    return DONE


def audit_plants(
    name: str, plants: Sequence[Plant], seed: int, draws: int, folder: Path, quiet: bool = False
) -> list[Trial]:
    """Measure each plant in one organism, on items drawn by the seed, and judge audits drawn from the readings."""
    from override_gap.analyses.calibration import trial
    from override_gap.analyses.readings import load
    from override_gap.probes.organism.plants.items import context_for
    from override_gap.probes.plan import Plan
    from override_gap.probes.run.loop import run
    from override_gap.probes.sources.hypernetwork import organism_of
    from override_gap.probes.sources.planted import PlantedSource
    from override_gap.probes.subject.load import open_subject

    subject = open_subject(name)
    organism = organism_of(subject)
    contexts = {kind: context_for(organism, seed, kind) for kind in sorted({plant.runner_up for plant in plants})}
    plan = Plan(policies="as-delivered", probes=("margins", "search"), seed=seed, batch_size=128)
    trials: list[Trial] = []
    for number, plant in enumerate(plants, 1):
        if not quiet:
            say(f"{name}, seed {seed}: {plant.name} ({number} of {len(plants)})", error=True)
        source = PlantedSource(plant, contexts[plant.runner_up], seed)
        out = run(plan, subject, source, list(source.context.items), folder / f"{plant.name}-{seed}")
        readings = load(out)
        for share in SHARES:
            for draw in range(draws):
                causes = source.planted.causes if draw == 0 else None
                trials.append(trial(readings, plant.name, plant.truth, str(out), share, draw, causes))
    return trials
