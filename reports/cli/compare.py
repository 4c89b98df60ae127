"""`override-gap compare`: several runs side by side, paired on the same items."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from override_gap.margins.text import plural
from override_gap.reports.cli._args import run_folder, writable
from override_gap.reports.cli.main import DONE, parser

EPILOG = """examples:
  override-gap compare runs/ours runs/theirs
  override-gap compare runs/a runs/b runs/c --condition slb --out slb.html --json
"""
WIDTH, NAME = 80, 30


def main(argv: Sequence[str]) -> int:
    """Compare runs under one condition; write the page and print the table."""
    made = parser("compare", EPILOG)
    made.add_argument("runs", type=run_folder, nargs="+", metavar="RUN", help="two run folders or more")
    made.add_argument("--condition", default="as-delivered", metavar="NAME", help="default: as-delivered")
    made.add_argument("--out", type=Path, default=Path("compare.html"), metavar="FILE", help="default: compare.html")
    made.add_argument("--json", action="store_true", help="print every number as JSON on stdout")
    args = made.parse_args(argv)
    if len(args.runs) < 2:
        made.error("a comparison needs two run folders or more")
    writable(args.out)
    from override_gap.analyses.compare.methods import side_by_side
    from override_gap.analyses.readings import load
    from override_gap.reports.page import write_comparison

    loaded = [load(folder) for folder in args.runs]
    names = named(args.runs, [str((run.manifest.get("adapters") or {}).get("name")) for run in loaded])
    found = side_by_side(dict(zip(names, loaded, strict=True)), args.condition).as_json()
    places = [folder.resolve() for folder in args.runs]
    twice = [str(folder) for number, folder in enumerate(args.runs) if places[number] in places[:number]]
    if twice:
        found["notes"] = [*found["notes"], f"{', '.join(twice)} is given twice: a run and itself differ in nothing"]
    page = write_comparison(found, args.out)
    print(json.dumps(found, ensure_ascii=False) if args.json else f"{table(found)}\npage: {page}")
    return DONE


def named(folders: Sequence[Path], adapters: Sequence[str]) -> list[str]:
    """What the methods are called: by adapters, else by folder name, else by path, whichever tells them apart."""
    numbered = [f"{folder} ({number})" for number, folder in enumerate(folders, 1)]
    for names in (list(adapters), [folder.resolve().name for folder in folders], [str(f) for f in folders]):
        if len(set(names)) == len(names):
            return names
    return numbered


def table(found: Mapping[str, Any]) -> str:
    """Success, differences and the firmness of the order, at most 80 columns; the first token where it was measured."""
    from override_gap.reports.text import escape_control_characters

    measure = "top1" if "top1" in found["measures"] else found["measures"][0]
    short = {
        own["name"]: _cut(" ".join(escape_control_characters(own["name"]).split()), NAME) for own in found["methods"]
    }
    if len(set(short.values())) < len(short):
        short = {name: _cut(f"{number}: {text}", NAME) for number, (name, text) in enumerate(short.items(), 1)}
    lines = [
        f"{found['condition']}, success by {measure} [95% interval], {plural(found['items']['shared'], 'shared item')}"
    ]

    def rows(section: str, split: str) -> list[Mapping[str, Any]]:
        where = {"split": split, "tier": None, "population": "all", "measure": measure}
        return [row for row in found[section] if all(row[key] == value for key, value in where.items())]

    for split in dict.fromkeys(row["split"] for row in found["outcomes"] if row["measure"] == measure):
        order = rows("order", split)[0]
        first = {own["method"]: own["first"] for own in order["methods"]}
        alone = {row["method"]: row["count"] for row in rows("only", split)}
        outcomes = rows("outcomes", split)
        lines += ["", f"{split}: n = {outcomes[0]['n']} in {plural(outcomes[0]['points'], 'knowledge point')}"]
        lines.append(f"  {'':<{NAME}} {'success':<18} {'best in':>8} {'it alone':>9}")
        for row in outcomes:
            name = row["method"]
            lines.append(f"  {short[name]:<{NAME}} {_cell(row):<18} {_share(first[name]):>8} {alone[name]:>9}")
        held = _share(order["holds"])
        firm = "no order" if order["holds"] is None else f"the order by success holds in {held} of resamples"
        lines.append(f"  {firm}; differences, p after Holm:")
        for row in rows("pairs", split):
            lines.append(f"  {short[row['first']]} - {short[row['second']]}")
            lines.append(f"  {'':<{NAME}} {_cell(row['difference'], sign=True):<22} p {_p(row['p_holm'])}")
    lines += ["", *(f"note: {escape_control_characters(note)}" for note in found["notes"])] if found["notes"] else []
    return "\n".join(_cut(line.rstrip(), WIDTH) for line in lines)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _cell(row: Mapping[str, Any], sign: bool = False) -> str:
    form = "+.2f" if sign else ".2f"
    if row["value"] is None:
        return "-"
    value = format(row["value"], form)
    return value if row["low"] is None else f"{value} [{format(row['low'], form)}, {format(row['high'], form)}]"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f}%"


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.0001" if value < 1e-4 else f"{value:.4f}"
