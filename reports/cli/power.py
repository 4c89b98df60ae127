"""`override-gap power`: how many items a verdict, a difference of two methods or a price needs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from override_gap.reports.cli._args import require_run, run_folder
from override_gap.reports.cli._say import say_json, say_text
from override_gap.reports.cli.main import DONE, parser

MOST_POINTS = 2560
QUESTIONS = ("verdict", "difference", "retention")
EPILOG = """examples:
  override-gap power --known 0.3 --points 72 --items-per-point 2.7       # enough for a verdict?
  override-gap power --failures 0.6 --held 0.75 --relations 15 --icc-relation 0.1
  override-gap power --pilot runs/small                                   # truth and what the pilot leaves open
  override-gap power difference --difference 0.1 --differing 0.3          # two methods on the same items
  override-gap power retention --kept 0.98 --keep 0.95                    # is the price known to be small?

The verdict's own rule is applied to simulated audits. --known, --failures and --held are shares: of conflicts whose old
answer the base knows, of these that fail as delivered, and of the failures that another gain repairs. `power retention`
applies the rule of `override-gap tune`: the one-sided 95% upper limit of the share of unrelated answers lost is within the
budget. `power difference` applies the paired test, p below .05.
"""


def main(argv: Sequence[str]) -> int:
    """Simulate, and print the answer and the table."""
    options = _parser()
    args = options.parse_args(argv)
    _require_own_flags(options, args)
    if args.pilot is not None:
        require_run(args.pilot)
    text, content = _verdict(args) if args.question == "verdict" else _items(args)
    say_json(content) if args.json else say_text(text)
    return DONE


def _verdict(args: argparse.Namespace) -> tuple[str, dict]:
    """The answer for a verdict as text and as JSON."""
    from override_gap.analyses.planning.simulated import Truth
    from override_gap.analyses.planning.verdict_power import AUDITS, AUDITS_BY_RELATION, verdict_power

    said, truths = [], ()
    if args.pilot is not None:
        from override_gap.analyses.planning.pilot import pilot
        from override_gap.analyses.readings import load

        run = load(args.pilot)
        found = pilot(run, args.seed)
        truth, truths = found.truth, found.truths
        said = [*(f"caution: {caution}" for caution in run.cautions), *str(found).split("\n"), ""]
    else:
        shares = (_or(args.known, 1.0), _or(args.failures, 0.6), _or(args.held, 0.9))
        truth = Truth(*shares, args.items_per_point, args.relations, args.icc, args.icc_relation)
    power = verdict_power(truth, args.probability, args.points, truths, args.seed)
    lines = [*said, str(power)]
    if power.uncertain:
        lines += ["", "the same over the truths that the pilot does not exclude:", *power.table(power.uncertain)]
    audits = AUDITS_BY_RELATION if truth.relations >= 10 else AUDITS
    largest = max(row.error for row in power.rows)
    lines += [
        "",
        f"probabilities in per cent, from {audits} simulated audits of each size (95% error up to {100 * largest:.1f})",
    ]
    return "\n".join(lines), power.as_json()


def _items(args: argparse.Namespace) -> tuple[str, dict]:
    """The answer for a difference or a price as text and as JSON."""
    from override_gap.analyses.planning.paired_power import difference_power, retention_power
    from override_gap.analyses.planning.simulated import Truth

    truth = Truth(1.0, 0.5, 0.5, args.items_per_point, args.relations, args.icc, args.icc_relation)
    settings = (truth, args.probability, args.points, args.seed)
    if args.question == "difference":
        power = difference_power(_or(args.difference, 0.1), _or(args.differing, 0.3), *settings)
    else:
        power = retention_power(_or(args.kept, 0.98), _or(args.keep, 0.95), *settings)
    largest = max(row.error for row in power.rows)
    return f"{power}\n\nsimulated; 95% error of a probability up to {100 * largest:.1f} points", power.as_json()


OF_QUESTION = {
    "verdict": ("known", "failures", "held", "pilot"),
    "difference": ("difference", "differing"),
    "retention": ("kept", "keep"),
}


def _require_own_flags(options: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a message where a flag belongs to another question, or to a truth that the pilot gives."""
    for question, names in OF_QUESTION.items():
        given = [name for name in names if getattr(args, name) is not None]
        if question != args.question and given:
            options.error(f"--{given[0]} is for `override-gap power {question}`, not for {args.question}")
    if args.pilot is not None:
        given = [name for name in ("known", "failures", "held") if getattr(args, name) is not None]
        if given:
            options.error(f"--{given[0]} and --pilot both say what is true; give one of them")
    if args.icc_relation > args.icc:
        options.error(
            f"--icc-relation {args.icc_relation:g} is above --icc {args.icc:g}; a relation's points are less alike"
        )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _number(low: float, high: float, what: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"needs {what}, got {text!r}")
        return value

    return read


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text[:9]) <= high):
            raise argparse.ArgumentTypeError(f"needs a whole number from {low} to {high:,}, got {text!r}")
        return int(text)

    return read


def _parser() -> argparse.ArgumentParser:
    words = parser("power", EPILOG)
    add, share = words.add_argument, _number(0.0, 1.0, "a share from 0 to 1")
    several, correlation = _number(1, 100, "a number from 1 to 100"), _number(0, 0.95, "a correlation from 0 to 0.95")
    add("question", nargs="?", choices=QUESTIONS, default="verdict", help="what is to be found out (default: verdict)")
    add("--points", type=_whole(2, MOST_POINTS), metavar="N", help="knowledge points (facts) at hand: what comes out?")
    add("--items-per-point", type=several, default=2.5, metavar="X", help="questions per point (default 2.5)")
    add("--relations", type=_whole(0, 200), default=0, metavar="N", help="relations of the points (default: not known)")
    add(
        "--icc",
        type=correlation,
        default=0.3,
        metavar="R",
        help="correlation of two questions of a point (default 0.3)",
    )
    add(
        "--icc-relation",
        type=correlation,
        default=0.05,
        metavar="R",
        help="that of two points of a relation (default 0.05)",
    )
    add(
        "--probability",
        type=_number(0.01, 0.999, "a probability from 0.01 to 0.999"),
        default=0.8,
        metavar="P",
        help="that is wanted (default 0.8)",
    )
    add(
        "--known",
        type=share,
        metavar="S",
        help="verdict: share of conflicts whose old answer the base knows (default 1)",
    )
    add("--failures", type=share, metavar="S", help="verdict: share of these that fail as delivered (default 0.6)")
    add("--held", type=share, metavar="S", help="verdict: share of failures that another gain repairs (default 0.9)")
    add("--pilot", type=run_folder, metavar="RUN", help="verdict: a small run from which all of this is read")
    add(
        "--difference",
        type=_number(-1, 1, "a difference from -1 to 1"),
        metavar="D",
        help="difference: of the two methods' shares (default 0.1)",
    )
    add(
        "--differing", type=share, metavar="S", help="difference: share of items that just one gets right (default 0.3)"
    )
    add("--kept", type=share, metavar="S", help="retention: share of unrelated answers kept in truth (default 0.98)")
    add("--keep", type=share, metavar="S", help="retention: share to be shown to be kept at least (default 0.95)")
    add("--seed", type=_whole(0, 10**9), default=0, metavar="N", help="draws the simulated audits (default 0)")
    add("--json", action="store_true", help="print every number as JSON on stdout")
    return words
