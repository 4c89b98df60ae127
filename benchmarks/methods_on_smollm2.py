"""A table of methods on SmolLM2: novel facts, conflicts with facts that it knows, unrelated answers kept.

Every method is audited on the same items: the benchmark's novel questions, its conflicts whose old answer begins with
the base's first token, and its retention questions. Success is by first token; intervals are 95%, clustered by
knowledge point; Q1 to Q4 are quartiles of prior strength, weak to strong. The in-context rows use no adapter.

    python benchmarks/methods_on_smollm2.py --out runs/methods > docs/methods-on-smollm2.md

All known conflicts are audited, with the retention questions that stand with the same documents, and `--novel` many novel
questions, evenly over the relations: each has a document of its own, whose adapter must be made.

The hypernetwork is the shipped one, or that of `--hypernetwork FOLDER`, which
`python -m override_gap.probes.smollm2.train` makes. If interrupted, give the same command again to resume.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.methods_tables import (
    PROMPTS,
    against_prompt,
    cause_table,
    cell,
    changed,
    differences,
    gradients,
    pass_through_table,
    prices,
    verdicts,
)
from override_gap.analyses.prior_gradient import arrays, gradient
from override_gap.analyses.readings import RunFrame, load, truth
from override_gap.analyses.stats.intervals import proportion
from override_gap.analyses.verdict import verdict
from override_gap.margins.items.item import Item
from override_gap.probes.items import open_items
from override_gap.probes.plan import Plan
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.run.loop import run
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject
from override_gap.reports.cli._progress import ProgressBar

POLICIES = "as-delivered,uniform-0.5,uniform-1.5,uniform-2,uniform-3"
#: Items that are also answered in words.
ANSWERS = 4

HEAD = """# Methods on SmolLM2

How well do different ways of giving a model a document work, side by side on one real model? The table has one row per
method: how often it teaches a new fact, how often it overrides a fact that the model knew, and how many unrelated answers it
leaves as they were. Putting the document into the prompt is shown beside them. Words: [glossary](glossary.md).

SmolLM2-135M-Instruct, float32; items of the benchmark: {counts}. The conflicts are {conflicts} whose old answer begins with
the base's first token, the retention questions those that stand with their documents, the novel ones are spread evenly over
the relations. Share of items whose first token is right (retention: unchanged), as delivered. Q1 to Q4 are quartiles of prior
strength, weak to strong. The in-context rows use no adapter. 95% intervals: of the novel, conflict and retention columns
clustered by knowledge point, which speaks of these relations alone; of the quartiles and under *Price* the wider of those
clustered by knowledge point and by relation.

`python benchmarks/methods_on_smollm2.py{options} > docs/methods-on-smollm2.md` writes this page up to its last section.
"""


@dataclass(frozen=True)
class Method:
    """A row of the table: the adapters of an audit, as delivered, or one of its prompts."""

    name: str
    adapters: str
    condition: str = "as-delivered"


ADAPTERS = {
    "fitted, weak": "fitted:steps=4,lr=3e-3",
    "fitted, strong": "fitted:steps=8,lr=1e-2",
    "rank-one": "rank-one",
}


def methods(hypernetwork: Path | None, only: Sequence[str] = tuple(ADAPTERS)) -> list[Method]:
    """The hypernetwork and the others that are named; prompts are read from the first audit, no adapter acts under them."""
    hypernetworks = {"hypernetwork": f"hypernetwork:folder={hypernetwork}" if hypernetwork else "hypernetwork"}
    others = {name: adapters for name, adapters in ADAPTERS.items() if name in only}
    rows = [Method(name, adapters) for name, adapters in (hypernetworks | others).items()]
    return rows + [Method(name, rows[0].adapters, condition) for name, condition in PROMPTS.items()]


def with_known_conflicts(subject: Subject, items: Sequence[Item], batch: int = 32) -> list[Item]:
    """Novel and retention items, and the conflicts whose old answer the base knows."""
    conflicts = [item for item in items if item.split == "conflict"]
    known: set[str] = set()
    for start in range(0, len(conflicts), batch):
        batch_items = conflicts[start : start + batch]
        prior = read_prior(subject, batch_items, [locate(subject, item) for item in batch_items])
        known |= {item.id for item, is_known in zip(batch_items, prior.known.tolist(), strict=True) if is_known}
    return [item for item in items if item.id in known or item.split in ("novel", "retention")]


def row(method: Method, readings: RunFrame) -> str:
    """The method's line: novel recall, conflict accuracy overall and by quartile, retention, verdict."""
    cells = [method.name]
    for split in ("novel", "conflict", "retention"):
        rows = readings.select(split, method.condition)
        share = proportion("success", truth(rows["success_top1"]), rows["point"].to_numpy(dtype=object))
        cells.append(cell(share.as_json()))
        if split == "conflict":
            quartiles = gradient(*arrays(rows, "top1"), method.condition).quartiles
            cells += [cell(quartile.accuracy.as_json()) for quartile in quartiles]
    cells.append(verdict(readings).label if method.condition == "as-delivered" else "-")
    return f"| {' | '.join(cells)} |"


def table(subject: Subject, items: Sequence[Item], rows: Sequence[Method], out: Path) -> list[str]:
    """Audit every method with adapters into its own folder under `out`; the table's lines."""
    frames: dict[str, RunFrame] = {}
    for method in rows:
        if method.condition != "as-delivered":
            continue
        print(f"{method.name}: {len(items)} items", file=sys.stderr)
        policies = POLICIES if frames else f"{POLICIES},{','.join(PROMPTS.values())}"  # prompts need no adapter: once
        plan = Plan(
            subject=subject.name,
            adapters=method.adapters,
            policies=policies,
            probes=("margins", "search", "answers"),
            answers=ANSWERS,
        )
        folder = out / method.name.replace(", ", "-")
        with ProgressBar(quiet=False) as bar:
            frames[method.name] = load(run(plan, subject, open_source(method.adapters, subject), items, folder, bar))
    lines = [
        "| method | novel | conflict | Q1 | Q2 | Q3 | Q4 | retention | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [row(method, frames.get(method.name, frames[rows[0].name])) for method in rows]
    sections = (verdicts, changed, cause_table, prices, gradients, against_prompt, pass_through_table)
    return [*lines, *(line for section in sections for line in section(frames)), *differences(frames)]


def main(argv: Sequence[str] | None = None) -> int:
    """Audit every method and print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/methods"), help="folder for the run folders")
    parser.add_argument("--limit", type=int, help="known conflicts at most, evenly over the relations")
    parser.add_argument("--novel", type=int, default=12, help="novel questions, evenly over the relations")
    parser.add_argument("--only", nargs="*", choices=ADAPTERS, default=list(ADAPTERS), help="methods beside it")
    parser.add_argument("--hypernetwork", type=Path, help="folder of a trained hypernetwork")
    args = parser.parse_args(argv)
    rows = methods(args.hypernetwork, args.only)
    subject = open_subject("smollm2", device="cpu")
    items = with_known_conflicts(subject, open_items("benchmark"))
    known = _of(items, "conflict")
    conflicts = over_relations(known, args.limit)
    documents = {item.document for item in conflicts}
    retention = [item for item in _of(items, "retention") if item.document in documents]
    items = [*over_relations(_of(items, "novel"), args.novel), *conflicts, *retention]
    counts = ", ".join(f"{len(_of(items, split))} {split}" for split in ("novel", "conflict", "retention"))
    which = (
        f"the {len(known)}"
        if len(conflicts) == len(known)
        else f"{len(conflicts)} of the {len(known)}, evenly over relations,"
    )
    options = "" if args.limit is None else f" --limit {args.limit}"
    if set(args.only) != set(ADAPTERS):
        options += " --only" + "".join(f" '{name}'" for name in args.only)
    print(HEAD.format(counts=counts, conflicts=which, options=options))
    print("\n".join(table(subject, items, rows, args.out)))
    return 0


def over_relations(items: Sequence[Item], count: int | None) -> list[Item]:
    """So many items, spread evenly over the list with its relations side by side; all of them for None."""
    if count is None or count >= len(items):
        return list(items)
    together = sorted(items, key=lambda item: str(item.meta.get("relation")))
    return [together[n * len(together) // count] for n in range(count)]


def _of(items: Sequence[Item], split: str) -> list[Item]:
    return [item for item in items if item.split == split]


if __name__ == "__main__":
    raise SystemExit(main())
