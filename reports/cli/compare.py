"""`override-gap compare`: several runs on the same items, with paired differences."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from override_gap.margins.text import plural
from override_gap.reports.cli._args import require_run, run_folder, writable
from override_gap.reports.cli._say import say, say_json, say_text
from override_gap.reports.cli.main import DONE, parser

EPILOG = """examples:
  override-gap compare runs/ours runs/theirs
  override-gap compare runs/ours runs/theirs --keep 0.95
  override-gap compare runs/ours runs/theirs --kl 0.05 --condition runs/ours=uniform-1.5
  override-gap compare runs/a runs/b runs/c --condition slb --out slb.html --json
"""
WIDTH, NAME = 80, 30


def main(argv: Sequence[str]) -> int:
    """Compare runs under a condition each, and under one budget; write the page and print the table."""
    options = parser("compare", EPILOG)
    options.add_argument("runs", type=run_folder, nargs="+", metavar="RUN", help="two or more run folders")
    options.add_argument(
        "--condition",
        action="append",
        metavar="NAME",
        help="which condition of each run, or several by commas; RUN=NAME for one run (default: as-delivered)",
    )
    options.add_argument(
        "--keep",
        type=float,
        metavar="SHARE",
        help="compare every method at its best policy that keeps this share of unrelated answers (default 0.95)",
    )
    options.add_argument(
        "--kl",
        type=float,
        metavar="NATS",
        help="or whose KL to the base there is at most this, nats per token, such as 0.05",
    )
    options.add_argument(
        "--measure",
        choices=("top1", "answer"),
        default="top1",
        help="by which the budget and overrides are judged (default: top1)",
    )
    options.add_argument(
        "--out", type=Path, default=Path("compare.html"), metavar="FILE", help="the page (default: compare.html)"
    )
    options.add_argument("--json", action="store_true", help="print every number as JSON on stdout")
    args = options.parse_args(argv)
    conditions = [name for given in args.condition or ["as-delivered"] for name in given.split(",") if name]
    if len(args.runs) < 2 and len(set(conditions)) < 2:
        options.error("a comparison needs two or more run folders")
    writable(args.out)
    for folder in args.runs:
        require_run(folder)
    from override_gap.reports.comparison import compare

    bounds = {"keep": args.keep, "kl": args.kl, "measure": args.measure}
    comparison = compare(*args.runs, condition=conditions, **bounds, out=args.out).as_json()
    if args.json:
        say_json(comparison)
        return DONE
    say_text(table(comparison))
    say(f"page: {args.out}")
    return DONE


def table(comparison: Mapping[str, Any]) -> str:
    """The answer, success, paired differences and how stable the ranking is, in 80 columns; by the first token if measured."""
    from override_gap.margins.text import one_line
    from override_gap.reports.page.compare import causes_in_words

    measure = "top1" if "top1" in comparison["measures"] else comparison["measures"][0]
    short = {method["name"]: _cut(" ".join(one_line(method["name"]).split()), NAME) for method in comparison["methods"]}
    if len(set(short.values())) < len(short):
        short = {name: _cut(f"{number}: {text}", NAME) for number, (name, text) in enumerate(short.items(), 1)}
    lines = answer_lines(comparison)
    lines += _under_budget(comparison.get("budget"), short, says=not lines)
    lines += [
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
            gap = {"value": row["difference"]["value"], "low": row["low_holm"], "high": row["high_holm"]}
            lines.append(f"  {'':<{NAME}} {_cell(gap, sign=True):<22} p {_p(row['p_holm'])}")
    lines += ["", "verdicts, each on its own run:"] if comparison["verdicts"] else []
    for verdict in comparison["verdicts"]:
        name = short.get(verdict["method"], _cut(verdict["method"], NAME))
        lines.append(f"  {name:<{NAME}} {verdict['label']}")
        if causes := causes_in_words(verdict):
            lines.append(f"  {'':<{NAME}} {causes}")
    if comparison["notes"]:
        lines += [
            "",
            *(line for note in comparison["notes"] for line in textwrap.wrap(f"note: {one_line(note)}", WIDTH)),
        ]
    return "\n".join(_cut(line.rstrip(), WIDTH) for line in lines)


def answer_lines(comparison: Mapping[str, Any]) -> list[str]:
    """What was compared, what came out and what to do, in 80 columns; nothing where the comparison has no answer."""
    from override_gap.margins.text import one_line

    found = comparison.get("answer")
    if found is None:
        return []
    return [line for key in ("compared", "found", "do") for line in (*textwrap.wrap(one_line(found[key]), WIDTH), "")]


def _under_budget(budget: Mapping[str, Any] | None, short: Mapping[str, str], says: bool = True) -> list[str]:
    """The answer under the budget, every method's policy and figures, and who wins at which budget; nothing without one."""
    if budget is None:
        return []
    from override_gap.margins.text import one_line

    lines = [*textwrap.wrap(one_line(budget["says"]), WIDTH), ""] if says else []
    policy = {name: one_line(name) for rows in ("methods", "winners") for name in _policies(budget[rows])}
    lines += [f"  {'':<{NAME}} {'overrides':<18} {'keeps':<18} KL"]
    for row in budget["methods"]:
        cells = [_cell(row[key]) if row[key] else "-" for key in ("conflict", "retention")]
        kl = "-" if not row["kl"] else f"{row['kl']['value']:z.3f}"
        name = short.get(row["method"], _cut(row["method"], NAME))
        lines += [
            f"  {name:<{NAME}} {cells[0]:<18} {cells[1]:<18} {kl}",
            f"    at {policy[row['policy']]}: {row['recommendation']}",
        ]
    bound = "budget_keep" if budget["keep"] is not None else "budget_kl"
    lines += [
        "",
        f"by budget ({'answers kept' if bound == 'budget_keep' else 'KL, nats per token'}): who overrides most",
    ]
    for row in budget["winners"]:
        lead = row["lead"]
        ahead = "" if lead is None else f", {100 * lead['value']:+z.0f} points over the next"
        sure = "" if lead is None else " (ahead of all)" if row["ahead_of_all"] else " (not told apart)"
        leader = (
            "-" if row["method"] is None else f"{short.get(row['method'], row['method'])} at {policy[row['policy']]}"
        )
        open_ = [name for name in row["undecided"] if name != row["method"]]
        first = "undecided: " if len(open_) < len(row["undecided"]) else ""
        answer = f"  {row[bound]:<6g} {first}{leader}{ahead}{sure}"
        wide = f"  {row[bound]:<6g} {first}{leader},", f"         {ahead.removeprefix(', ')}{sure}"
        lines += [answer] if len(answer) <= WIDTH else wide
        lines += [f"         undecided for {short.get(name, _cut(name, NAME))}" for name in open_]
    return [*lines, ""]


def _policies(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["policy"] for row in rows if row["policy"] is not None]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _cell(row: Mapping[str, Any], sign: bool = False) -> str:
    form = "+z.2f" if sign else "z.2f"
    if row["value"] is None:
        return "-"
    value = format(row["value"], form)
    return value if row["low"] is None else f"{value} [{format(row['low'], form)}, {format(row['high'], form)}]"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f}%"


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.0001" if value < 1e-4 else f"{value:.4f}"
