"""What raising and lowering the prior does to stored runs, printed or written into docs/hypotheses.md.

override-gap audit --probes margins,prior-dose --out runs/organism
python benchmarks/prior_dose_slopes.py 'organism=runs/organism' ... --page docs/hypotheses.md
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.hypothesis_slopes import placed
from override_gap.analyses.run import Run, load
from override_gap.margins.text import plural

HEADS = ("conflicts (points)", "doses reached", "all doses", "raised", "lowered", "lowest third", "highest third")
HEADS = (*HEADS, "observed", "failures rise by, predicted", "answer", "H6")


def cell(row: dict | None) -> str:
    """``0.94 [0.82, 1.07]``; empty where there is none."""
    if not row or row["value"] is None:
        return ""
    return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def line(name: str, run: Run) -> list[str]:
    """One run's row. Raises ValueError where no prior was changed in it."""
    found = run.prior_dose()
    if found is None:
        raise ValueError(f"{name}: no item was read with its prior changed; audit with --probes prior-dose")
    slopes = {
        (row["doses"], row["items"]): row
        for row in found["pass_through"]
        if (row["condition"], row["update"]) == ("as-delivered", found["read"])
    }
    everything, chosen, failure = slopes["all", "all"], found["selection"], found["failure"]
    observed = next((row for row in found["observed"] if row["what"].startswith("known conflicts")), None)
    rise = ""
    if failure:
        seen, told = ({key: failure[of][key] for key in ("value", "low", "high")} for of in ("observed", "predicted"))
        rise = f"{cell(seen)}, {told['value']:.2f}"
    h6 = run.hypotheses()[5]
    keys = (("all", "all"), ("raised", "all"), ("lowered", "all"), ("all", "lowest third"), ("all", "highest third"))
    return [
        name,
        f"{everything['n']} ({everything['points']})",
        f"{chosen['reached']} of {chosen['asked']}",
        *(cell(slopes.get(key)) for key in keys),
        cell(observed),
        rise,
        found["answer"],
        h6.status,
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Read the runs, and print their table or write it into a page between its marks."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("runs", nargs="+", metavar="TITLE=RUN")
    parser.add_argument("--page", type=Path, help="the page whose table `prior-dose` is replaced")
    args = parser.parse_args(argv)
    rows = [line(title, load(folder)) for title, _, folder in (text.rpartition("=") for text in args.runs)]
    lines = [f"| {' | '.join(row)} |" for row in (["run", *HEADS], ["---"] * (len(HEADS) + 1), *rows)]
    if args.page is None:
        print("\n".join(lines))
        print(plural(len(rows), "run"))
        return 0
    args.page.write_text(placed(args.page.read_text(encoding="utf-8"), "prior-dose", lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
