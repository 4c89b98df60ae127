"""Do organisms of other seeds meet the targets, also seeds that were not used to choose the recipe?

Each folder is an organism trained by `override-gap organism train --seed N --out FOLDER`; it is evaluated again and audited.

    python benchmarks/worlds.py FOLDER... > docs/calibration/worlds.md
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from override_gap.analyses.calibration import markdown
from override_gap.analyses.readings import load as load_run
from override_gap.analyses.summary import summarise
from override_gap.margins.items.files import read_items
from override_gap.probes.organism.evaluate import TARGETS, evaluate, shortfalls
from override_gap.probes.organism.load import load
from override_gap.probes.plan import plan_from
from override_gap.probes.run.loop import run
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject

HEAD = """# The organism on three worlds

The *organism* is a tiny model that was trained on made-up facts so that its knowledge is known: what it saw often it believes
firmly. Would the results on it be the same with other made-up facts? Each column is an organism trained on a world of its
own. The first rows say how well each came out as intended (with the target to reach), the others what its audit concludes.
Words: [glossary](../glossary.md); H1 to H5: [hypotheses](../hypotheses.md); how it was made: [calibration](README.md).
"""


def with_interval(estimate: dict[str, Any] | None) -> str:
    """The estimate with its interval, as in ``0.72 [0.60, 0.83]``."""
    if not estimate or estimate["value"] is None:
        return "not measured"
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def audit_summary(folder: Path) -> dict[str, Any]:
    """The summary of this organism's audit under the default policies."""
    subject_name = str(folder / "model")
    plan = replace(plan_from({"probes": ("margins", "search", "critical")}), subject=subject_name)
    subject = open_subject(plan.subject, device="cpu")
    with tempfile.TemporaryDirectory() as out:
        run(plan, subject, open_source("hypernetwork", subject), read_items(folder / "items.jsonl"), Path(out))
        return summarise(load_run(Path(out)))


def row(folder: Path) -> dict[str, Any]:
    """One world: its figures, and the audit's verdict and hypotheses."""
    organism = load(folder=folder)
    figures, summary = evaluate(organism.hypernetwork, organism.items), audit_summary(folder)
    verdict = summary["verdict"]
    status = {row["id"]: f"{row['status']}, {with_interval(row['estimate'])}" for row in summary["hypotheses"]}
    quartiles = " ".join(f"{share:.2f}" for share in figures["quartiles"])
    return {
        "seed": organism.recipe["seed"],
        "quartiles, weak to strong": quartiles,
        **{name: f"{figures[name]:.3f}" for name in TARGETS},
        "targets missed": len(shortfalls(figures)),
        "verdict": f"{verdict['label']}, {with_interval(verdict['rescued'])}",
        **status,
    }


def main(folders: list[str]) -> None:
    """Print the table, one column per world."""
    if not folders:
        raise SystemExit("no folder given; pass the folders of organisms trained by `override-gap organism train`")
    table = pd.DataFrame([row(Path(folder)) for folder in folders]).set_index("seed").T
    least = pd.Series({name: f"at least {least}" for name, least in TARGETS.items()}, name="target")
    table.insert(0, "target", least.reindex(table.index).fillna(""))
    table.columns = ["target", *(f"seed {seed}" for seed in table.columns[1:])]
    print(HEAD)
    print(markdown(table.reset_index(names="figure")))


if __name__ == "__main__":
    main(sys.argv[1:])
