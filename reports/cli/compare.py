"""`override-gap compare`: several runs on the same items, with paired differences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from override_gap.margins.text import plural
from override_gap.reports.cli._args import require_run, run_folder, writable
from override_gap.reports.cli.main import DONE, parser

EPILOG = """examples:
  override-gap compare runs/ours runs/theirs
  override-gap compare runs/a runs/b runs/c --condition slb --out slb.html --json
"""
WIDTH, NAME = 80, 30


def main(argv: Sequence[str]) -> int:
    """Compare runs under one condition; write the page and print the table."""
    options = parser("compare", EPILOG)
    options.add_argument("runs", type=run_folder, nargs="+", metavar="RUN", help="two or more run folders")
    options.add_argument(
        "--condition",
        default="as-delivered",
        metavar="NAME",
        help="which condition of each run (default: as-delivered)",
    )
    options.add_argument(
        "--out", type=Path, default=Path("compare.html"), metavar="FILE", help="the page (default: compare.html)"
    )
    options.add_argument("--json", action="store_true", help="print every number as JSON on stdout")
    args = options.parse_args(argv)
    if len(args.runs) < 2:
        options.error("a comparison needs two or more run folders")
    writable(args.out)
    for folder in args.runs:
        require_run(folder)
    from override_gap.reports.comparison import compare

    comparison = compare(*args.runs, condition=args.condition, out=args.out).as_json()
    print(json.dumps(comparison, ensure_ascii=False) if args.json else f"{table(comparison)}\npage: {args.out}")
    return DONE


def table(comparison: Mapping[str, Any]) -> str:
    """Success, paired differences and how stable the ranking is, in 80 columns; by the first token if it was measured."""
    from override_gap.reports.page.compare import causes_in_words
    from override_gap.reports.text import escape_control_characters

    measure = "top1" if "top1" in comparison["measures"] else comparison["measures"][0]
    short = {
        method["name"]: _cut(" ".join(escape_control_characters(method["name"]).split()), NAME)
        for method in comparison["methods"]
    }
    if len(set(short.values())) < len(short):
        short = {name: _cut(f"{number}: {text}", NAME) for number, (name, text) in enumerate(short.items(), 1)}
    lines = [
        f"{comparison['condition']}, success by {measure} [95% interval], {plural(comparison['items']['shared'], 'shared item')}"
    ]

    def rows(section: str, split: str) -> list[Mapping[str, Any]]:
        where = {"split": split, "tier": None, "population": "all", "measure": measure}
        return [row for row in comparison[section] if all(row[key] == value for key, value in where.items())]

    for split in dict.fromkeys(row["split"] for row in comparison["outcomes"] if row["measure"] == measure):
        order = rows("order", split)[0]
        best = {method["method"]: method["first"] for method in order["methods"]}
        only = {row["method"]: row["count"] for row in rows("only", split)}
        outcomes = rows("outcomes", split)
        lines += ["", f"{split}: n = {outcomes[0]['n']} in {plural(outcomes[0]['points'], 'knowledge point')}"]
        lines.append(f"  {'':<{NAME}} {'success':<18} {'best in':>8} {'only it right':>14}")
        for row in outcomes:
            name = row["method"]
            lines.append(f"  {short[name]:<{NAME}} {_cell(row):<18} {_share(best[name]):>8} {only[name]:>14}")
        same = f"this ranking by success recurs in {_share(order['holds'])} of resamples"
        lines.append(f"  {'tied' if order['holds'] is None else same}; differences, Holm-adjusted p:")
        for row in rows("pairs", split):
            lines.append(f"  {short[row['first']]} - {short[row['second']]}")
            lines.append(f"  {'':<{NAME}} {_cell(row['difference'], sign=True):<22} p {_p(row['p_holm'])}")
    lines += ["", "verdicts, each on its own run:"] if comparison["verdicts"] else []
    for verdict in comparison["verdicts"]:
        lines.append(f"  {short[verdict['method']]:<{NAME}} {verdict['label']}")
        if causes := causes_in_words(verdict):
            lines.append(f"  {'':<{NAME}} {causes}")
    if comparison["notes"]:
        lines += ["", *(f"note: {escape_control_characters(note)}" for note in comparison["notes"])]
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
