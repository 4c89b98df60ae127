"""The whole benchmark on SmolLM2: how long an audit of it takes, and where margin, first token and answer part.

489 novel, combination and conflict questions and the retention ones, four conditions, margins of all and greedy answers of
every conflict and novel question.

    python benchmarks/full_audit.py runs/full [--adapters A] > docs/speed/full-audit.md

Stopped, it goes on where it was: give the same command again. A finished run is only described.
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
    """What the manifest says of the time, in minutes of wall clock."""
    found: dict[str, Any] = run.manifest["timing"]
    return pd.DataFrame(
        [
            {
                "items": run.readings["item"].nunique(),
                "conditions": len(run.conditions),
                "answers in words": int(run.readings["success_answer"].notna().sum()),
                "threads": run.manifest["threads"],
                "adapters, minutes": f"{found['adapters_s'] / 60:.1f}",
                "measuring, minutes": f"{found['measuring_s'] / 60:.1f}",
                "in all, minutes": f"{found['total_s'] / 60:.1f}",
            }
        ]
    )


def agreements(run: RunFrame) -> pd.DataFrame:
    """Share of conflicts on which the criterion and what was said agree."""
    rows = []
    for found in agreement(run):
        rows.append(
            {
                "condition": found["condition"],
                "margin and": found["measure"],
                "agree": f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]",
                "third token or other": found["third_token"],
                "said without the margin": found["without_criterion"],
                "n": found["n"],
                "points": found["points"],
            }
        )
    return pd.DataFrame(rows)


def kinds(run: RunFrame) -> pd.DataFrame:
    """Why the three measures part, by kind."""
    rows = [found | {"meaning": KINDS[found["kind"]]} for found in disagreements(run)]
    return pd.DataFrame(rows, columns=["condition", "kind", "count", "n", "meaning"])


def page(run: RunFrame) -> str:
    """The page of a finished run."""
    plan = run.manifest["plan"]
    return "\n\n".join(
        [
            "# The whole benchmark, audited",
            f"`override-gap audit --subject {plan['subject']} --adapters {plan['adapters']} --items {plan['items']} "
            f"--policies {plan['policies']} --probes {','.join(plan['probes'])} --answers {plan['answers']}`; "
            f"`python benchmarks/full_audit.py RUN > docs/speed/full-audit.md` writes this page. "
            f"{run.manifest['subject']['dtype']}, {run.manifest['subject']['device']}. Minutes hang on the machine.",
            markdown(timing(run)),
            "## Margin, first token, answer",
            "On the conflicts, by condition: how often the override criterion (net margin above 0) says what the first token "
            "and the greedy answer say. Intervals are 95%, clustered by knowledge point.",
            markdown(agreements(run)),
            "Every conflict on which margin, first token and answer are not all won or all lost, by the one reason that it has:",
            markdown(kinds(run)),
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Audit what is not audited yet, and print the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path, metavar="RUN", help="the run folder")
    parser.add_argument("--subject", default="smollm2")
    parser.add_argument("--adapters", default="fitted:steps=8,lr=1e-2")
    parser.add_argument("--items", default="benchmark")
    given = parser.parse_args(argv)
    if not (given.out / "summary.json").is_file():
        words = ["audit", "--subject", given.subject, "--adapters", given.adapters, "--items", given.items]
        words += ["--policies", POLICIES, "--probes", "margins,answers", "--answers", str(ANSWERED)]
        with redirect_stdout(sys.stderr):  # the digest is progress here, the page is the result
            code = command([*words, "--out", str(given.out)])
        if code > 1:
            return code
    print(page(load(given.out)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
