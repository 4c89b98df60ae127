"""`override-gap doctor`: verify a run folder, say what is missing or damaged and what to do, and repair it if asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from override_gap.reports.cli.main import DONE, WRONG, parser

EPILOG = """examples:
  override-gap doctor runs/audit
  override-gap doctor runs/audit --repair

Exit code 0: everything there can be trusted and nothing is lacking from a finished run; 2 otherwise.
"""


def main(argv: Sequence[str]) -> int:
    """Print the diagnosis of a run folder; exit code 2 if anything in it is damaged, missing or inconsistent."""
    made = parser("doctor", EPILOG)
    made.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    made.add_argument("--repair", action="store_true", help="move what is damaged to RUN/damaged, to be measured again")
    made.add_argument("--json", action="store_true", help="print the diagnosis as JSON")
    if "" in argv:
        raise ValueError("doctor takes a folder, got an empty name; give the --out of an audit")
    if any("://" in word for word in argv):
        raise ValueError("doctor takes a folder, got a URL; copy it here first")
    args = made.parse_args(argv)
    from override_gap.margins.text import plural
    from override_gap.probes.store.doctor import diagnose, repair
    from override_gap.reports.text import escape_control_characters

    found = diagnose(args.run)
    done = repair(args.run) if args.repair else []
    if done:
        found = diagnose(args.run)
    if args.json:
        print(json.dumps({**found.as_json(), "repaired": done}, ensure_ascii=False))
        return DONE if found.sound else WRONG
    for sentence in done:
        print(sentence)
    for finding in found.findings:
        print(escape_control_characters(f"{finding.kind}: {finding.about}: {finding.says}; {finding.advice}"))
    state = "finished" if found.complete else "not finished"
    sound = "every checksum that is there agrees" if found.findings else "every checksum agrees"
    verdict = sound if found.sound else "not sound"
    counts = f"{plural(found.units, 'unit')}, {plural(found.rows, 'row')} ({plural(found.errors, 'error')})"
    print(f"{found.run}: {state}, {counts}: {verdict}")
    return DONE if found.sound else WRONG
