"""`override-gap doctor`: check a run folder, print what is missing or damaged and what to do, repair it with --repair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from override_gap.reports.cli._say import say, say_json
from override_gap.reports.cli.main import DONE, WRONG, parser

EPILOG = """examples:
  override-gap doctor runs/audit
  override-gap doctor runs/audit --repair
  override-gap doctor runs/merged

The last may name a folder that is not there yet: what a merge that was killed left beside it is found.
Exit code 0: everything there can be trusted and a finished run lacks nothing; 2 otherwise.
"""


def main(argv: Sequence[str]) -> int:
    """Print the diagnosis of a run folder; exit code 2 if anything in it is damaged, missing or inconsistent."""
    command = parser("doctor", EPILOG)
    command.add_argument("run", type=Path, metavar="RUN", help="a run folder, or where a command was to write")
    command.add_argument(
        "--repair", action="store_true", help="move what is damaged to RUN/damaged and remove what is half written"
    )
    command.add_argument("--json", action="store_true", help="print the diagnosis as JSON")
    if "" in argv:
        raise ValueError("doctor takes a folder, got an empty name; give the --out of an audit")
    if any("://" in word for word in argv):
        raise ValueError("doctor takes a folder, got a URL; copy it here first")
    args = command.parse_args(argv)
    from override_gap.margins.text import plural
    from override_gap.probes.store.half_written import diagnose_place, repair_place

    diagnosis = diagnose_place(args.run)
    actions = repair_place(args.run) if args.repair else []
    if actions:
        diagnosis = diagnose_place(args.run, repaired=True)
    if args.json:
        say_json({**diagnosis.as_json(), "repaired": actions})
        return DONE if diagnosis.sound else WRONG
    for sentence in actions:
        say(sentence)
    for finding in diagnosis.findings:
        say(str(finding))
    state = "finished" if diagnosis.complete else "not finished"
    agreement = "every checksum that is there agrees" if diagnosis.findings else "every checksum agrees"
    verdict = agreement if diagnosis.sound else "not sound"
    counts = f"{plural(diagnosis.units, 'unit')}, {plural(diagnosis.rows, 'row')} ({plural(diagnosis.errors, 'error')})"
    say(f"{diagnosis.run}: {state}, {counts}: {verdict}")
    return DONE if diagnosis.sound else WRONG
