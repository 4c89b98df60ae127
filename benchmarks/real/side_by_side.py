"""PRAG and DyPRAG beside methods of this toolkit: the last section of docs/methods-on-smollm2.md.

    python benchmarks/real/side_by_side.py --prag SOURCE --dyprag SOURCE --out runs/side-by-side

The items: the benchmark's novel questions, conflicts whose old answer begins with the base's first token, and retention questions
of the same documents, each spread evenly. `--write-items FILE` writes them and stops, so that PRAG can be trained on their
documents. `--only NAME ...` audits some of the methods and prints nothing; without it, what is missing is audited first.
PRAG and DyPRAG are also audited, in run folders of their own, under the conditions in which their authors use them: several
documents' adapters together, and the document in the prompt beside its adapter.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from benchmarks.methods_on_smollm2 import Method, over_relations, row, with_known_conflicts
from benchmarks.methods_tables import cause_table, cell, differences, prices, verdicts
from override_gap.analyses.compare.conditions import against_delivered
from override_gap.analyses.readings import RunFrame, load, points_of, truth, values
from override_gap.analyses.stats.intervals import mean, proportion
from override_gap.margins.items.files import write_items
from override_gap.margins.items.item import Item
from override_gap.probes.items import open_items
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject
from override_gap.reports.cli._progress import ProgressBar

POLICIES = "as-delivered,uniform-0.5,uniform-1.5,uniform-2,uniform-3"
PROMPTS = ",in-context,in-context-instructed"
#: How PRAG (updates added) and DyPRAG (factors averaged) use several documents, and both beside the document in the prompt.
TOGETHER = ("as-delivered", "joined-2", "joined-mean-2", "combined", "in-context")
#: Items that are also answered in words.
ANSWERS = 4
OWN = {"hypernetwork": "hypernetwork", "fitted": "fitted:steps=8,lr=1e-2"}


def items_of(subject: Subject, novel: int, conflicts: int, retention: int) -> list[Item]:
    """So many items of each split, evenly over relations; retention questions of the conflicts' documents."""
    items = with_known_conflicts(subject, open_items("benchmark"))
    chosen = over_relations([i for i in items if i.split == "conflict"], conflicts)
    documents = {item.document for item in chosen}
    unrelated = [i for i in items if i.split == "retention" and i.document in documents]
    unrelated = [unrelated[n * len(unrelated) // retention] for n in range(min(retention, len(unrelated)))]
    return [*over_relations([i for i in items if i.split == "novel"], novel), *chosen, *unrelated]


def audited(subject: Subject, name: str, adapters: str, items: Sequence[Item], out: Path) -> RunFrame:
    """The readings of a method, made or resumed in a folder of its own; the first method's run holds the prompts too."""
    plan = Plan(
        subject=subject.name,
        adapters=adapters,
        policies=POLICIES + (PROMPTS if name == "hypernetwork" else ""),
        probes=("margins", "search", "answers"),
        answers=ANSWERS,
    )
    return measured(plan, subject, items, out / name.lower())


def together(subject: Subject, name: str, adapters: str, items: Sequence[Item], out: Path) -> RunFrame:
    """The readings of a method under the conditions of TOGETHER, made or resumed in a folder of their own."""
    plan = Plan(subject=subject.name, adapters=adapters, policies=",".join(TOGETHER), probes=("margins",))
    return measured(plan, subject, items, out / f"{name.lower()}-together")


def measured(plan: Plan, subject: Subject, items: Sequence[Item], folder: Path) -> RunFrame:
    """The readings of a plan, made or resumed."""
    with ProgressBar(quiet=False) as bar:
        return load(run(plan, subject, open_source(plan.adapters, subject), items, folder, bar))


def restricted(readings: RunFrame, items: Sequence[Item]) -> RunFrame:
    """The readings of these items alone: a run may hold more of them."""
    ids = {item.id for item in items}
    tables = {name: getattr(readings, name) for name in ("readings", "layers", "search")}
    return replace(readings, **{name: table[table["item"].isin(ids)] for name, table in tables.items()})


def section(frames: dict[str, RunFrame]) -> list[str]:
    """The table, verdicts, causes, prices and paired differences."""
    lines = [
        "| method | novel | conflict | Q1 | Q2 | Q3 | Q4 | retention | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row(Method(name, name), readings) for name, readings in frames.items()),
    ]
    first = frames["hypernetwork"]
    prompts = {"in-context, plain": "in-context", "in-context, instructed": "in-context-instructed"}
    lines += [row(Method(name, name, condition), first) for name, condition in prompts.items()]
    parts = (part for make in (verdicts, cause_table, prices) for part in make(frames))
    return [*lines, *parts, *differences(frames)]


def together_table(frames: dict[str, RunFrame]) -> list[str]:
    """Successes, net margin and KL to the base under each condition, and paired differences."""
    lines = ["", "### Several documents, and the prompt", ""]
    lines += ["Net margin in nats, on the conflicts; KL to the base in nats per token, on the retention questions.", ""]
    lines += ["| method | condition | novel | conflict | retention | net margin | KL |", "|---" * 7 + "|"]
    pairs = ["", "Paired differences by first token, on the same items:", ""]
    pairs += ["| method | items | conditions | difference | p, Holm |", "|---|---|---|---|---|"]
    gaps = ["", "Paired differences of the net margin, nats, on the conflicts:", ""]
    gaps += ["| method | conditions | difference |", "|---|---|---|"]
    for name, readings in frames.items():
        for condition in TOGETHER:
            cells = [name, condition]
            for split in ("novel", "conflict", "retention"):
                rows = readings.select(split, condition)
                cells.append(cell(proportion("success", truth(rows["success_top1"]), points_of(rows)).as_json()))
            for split, column in (("conflict", "net_margin"), ("retention", "kl")):
                rows = readings.select(split, condition)
                cells.append(cell(mean(column, values(rows[column]), points_of(rows)).as_json()))
            lines.append(f"| {' | '.join(cells)} |")
        for pair in against_delivered(readings).rows:
            which = f"{pair['first']} - {pair['second']}"
            p = "-" if pair["p_holm"] is None else f"{pair['p_holm']:.2g}"
            pairs.append(f"| {name} | {pair['split']} | {which} | {cell(pair['difference'])} | {p} |")
        for first, second in (*((name, "as-delivered") for name in TOGETHER[1:]), ("combined", "in-context")):
            rows, others = (readings.select("conflict", condition) for condition in (first, second))
            gap = values(rows["net_margin"]) - values(others.set_index("item").loc[rows["item"], "net_margin"])
            gaps.append(f"| {name} | {first} - {second} | {cell(mean('gap', gap, points_of(rows)).as_json())} |")
    return [*lines, *gaps, *pairs]


def main(argv: Sequence[str] | None = None) -> int:
    """Audit the methods that are missing and print the section."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--prag", help="PRAG's adapters, as --adapters takes them")
    parser.add_argument("--dyprag", help="DyPRAG's adapters, as --adapters takes them")
    parser.add_argument("--out", type=Path, default=Path("runs/side-by-side"), help="folder for the run folders")
    parser.add_argument("--only", nargs="*", help="audit these and print nothing")
    parser.add_argument("--write-items", type=Path, metavar="FILE", help="write the items and stop")
    parser.add_argument("--items", type=Path, metavar="FILE", help="only these of them: PRAG's documents, say")
    parser.add_argument("--together", action="store_true", help="only the table of several documents and the prompt")
    parser.add_argument("--from-runs", action="store_true", help="audit nothing: read the run folders as they are")
    parser.add_argument("--novel", type=int, default=12)
    parser.add_argument("--conflicts", type=int, default=40)
    parser.add_argument("--retention", type=int, default=40)
    args = parser.parse_args(argv)
    if args.from_runs and args.items:
        subject, items = None, open_items(str(args.items))
    else:
        subject = open_subject("smollm2", device="cpu")
        items = items_of(subject, args.novel, args.conflicts, args.retention)
    if args.write_items:
        write_items(items, args.write_items)
        return 0
    if args.items:
        kept = {item.id for item in open_items(str(args.items))}
        items = [item for item in items if item.id in kept]
    methods = OWN | {name: spec for name, spec in (("PRAG", args.prag), ("DyPRAG", args.dyprag)) if spec}
    chosen = {name: spec for name, spec in methods.items() if not args.only or name in args.only}
    frames, beside = {}, {}
    for name, spec in chosen.items():
        if not args.together:
            whole = audited(subject, name, spec, items, args.out) if subject else load(args.out / name.lower())
            frames[name] = restricted(whole, items)
        if name not in OWN:
            folder = args.out / f"{name.lower()}-together"
            beside[name] = restricted(
                together(subject, name, spec, items, args.out) if subject else load(folder), items
            )
    if not args.only and not args.together:
        counts = ", ".join(f"{sum(i.split == s for i in items)} {s}" for s in ("novel", "conflict", "retention"))
        print(f"Items of the benchmark: {counts}, about {len({i.document for i in items})} documents.\n")
        print("\n".join(f"#{line}" if line.startswith("## ") else line for line in section(frames)))
    if not args.only:
        print("\n".join(together_table(beside)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
