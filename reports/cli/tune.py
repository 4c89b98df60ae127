"""`override-gap tune`: the policy and gain to use under a budget, chosen by cross-validation from stored readings."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from override_gap.reports.cli._args import require_run, run_or_url, writable
from override_gap.reports.cli._say import say, say_json, say_text
from override_gap.reports.cli.main import DONE, parser

if TYPE_CHECKING:
    from override_gap.analyses.tune.choice import Choice

EPILOG = """examples:
  override-gap tune runs/audit
  override-gap tune runs/audit --keep 0.9 --kl 0.2 --out gains.json
  override-gap tune runs/audit --policies uniform-1.25,uniform-1.5,slb --json
  override-gap adapters export --adapters my-loras --gains runs/audit/gains.json --form peft --out tuned

Candidates are the gains that the run measured (audit --policies uniform measures seven). In every fold of knowledge points, or
of relations, the policy is chosen on the other folds: the one that overrides most conflicts of those whose price is within the
budget with 95% certainty. What is reported is what it does on the fold itself. docs/tune.md states the rule.
"""
WIDTH = 80


def main(argv: Sequence[str]) -> int:
    """Choose under the budget, write gains.json, print what to do and why."""
    options = parser("tune", EPILOG)
    options.add_argument("run", type=run_or_url, metavar="RUN", help="a run folder or its URL")
    keep = "the least share of unrelated answers that stays (0.95 if no budget is named)"
    options.add_argument("--keep", type=number, metavar="SHARE", help=keep)
    options.add_argument("--kl", type=number, metavar="NATS", help="the largest mean KL to the base there, per token")
    by = "top1 (default): the first token; answer: the answer in words"
    options.add_argument("--measure", choices=("top1", "answer"), default="top1", metavar="M", help=by)
    named = "choose among these conditions of the run (default: all that set gains, but controls)"
    options.add_argument("--policies", metavar="P,..", help=named)
    options.add_argument("--out", type=Path, metavar="FILE", help="where gains.json goes (default: RUN/gains.json)")
    options.add_argument("--json", action="store_true", help="print the section `tuning` of summary.json on stdout")
    args = options.parse_args(argv)
    if args.out:
        writable(args.out)
    if isinstance(args.run, Path):
        require_run(args.run)
    elif not args.out:
        options.error("a run at a URL takes --out: gains.json is written on this machine")
    policies = None if args.policies is None else [name.strip() for name in args.policies.split(",") if name.strip()]
    from override_gap.probes.store.remote import local_copy

    with local_copy(args.run) as folder:
        from override_gap.analyses.readings import load
        from override_gap.analyses.tune.run import gains_file, tune
        from override_gap.margins.gains_file import write_gains
        from override_gap.margins.whole_files import make_folder

        run = load(folder)
        choice = tune(run, args.keep, args.kl, args.measure, policies, int(run.manifest.get("seed", 0)))
        out = args.out or folder / "gains.json"
        make_folder(out.parent)
        writable(out)
        write_gains(gains_file(choice, run), out)
    for caution in run.cautions:
        say(f"caution: {caution}", error=True)
    if args.json:
        say_json(choice.as_json())
        say(f"gains: {out}", error=True)
    else:
        say_text(told(choice))
        say(f"gains: {out}")
    return DONE


def number(text: str) -> float:
    """A number. Raises argparse.ArgumentTypeError for what is none; the budget itself says what it may be."""
    try:
        return float(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"needs a number, got {text!r}") from fault


def told(choice: Choice) -> str:
    """The recommendation, then expected figures beside those in sample, then the candidates; at most 80 columns."""
    from override_gap.margins.text import one_line

    lines = textwrap.wrap(choice.says, WIDTH)
    for sentence in choice.further:
        lines += textwrap.wrap(sentence, WIDTH)
    lines += ["", *textwrap.wrap(f"budget: {choice.budget}", WIDTH)]
    shown = [(name, choice.expected.get(name), choice.in_sample.get(name)) for name in choice.expected]
    rows = [
        (fresh.name, span(fresh.value, fresh.low, fresh.high, name), one(fitted.value, name) if fitted else "")
        for name, fresh, fitted in shown
        if fresh is not None
    ]
    if rows:
        lines += ["", f"{'':<35}{'out of fold [95%]':<24}in sample"]
        lines += [f"{name:<35}{fresh:<24}{fitted}" for name, fresh, fitted in rows]
    if choice.rows:
        head = ("candidate", "override", "kept", "at least", "KL", "at most", "within", "folds")
        lines += ["", f"{head[0]:<20}" + "".join(f"{name:>9}" for name in head[1:-1]) + f"{head[-1]:>6}"]
        lines += [candidate(row, one_line(str(row["condition"]))) for row in choice.rows]
    return "\n".join(line.rstrip() for line in lines)


def candidate(row: dict, name: str) -> str:
    """One candidate as a line: what it does on all items, and in how many folds it was chosen."""
    cells = [one(row[key], key) for key in ("conflict", "kept", "kept_at_least", "kl", "kl_at_most")]
    within = "yes" if row["within"] else "maybe" if row["within_by_estimate"] else "no"
    mark = ">" if row["chosen"] else " "
    name = name if len(name) <= 18 else f"{name[:15]}..."
    return f"{mark} {name:<18}" + "".join(f"{cell:>9}" for cell in (*cells, within)) + f"{row['folds']:>6}"


def one(value: float | None, name: str) -> str:
    """A share in per cent, a KL in nats; a dash where it is not known."""
    if value is None or value != value:
        return "-"
    return f"{value:.3f}" if name.startswith("kl") else f"{100 * value:.1f}%"


def span(value: float, low: float, high: float, name: str) -> str:
    """A figure with its interval."""
    if low != low:
        return one(value, name)
    return f"{one(value, name)} [{one(low, name).rstrip('%')}, {one(high, name).rstrip('%')}]"
