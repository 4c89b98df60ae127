"""The slopes behind H1 and H2 in docs/hypotheses.md, printed from stored runs or written into the page.

`python benchmarks/hypothesis_slopes.py 'organism, its hypernetwork=runs/organism' ... --page docs/hypotheses.md` replaces the
tables between the page's marks; without `--page` it prints them. A run gives one row per table as far as it can.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from override_gap.analyses.adjusted_gradient import Regression, adjusted_words, regressions
from override_gap.analyses.pass_through import margin_check, pass_through
from override_gap.analyses.readings import RunFrame, load
from override_gap.analyses.stats.estimate import Estimate

ABSENT = ""


def cell(estimate: Estimate) -> str:
    """``0.94 [0.82, 1.07]``; empty where there is none."""
    if not estimate.known:
        return ABSENT
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def gradients(runs: dict[str, RunFrame]) -> list[str]:
    """H1: the slope of failure on prior strength alone, adjusted for log P(y_doc), and for all that enters."""
    lines = ["| run | conflicts | alone | adjusted for log P(y_doc) | all that enter |", "|---|---|---|---|---|"]
    for name, run in runs.items():
        fits = [fit for fit in regressions(run) if (fit.outcome, fit.population) == ("failure", "all")]
        if not any(fit.slope.known for fit in fits):
            continue
        by_covariates = {fit.adjusted_for: fit for fit in fits}
        cells = [cell(fit.slope) if (fit := by_covariates.get(key)) else ABSENT for key in ((), ("doc_logprob",))]
        lines.append(f"| {name} | {fits[0].slope.n} | {' | '.join(cells)} | {most_adjusted(fits)} |")
    return lines


def most_adjusted(fits: Sequence[Regression]) -> str:
    """The slope with the most covariates and their names; empty where log P(y_doc) alone enters or nothing does."""
    most = max(fits, key=lambda fit: len(fit.adjusted_for))
    if len(most.adjusted_for) < 2 or not most.slope.known:
        return ABSENT
    return f"{cell(most.slope)}, {adjusted_words(most.adjusted_for)}"


def through(runs: dict[str, RunFrame]) -> list[str]:
    """H2: the pass-through slope by least squares and by instrument, and whether the adapter has a margin at all."""
    lines = [
        "| run | known | known: least squares | known: instrument | all: least squares | all: instrument | margin / prior |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        check = margin_check(run)
        each = [
            pass_through(run, population, method).slope for population in ("known", "all") for method in ("ols", "iv")
        ]
        if any(slope.known for slope in each):
            size = f"{check.share.value:.2f}{'' if check.passes else ', not testable'}"
            lines.append(f"| {name} | {each[0].n} | {' | '.join(map(cell, each))} | {size} |")
    return lines


def placed(page: str, name: str, table: Sequence[str]) -> str:
    """The page with the table between the marks of that name replaced. Raises ValueError where the marks are absent."""
    mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
    if not mark.search(page):
        raise ValueError(f"the page needs the marks <!-- {name} --> and <!-- /{name} -->")
    return mark.sub(lambda match: match[1] + "\n".join([*table, match[2]]), page)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the runs, and print their tables or write them into a page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("runs", nargs="+", metavar="TITLE=RUN")
    parser.add_argument("--page", type=Path, help="the page whose tables are replaced")
    args = parser.parse_args(argv)
    runs = {title: load(folder) for title, _, folder in (text.rpartition("=") for text in args.runs)}
    tables = {"gradients": gradients(runs), "pass-through": through(runs)}
    if args.page is None:
        print("\n\n".join("\n".join(table) for table in tables.values()))
        return 0
    text = args.page.read_text(encoding="utf-8")
    for name, table in tables.items():
        text = placed(text, name, table)
    args.page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
