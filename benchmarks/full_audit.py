"""The whole benchmark on SmolLM2: how long its audit takes, and where margin, first token and answer disagree.

489 novel, combination and conflict questions and the retention ones, four conditions, margins of all and greedy answers of
every conflict and novel question.

    python benchmarks/full_audit.py runs/full [--adapters A] > docs/speed/full-audit.md

If interrupted, give the same command again to resume. For a finished run only the page is printed.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd

from override_gap.analyses.calibration import markdown
from override_gap.analyses.criterion import agreement
from override_gap.analyses.measures import KINDS, disagreements
from override_gap.analyses.readings import RunFrame, load
from override_gap.reports.cli.main import main as command

POLICIES = "as-delivered,uniform-2,slb"
ANSWERED = 439  # 194 conflicts and 245 novel questions


def timing(run: RunFrame) -> pd.DataFrame:
    """Minutes of wall-clock time, from the manifest."""
    seconds: dict[str, Any] = run.manifest["timing"]
    return pd.DataFrame(
        [
            {
                "items": run.readings["item"].nunique(),
                "conditions": len(run.conditions),
                "answers in words": int(run.readings["success_answer"].notna().sum()),
                "threads": run.manifest["threads"],
                "adapters, minutes": f"{seconds['adapters_s'] / 60:.1f}",
                "measuring, minutes": f"{seconds['measuring_s'] / 60:.1f}",
                "in all, minutes": f"{seconds['total_s'] / 60:.1f}",
            }
        ]
    )


def agreements(run: RunFrame) -> pd.DataFrame:
    """Share of conflicts on which the override criterion agrees with the first token and with the greedy answer."""
    rows = []
    for row in agreement(run):
        rows.append(
            {
                "condition": row["condition"],
                "margin and": row["measure"],
                "agree": f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
                "third token or other": row["third_token"],
                "answered without the margin": row["without_criterion"],
                "n": row["n"],
                "points": row["points"],
            }
        )
    return pd.DataFrame(rows)


def kinds(run: RunFrame) -> pd.DataFrame:
    """Why the three measures disagree, by kind."""
    rows = [row | {"meaning": KINDS[row["kind"]]} for row in disagreements(run)]
    return pd.DataFrame(rows, columns=["condition", "kind", "count", "n", "meaning"])


def page(run: RunFrame) -> str:
    """The page of a finished run."""
    plan = run.manifest["plan"]
    return "\n\n".join(
        [
            "# The whole benchmark, audited",
            "How long the whole shipped benchmark takes on a real model, and how often three ways of judging an answer agree: by "
            "the scores of\nthe two competing answers (the margin), by the first token that the model would say, and by the "
            "words that it writes.",
            f"`override-gap audit --subject {plan['subject']} --adapters {plan['adapters']} --items {plan['items']} "
            f"--policies {plan['policies']} --probes {','.join(plan['probes'])} --answers {plan['answers']}`; "
            f"`python benchmarks/full_audit.py RUN > docs/speed/full-audit.md` writes this page. "
            f"{run.manifest['subject']['dtype']}, {run.manifest['subject']['device']}. Minutes depend on the machine.",
            markdown(timing(run)),
            "## Margin, first token, answer",
            "On the conflicts, by condition: how often the override criterion (net margin above 0) agrees with the first token "
            "and with the greedy answer. Intervals are 95%, clustered by knowledge point.",
            markdown(agreements(run)),
            "Every conflict on which margin, first token and answer do not agree, by the reason:",
            markdown(kinds(run)),
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run or resume the audit, and print the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path, metavar="RUN", help="the run folder")
    parser.add_argument("--subject", default="smollm2")
    parser.add_argument("--adapters", default="fitted:steps=8,lr=1e-2")
    parser.add_argument("--items", default="benchmark")
    args = parser.parse_args(argv)
    if not (args.out / "summary.json").is_file():
        words = ["audit", "--subject", args.subject, "--adapters", args.adapters, "--items", args.items]
        words += ["--policies", POLICIES, "--probes", "margins,answers", "--answers", str(ANSWERED)]
        with redirect_stdout(sys.stderr):  # the digest is progress here, the page is the result
            code = command([*words, "--out", str(args.out)])
        if code > 1:
            return code
    print(page(load(args.out)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
