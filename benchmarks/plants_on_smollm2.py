"""Plants in SmolLM2's hypernetwork: do the verdict and the causes say what is known of adapters made to fail?

Every plant is audited as any method is, on all of the benchmark's conflicts of some relations; its failures among those whose
old answer the base knows are searched. *right* are the hypernetwork's own adapters times a factor: what is held of an item
should not depend on it. The others hold nothing of the document, and should never be called *magnitude*.

    python benchmarks/plants_on_smollm2.py --out runs/plants [--only REGEX] --page docs/calibration/smollm2.md

If interrupted, give the same command again to resume.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.content_edits import Questions, edits
from benchmarks.content_rule import Planted, known_conflicts, of_source
from override_gap.analyses.causes import HELD, MEANING
from override_gap.analyses.readings import RunFrame, load
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.verdict import verdict
from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Item
from override_gap.probes.items import open_items
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject

FACTORS = (1.0, 1 / 10, 1 / 64, 4.0)
#: 110 of the benchmark's conflicts, of which SmolLM2 knows 41.
RELATIONS = ("capital", "element", "symbol")
RIGHT, BLIND = "right, times", "blind"
CHOSEN = (
    r"right, times|another document's|mean of 16|^random$|forgetting, (fitted|its logit)|of the relation raised, fitted"
)
RETENTION = 40

HEAD = """# Known faults in a real model's adapters

Does the tool's verdict hold up on a real model? Here the adapters of SmolLM2, the changes that a method makes to its weights,
were spoiled on purpose (made weaker or stronger, taken from another document, replaced by random ones; such an adapter is
called a *plant*) and measured as any method is. Those that were made without the document should never be called *magnitude*,
which would mean that the right strength repairs them. Words: [glossary](../glossary.md).

Adapters of SmolLM2-135M-Instruct whose failure is known by construction, audited as any method is: the {conflicts} conflicts
of the benchmark about {relations}, {known} of them with an old answer that the base knows ({points} knowledge points), and
{retention} retention questions. *right* are the hypernetwork's own adapters times a factor; nobody knows how many of them
hold their document's answer, but a factor changes nothing about it. *blind* ones were made without the document: another
document's adapter, the mean of 16, random factors of the right norms, edits that lower the old answer, and one that raises
every answer that the benchmark has for the relation. *failing*: as delivered, of the known conflicts; *flips*: of the failures,
those whose first token flips at a gain above 1 that does not break the model; *held*: those held with content at any such gain,
below 1 too; *affordable*: held at a gain that costs little; 95% intervals as the verdict reads them. Then causes, in failures.

A label is about what fails as delivered. Unmodified, the adapters answer most items, and what fails is not for want of
strength; at a tenth they fail nearly everywhere, and most of that is. So the labels of *right* adapters may differ by factor,
and the second table compares item by item: what fails unmodified too should be held or not as before, and what succeeds
unmodified should be held.

`python benchmarks/plants_on_smollm2.py{only} --page docs/calibration/smollm2.md` writes this page.
"""


@dataclass(frozen=True)
class Audited:
    """A plant, whether it is blind or right, and the readings of its audit."""

    name: str
    kind: str
    readings: RunFrame


def plants(
    subject: Subject, conflicts: Sequence[Item], known: Sequence[Item], only: str
) -> Iterator[tuple[str, str, Mapping[str, Adapter]]]:
    """The hypernetwork's adapters for all conflicts, and edits made on the questions that are known."""
    yield from of_source(subject, conflicts, 1, FACTORS)
    yield from edits(Questions.read(subject, known, 1, conflicts), 1, only)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """So many items, evenly over the list."""
    return [items[n * len(items) // count] for n in range(min(count, len(items)))]


def audited(subject: Subject, items: Sequence[Item], name: str, adapters: Mapping[str, Adapter], out: Path) -> RunFrame:
    """One plant's readings, in a folder of its own."""
    plan = Plan(subject=subject.name, adapters=name, policies="as-delivered", probes=("margins", "search"))
    folder = out / re.sub(r"[^\w.]+", "-", name)
    return load(run(plan, subject, Planted(name, adapters), items, folder))


def table(plants: Sequence[Audited]) -> list[str]:
    """Label, shares and causes of every plant; then what each verdict says."""
    lines = [
        f"| plant | kind | label | failing | flips | held | affordable | {' | '.join(MEANING)} |",
        f"|---|---|---|---|---|---|---|{'---|' * len(MEANING)}",
    ]
    sentences = ["", "What the verdict says:", ""]
    for plant in plants:
        said = verdict(plant.readings)
        shares = [_cell(estimate) for estimate in (said.failing, said.rescued, said.held, said.affordable)]
        counts = said.causes.items["cause"].value_counts() if said.causes else {}
        causes = [str(int(counts.get(cause, 0))) for cause in MEANING]
        lines.append(f"| {' | '.join([plant.name, plant.kind, f'*{said.label}*', *shares, *causes])} |")
        sentences.append(f"- **{plant.name}**: *{said.label}*. {said.sentence}")
    return lines + sentences


def findings(plants: Sequence[Audited]) -> list[str]:
    """The two things that the page is to show, as sentences."""
    labels = {plant.name: verdict(plant.readings).label for plant in plants}
    right = {name: label for name, label in labels.items() if name.startswith(RIGHT)}
    blind = [plant.name for plant in plants if plant.kind == BLIND]
    wrong = [name for name in blind if labels[name] == "magnitude"]
    by_factor = ", ".join(f"{name.removeprefix(RIGHT).strip()} *{label}*" for name, label in right.items())
    return [
        f"Labels of the right adapters by factor: {by_factor}.",
        "",
        f"Blind plants called *magnitude*: {', '.join(wrong) or 'none'} of {len(blind)}.",
        "",
        *beside_unmodified(plants),
    ]


def beside_unmodified(plants: Sequence[Audited]) -> list[str]:
    """The right adapters times a factor, item by item: what fails unmodified is held or not as before, what succeeds is held.

    A label is about what fails as delivered. Adapters at a tenth fail on items that they would answer unmodified, so that
    their label may rightly be another one; what is known of each item must not be.
    """
    whole = next((plant for plant in plants if plant.name == f"{RIGHT} 1"), None)
    found = {plant.name: verdict(plant.readings).causes for plant in plants if plant.name.startswith(RIGHT)}
    if whole is None or (first := found[whole.name]) is None:
        return []
    before = first.items.set_index("item")["cause"].isin(HELD)
    lines = [
        "| adapters | fail unmodified too | of these held alike | succeed unmodified | of these held |",
        "|---|---|---|---|---|",
    ]
    for name, others in found.items():
        if others is None or name == whole.name:
            continue
        now = others.items.set_index("item")["cause"].isin(HELD)
        both, anew = now.index.intersection(before.index), now.index.difference(before.index)
        alike = int((now[both] == before[both]).sum())
        lines.append(f"| {name} | {len(both)} | {alike} | {len(anew)} | {int(now[anew].sum())} |")
    return [*lines, ""]


def _cell(estimate: Estimate | None) -> str:
    if estimate is None or not estimate.n:
        return "-"
    interval = f" [{estimate.low:.2f}, {estimate.high:.2f}]" if estimate.low == estimate.low else ""
    return f"{estimate.value:.2f}{interval}"


def main(argv: Sequence[str] | None = None) -> int:
    """Audit every plant, and print or write the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/plants"), help="folder for the run folders")
    parser.add_argument("--only", default=CHOSEN, help="plants whose name holds this regular expression")
    parser.add_argument("--relations", nargs="+", default=RELATIONS, help="relations whose conflicts are audited")
    parser.add_argument("--page", type=Path, help="page to write")
    args = parser.parse_args(argv)
    subject = open_subject("smollm2", device="cpu")
    items = open_items("benchmark")
    conflicts = [item for item in items if item.split == "conflict" and item.meta["relation"] in args.relations]
    known = known_conflicts(subject, conflicts, None)
    documents = {item.document for item in known}
    retention = [item for item in items if item.split == "retention" and item.document in documents]
    retention = spread(retention, RETENTION)
    measured = []
    for name, kind, adapters in plants(subject, conflicts, known, args.only):
        if re.search(args.only, name):
            measured.append(Audited(name, kind, audited(subject, [*conflicts, *retention], name, adapters, args.out)))
            print(f"{name}: {verdict(measured[-1].readings).label}", file=sys.stderr, flush=True)
    head = HEAD.format(
        conflicts=len(conflicts),
        known=len(known),
        points=len({item.point for item in known}),
        relations=", ".join(args.relations),
        retention=len(retention),
        only="" if args.only == CHOSEN else f" --only '{args.only}'",
    )
    text = "\n".join([head, *findings(measured), *table(measured)]) + "\n"
    if args.page is None:
        print(text)
    else:
        args.page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
