"""The tables of docs/belief.md, printed from stored runs or written into the page.

`python benchmarks/belief.py 'organism=runs/organism' 'SmolLM2, hypernetwork=runs/smollm2' --page docs/belief.md` replaces the
table between the page's marks; without `--page` it prints it. One row per run and kind of question.
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import Any

from override_gap.analyses.belief import belief
from override_gap.analyses.readings import load

SHOWN = ("as-delivered", "in-context", "null-other", "base")
HEAD = "| run | questions | own adapter | in the prompt | null-other | base | margin moved, nats | n | base can |"


def share(row: dict[str, Any] | None) -> str:
    """``89% [67, 97]``; empty where it was not measured."""
    if row is None or row["value"] is None:
        return ""
    if row["low"] is None or not math.isfinite(row["low"]):
        return f"{100 * row['value']:.0f}%"
    return f"{100 * row['value']:.0f}% [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"


def nats(row: dict[str, Any] | None) -> str:
    """``7.29 [6.70, 7.88]``, an interval where there is one."""
    if row is None or row["value"] is None:
        return ""
    known = row["low"] is not None and math.isfinite(row["low"])
    return f"{row['value']:.2f}" + (f" [{row['low']:.2f}, {row['high']:.2f}]" if known else "")


def lines(name: str, section: dict[str, Any]) -> list[str]:
    """A run's rows: the conflicts that are said, then the questions judged."""
    said = section["said"]
    first = [name, "conflicts, of documents", f"{share(said['share'])} said", "", "", "", nats(said["adapter_margin"])]
    found = [f"| {' | '.join([*first, str(said['documents']), ''])} |"]
    for able in section["answerable"]:
        of = {
            row["condition"]: row
            for row in section["rows"]
            if (row["split"], row["kind"], row["population"]) == (able["split"], able["kind"], "judged")
        }
        if not of or able["kind"] in ("old-answer", "new-answer"):
            continue
        own = of["as-delivered"]
        cells = [share(of.get(condition)) for condition in SHOWN]
        prompt = (of.get("in-context") or {}).get("of_own_said")
        if prompt is not None:
            cells[1] += f"; of its own {prompt['n']}: {share(prompt)}"
        can, n = "yes" if able["can"] else "no", f"{own['n']} on {own['points']}"
        kind = f"{able['split']} {able['kind']}".strip()
        found.append(f"| {name} | {kind} | {' | '.join(cells)} | {nats(own['adapter_margin'])} | {n} | {can} |")
    return found


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    table = [HEAD, "|" + "---|" * (HEAD.count("|") - 1)]
    for pair in args.runs:
        name, _, folder = pair.partition("=")
        section = belief(load(folder))
        if section is None:
            raise SystemExit(f"{folder}: no question of belief; audit with --items belief or organism-belief")
        table += lines(name, section.as_json())
    text = "\n".join(table)
    if args.page is None:
        print(text)
    else:
        page = args.page.read_text(encoding="utf-8")
        inside = f"<!-- belief -->\n{text}\n<!-- /belief -->"
        args.page.write_text(
            re.sub(r"<!-- belief -->.*<!-- /belief -->", lambda _: inside, page, flags=re.S), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
