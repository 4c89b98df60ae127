"""Do tuning's figures out of fold hold on items that it never saw? Organisms of several worlds, and any stored run.

Each FOLDER is an organism (`override-gap organism train --seed N --out FOLDER`; `shipped` is the one in the package). Its
items of DRAWS draws (other documents and questions about the same facts) are audited once into OUT, its official items
and one more draw apart from these. Then 50 times half of the knowledge points are tuned on, and what was expected out of fold is
compared with what the chosen policy does on the other half; and once the official items are tuned on and the fresh draw is the
comparison. `--run RUN` splits a stored run in the same way.

    python benchmarks/tuning.py audit shipped FOLDER... --out runs/tuning
    python benchmarks/tuning.py items runs/conflicts-and-retention.jsonl
    python benchmarks/tuning.py compare runs/tuning --run runs/smollm2 --page docs/calibration/tuning.md
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from override_gap.analyses.calibration import markdown
from override_gap.analyses.price import UNITS
from override_gap.analyses.readings import RunFrame, load, points_of, truth, values
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import mean, proportion
from override_gap.analyses.tune import Budget
from override_gap.analyses.tune.choose import choose_by
from override_gap.analyses.tune.select import BY_ESTIMATE, BY_LIMIT
from override_gap.analyses.verdict import read_by_rule
from override_gap.margins.items.files import write_items
from override_gap.probes.items import open_items
from override_gap.probes.store.schema import READINGS

POLICIES = "as-delivered,uniform,slb,ca"
DRAWS, FRESH = (1, 2, 3, 4), 5
REPETITIONS = 50
FIGURES = ("conflict", "difference", "retention", "kl")
BUDGETS = (Budget(0.95), Budget(0.9), Budget(None, 0.1))
RUN_BUDGETS = (Budget(0.7), Budget(0.5), Budget(None, 0.3))
"""Of stored runs: SmolLM2's hypernetwork keeps 60% of unrelated answers as delivered."""


def audit(folder: str, out: Path) -> None:
    """Audit an organism's draws into OUT/SEED/many, official and fresh; what is finished is not measured again."""
    from override_gap.probes.organism.load import load as load_organism
    from override_gap.probes.organism.plants.items import plant_items
    from override_gap.probes.plan import plan_from
    from override_gap.probes.run.loop import run as measure
    from override_gap.probes.sources import open_source
    from override_gap.probes.subject.load import open_subject

    organism = load_organism() if folder == "shipped" else load_organism(folder=Path(folder))
    name = "organism" if folder == "shipped" else str(Path(folder) / "model")
    plan = plan_from({"probes": ("margins",), "policies": POLICIES, "answers": 0})
    subject = open_subject(name, device="cpu")
    source = open_source("hypernetwork", subject)
    for part, draws in (("many", DRAWS), ("official", (0,)), ("fresh", (FRESH,))):
        items = [replace(item, id=f"{item.id}-draw-{draw}") for draw in draws for item in plant_items(organism, draw)]
        target = out / f"world-{organism.recipe['seed']}" / part
        target.mkdir(parents=True, exist_ok=True)
        measure(replace(plan, subject=name), subject, source, items, target)


def half(run: RunFrame, points: set[str]) -> RunFrame:
    """The readings of some knowledge points."""
    kept = run.readings["point"].isin(points)
    return RunFrame(run.manifest, run.readings[kept].reset_index(drop=True))


def slim(run: RunFrame) -> RunFrame:
    """The run with the columns that tuning reads, so that halves are made quickly."""
    return RunFrame(run.manifest, run.readings[[*READINGS.required, "gain_mean", "kl", "cluster"]])


def halves(run: RunFrame, repetition: int) -> tuple[RunFrame, RunFrame]:
    """The run's knowledge points in two halves at random."""
    points = np.array(sorted(set(run.readings["point"])), dtype=object)
    drawn = np.random.default_rng([repetition, 21]).permutation(len(points)) < len(points) / 2
    return half(run, set(points[drawn])), half(run, set(points[~drawn]))


def achieved(run: RunFrame, policy: str) -> dict[str, Estimate]:
    """What a policy does on items that it was not chosen on; the difference is paired by item."""
    conflict, delivered = (run.select("conflict", name).set_index("item") for name in (policy, "as-delivered"))
    retention = run.select("retention", policy)
    won, points = truth(conflict["success_top1"]), points_of(conflict.reset_index())
    gap = won - truth(delivered["success_top1"].reindex(conflict.index))
    kept = points_of(retention)
    found = {
        "conflict": (proportion("", won, points), points),
        "difference": (mean("", gap, points), points),
        "retention": (proportion("", truth(retention["success_top1"]), kept), kept),
        "kl": (mean("", values(retention["kl"]), kept, units=UNITS), kept),
    }
    return {name: read_by_rule(estimate, of) for name, (estimate, of) in found.items()}


def agree(first: Estimate, second: Estimate) -> bool:
    """Whether the 95% interval of the difference of two independent estimates holds 0 (MOVER: Zou & Donner 2008).

    Both sides' sampling errors enter: low = d - sqrt((a - low_a)^2 + (high_b - b)^2), high likewise.
    """
    d = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return d - below <= 1e-12 and d + above >= -1e-12


def compared(tuned: RunFrame, fresh: RunFrame, budget: Budget, rule: str = BY_LIMIT) -> dict[str, Any] | None:
    """One comparison: what was expected against what the chosen policy does on the fresh items; None where none was chosen."""
    choice = choose_by(tuned, budget, None, 0, rule)
    if not choice.expected:
        return None
    found = achieved(fresh, choice.policy)
    row: dict[str, Any] = {"policy": choice.policy, "recommendation": choice.recommendation}
    for name in FIGURES:
        expected, fitted = choice.expected[name], choice.in_sample[name]
        if expected is None or fitted is None:
            assert name == "difference", "as delivered differs from itself by nothing, and nothing is compared"
            continue
        row[f"{name} expected"], row[f"{name} in sample"] = expected.value, fitted.value
        row[f"{name} fresh"] = found[name].value
        row[f"{name} agrees"] = agree(expected, found[name])
        row[f"{name} in sample agrees"] = agree(fitted, found[name])
    over = [] if budget.keep is None else [found["retention"].value < budget.keep]
    over += [] if budget.kl is None else [found["kl"].value > budget.kl]
    return row | {"over": any(over)}


def repeated(run: RunFrame, budgets: Sequence[Budget]) -> dict[tuple[Budget, str], pd.DataFrame]:
    """All repetitions of one run, by budget and rule; each half is read once."""
    found: dict[tuple[Budget, str], list[dict[str, Any]]] = {
        (budget, rule): [] for budget in budgets for rule in (BY_LIMIT, BY_ESTIMATE)
    }
    for repetition in range(REPETITIONS):
        tuned, fresh = halves(run, repetition)
        for (budget, rule), rows in found.items():
            row = compared(tuned, fresh, budget, rule)
            rows += [] if row is None else [row]
    return {key: pd.DataFrame(rows) for key, rows in found.items()}


def runs_of(out: Path, others: list[Path]) -> Iterator[tuple[str, RunFrame, tuple[Budget, ...]]]:
    """Every run that is split, with its name and budgets."""
    for folder in sorted(out.glob("world-*")):
        yield folder.name.replace("-", " "), load(folder / "many"), BUDGETS
    for path in others:
        run = load(path)
        yield str((run.manifest.get("subject") or {}).get("name")), run, RUN_BUDGETS


def agreement_row(name: str, budget: Budget, rows: pd.DataFrame) -> dict[str, Any]:
    """One row of the page's first table."""
    share = {figure: f"{rows[f'{figure} agrees'].dropna().astype(float).mean():.2f}" for figure in FIGURES}
    bias = 100 * (rows["conflict expected"] - rows["conflict fresh"]).mean()
    fitted = 100 * (rows["conflict in sample"] - rows["conflict fresh"]).mean()
    kept = 100 * (rows["retention expected"] - rows["retention fresh"]).mean()
    kept_fitted = 100 * (rows["retention in sample"] - rows["retention fresh"]).mean()
    chosen = rows["policy"].value_counts()
    return {
        "run": name,
        "budget": str(budget).replace(" of unrelated answers", ""),
        "chosen": ", ".join(f"{policy} {n}" for policy, n in chosen.items()),
        **{f"{figure} agrees": value for figure, value in share.items()},
        "override, out of fold - fresh": f"{bias:+.1f}",
        "in sample - fresh": f"{fitted:+.1f}",
        "kept, out of fold - fresh": f"{kept:+.1f}",
        "kept, in sample - fresh": f"{kept_fitted:+.1f}",
    }


def promise_row(name: str, budget: Budget, by_rule: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """How often the budget is broken on the fresh half, by the rule that chose, and what each rule overrides there."""
    row: dict[str, Any] = {"run": name, "budget": str(budget).replace(" of unrelated answers", "")}
    for rule, rows in by_rule.items():
        row[f"{rule}: broken"] = f"{rows['over'].mean():.2f}"
        row[f"{rule}: override"] = f"{100 * rows['conflict fresh'].mean():.1f}"
    return row


def fresh_row(folder: Path, budget: Budget) -> dict[str, Any]:
    """The official items tuned on, and the chosen policy on a draw that was audited apart."""
    row = compared(load(folder / "official"), load(folder / "fresh"), budget)
    assert row is not None
    return {
        "run": folder.name.replace("-", " "),
        "budget": str(budget).replace(" of unrelated answers", ""),
        "policy": row["policy"],
        **{
            f"{name}: out of fold, in sample, fresh": ", ".join(
                f"{row[f'{name} {of}']:.3f}" for of in ("expected", "in sample", "fresh")
            )
            for name in ("conflict", "retention", "kl")
        },
        "agree": "yes" if all(row.get(f"{name} agrees", True) for name in FIGURES) else "no",
    }


def main(argv: list[str]) -> None:
    """Audit worlds, write the items for SmolLM2, or split audits and print the tables (or put them into the page)."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("action", choices=("audit", "items", "compare"))
    options.add_argument("folders", nargs="+")
    options.add_argument("--out", type=Path, default=Path("runs/tuning"))
    options.add_argument("--run", type=Path, action="append", default=[])
    options.add_argument("--page", type=Path)
    args = options.parse_args(argv)
    if args.action == "audit":
        for folder in args.folders:
            audit(folder, args.out)
        return
    if args.action == "items":
        kept = [item for item in open_items("benchmark") if item.split in ("conflict", "retention")]
        write_items(kept, args.folders[0])
        return
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    out = Path(args.folders[0])
    tables: dict[str, list[dict[str, Any]]] = {"agreement": [], "promise": [], "fresh": []}
    for name, run, budgets in runs_of(out, args.run):
        every = repeated(slim(run), budgets)
        for budget in budgets:
            by_rule = {rule: every[budget, rule] for rule in (BY_LIMIT, BY_ESTIMATE)}
            tables["agreement"].append(agreement_row(name, budget, by_rule[BY_LIMIT]))
            tables["promise"].append(promise_row(name, budget, by_rule))
            print(json.dumps(tables["agreement"][-1] | tables["promise"][-1]), file=sys.stderr, flush=True)
    for folder in sorted(out.glob("world-*")):
        tables["fresh"] += [fresh_row(folder, budget) for budget in BUDGETS]
    text = args.page.read_text() if args.page else ""
    for name, rows in tables.items():
        table = markdown(pd.DataFrame(rows))
        if not args.page:
            print(f"{name}\n\n{table}\n")
            continue
        head, _, rest = text.partition(f"<!-- {name} -->")
        text = f"{head}<!-- {name} -->\n{table}\n<!-- /{name} -->{rest.partition(f'<!-- /{name} -->')[2]}"
    if args.page:
        args.page.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
