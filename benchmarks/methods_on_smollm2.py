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
from typing import Any

from override_gap.analyses.adjusted_gradient import adjusted_words, in_context, regressions
from override_gap.analyses.causes import MEANING, causes
from override_gap.analyses.compare.methods import side_by_side
from override_gap.analyses.dose_response import gains
from override_gap.analyses.pass_through import pass_through
from override_gap.analyses.price import price
from override_gap.analyses.prior_gradient import arrays, gradient
from override_gap.analyses.readings import RunFrame, load, points_of, truth
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

SmolLM2-135M-Instruct, float32; items of the benchmark: {counts}. The conflicts are all those whose old answer begins with the
base's first token, the retention questions those that stand with their documents, the novel ones are spread evenly over the
relations. Share of items whose first token is right (retention: unchanged), as delivered; 95% intervals, clustered by knowledge
point. Q1 to Q4 are quartiles of prior strength, weak to strong. The in-context rows use no adapter.

`python benchmarks/methods_on_smollm2.py --out runs/methods > docs/methods-on-smollm2.md` writes this page.
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
#: What the first version of the page called them.
BEFORE = {"hypernetwork": "mixed"} | dict.fromkeys(ADAPTERS, "representational")
PROMPTS = {"in-context, plain": "in-context", "in-context, instructed": "in-context-instructed"}


def methods(hypernetwork: Path | None) -> list[Method]:
    """The rows; the prompts are read from the first audit, since no adapter acts under them."""
    hypernetworks = {"hypernetwork": f"hypernetwork:folder={hypernetwork}" if hypernetwork else "hypernetwork"}
    rows = [Method(name, adapters) for name, adapters in (hypernetworks | ADAPTERS).items()]
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
        cells.append(_cell(share.as_json()))
        if split == "conflict":
            quartiles = gradient(*arrays(rows, "top1"), method.condition).quartiles
            cells += [_cell(quartile.accuracy.as_json()) for quartile in quartiles]
    cells.append(verdict(readings).label if method.condition == "as-delivered" else "-")
    return f"| {' | '.join(cells)} |"


def _cell(estimate: dict[str, Any]) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:.2f}" if low is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def differences(frames: dict[str, RunFrame]) -> list[str]:
    """Paired differences between every two methods, as delivered."""
    if len(frames) < 2:
        return []
    lines = ["", "Paired differences by first token, on the same items:", ""]
    lines += ["| items | methods | difference | p, Holm |", "|---|---|---|---|"]
    for pair in side_by_side(frames).pairs:
        if pair["measure"] == "top1" and pair["tier"] is None and pair["population"] == "all":
            lines.append(
                f"| {pair['split']} | {pair['first']} - {pair['second']} | {_cell(pair['difference'])} | {pair['p_holm']:.2g} |"
            )
    return lines


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


def verdicts(frames: dict[str, RunFrame]) -> list[str]:
    """What the verdict says of each method, in its own words."""
    found = {name: verdict(readings) for name, readings in frames.items()}
    return ["", "## Verdicts", "", *(f"- **{name}**: *{v.label}*. {v.sentence}" for name, v in found.items())]


def changed(frames: dict[str, RunFrame]) -> list[str]:
    """The labels beside those of the first version of this page, whose verdicts read two larger gains and nothing else."""
    lines = ["", "## What changed", ""]
    lines += [
        "The first version of this page called a method after gains of 1.5 and 2 alone, and did not ask for content.",
        "",
    ]
    lines += ["| method | then | now | flips | held | of failures | gains searched |", "|---|---|---|---|---|---|---|"]
    for name, readings in frames.items():
        now = verdict(readings)
        shares = [_cell(share.as_json()) if share else "-" for share in (now.rescued, now.held)]
        failures = str(now.held.n) if now.held else "-"
        gains_read = f"{now.searched.low:g} to {now.searched.high:g}" if now.searched else "-"
        lines.append(
            f"| {name} | {BEFORE.get(name, '-')} | {now.label} | {' | '.join(shares)} | {failures} | {gains_read} |"
        )
    return lines


def cause_table(frames: dict[str, RunFrame]) -> list[str]:
    """How many failures of each method have each cause."""
    counts = {
        name: found.items["cause"].value_counts()
        for name, readings in frames.items()
        if (found := causes(readings)) is not None
    }
    lines = [
        "",
        "## Causes of failure",
        "",
        f"| method | failures | {' | '.join(MEANING)} |",
        "|---" * (len(MEANING) + 2) + "|",
    ]
    for name, by_cause in counts.items():
        cells = [str(int(by_cause.get(cause, 0))) for cause in MEANING]
        lines.append(f"| {name} | {int(by_cause.sum())} | {' | '.join(cells)} |")
    return lines


def prices(frames: dict[str, RunFrame]) -> list[str]:
    """Override, unrelated answers kept and mean KL on unrelated questions at every uniform gain."""
    lines = ["", "## Price", "", "KL to the base in nats per token, on the retention questions.", ""]
    lines += ["| method | gain | conflicts overridden | unrelated kept | KL |", "|---|---|---|---|---|"]
    for name, readings in frames.items():
        paid = price(readings)
        for at in paid.rows if paid else ():
            condition = gains(readings)[at.gain]
            rows = readings.select("conflict", condition)
            share = proportion("success", truth(rows["success_top1"]), points_of(rows))
            kl = "-" if at.kl is None else _cell(at.kl.as_json())
            lines.append(
                f"| {name} | {at.gain:g} | {_cell(share.as_json())} | {_cell(at.retention.as_json())} | {kl} |"
            )
    return lines


def gradients(frames: dict[str, RunFrame]) -> list[str]:
    """The slope of failure on prior strength, alone and adjusted, of each method and of the document in the prompt."""
    lines = ["", "## Failure on prior strength", ""]
    lines += ["Log-odds of failure per standard deviation of log P(y_pre), of all conflicts that the base knows.", ""]
    lines += ["| method | alone | adjusted | adjusted for |", "|---|---|---|---|"]
    first = next(iter(frames.values()), None)
    rows = [(name, readings, "as-delivered") for name, readings in frames.items()]
    rows += [(name, first, condition) for name, condition in PROMPTS.items() if first is not None]
    for name, readings, condition in rows:
        fits = [fit for fit in regressions(readings, condition) if fit.outcome == "failure" and fit.population == "all"]
        if fits:
            alone, most = fits[0], fits[-1]
            words = adjusted_words(most.adjusted_for) if most.adjusted_for else "-"
            lines.append(f"| {name} | {_cell(alone.slope.as_json())} | {_cell(most.slope.as_json())} | {words} |")
    return lines


def against_prompt(frames: dict[str, RunFrame]) -> list[str]:
    """The same slopes with the document in the prompt, and the difference on the same items, where one run holds both."""
    lines = ["", "## Adapter against the document in the prompt", ""]
    lines += ["Slopes of failure on prior strength, on the same items of the conflicts that the base knows.", ""]
    lines += ["| method | adjusted for | adapter | prompt | adapter - prompt |", "|---|---|---|---|---|"]
    for name, readings in frames.items():
        section = in_context(readings)
        for slopes in section.content["slopes"] if section else ():
            if slopes["outcome"] == "failure" and slopes["population"] == "all":
                cells = [_cell(slopes[key]) for key in ("adapter", "prompt", "difference")]
                lines.append(f"| {name} | {adjusted_words(slopes['adjusted_for'])} | {' | '.join(cells)} |")
    return lines


def pass_through_table(frames: dict[str, RunFrame]) -> list[str]:
    """The slope of the adapted margin on the base margin: 1 a constant adapter margin, 0 a level that the adapter sets."""
    lines = ["", "## Pass-through", "", "| method | least squares | instrument |", "|---|---|---|"]
    for name, readings in frames.items():
        cells = [_cell(pass_through(readings, "known", method).slope.as_json()) for method in ("ols", "iv")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Audit every method and print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/methods"), help="folder for the run folders")
    parser.add_argument("--limit", type=int, help="known conflicts at most, evenly over the relations")
    parser.add_argument("--novel", type=int, default=12, help="novel questions, evenly over the relations")
    parser.add_argument("--hypernetwork", type=Path, help="folder of a trained hypernetwork")
    args = parser.parse_args(argv)
    rows = methods(args.hypernetwork)
    subject = open_subject("smollm2", device="cpu")
    items = with_known_conflicts(subject, open_items("benchmark"))
    conflicts = over_relations(_of(items, "conflict"), args.limit)
    documents = {item.document for item in conflicts}
    retention = [item for item in _of(items, "retention") if item.document in documents]
    items = [*over_relations(_of(items, "novel"), args.novel), *conflicts, *retention]
    counts = ", ".join(f"{len(_of(items, split))} {split}" for split in ("novel", "conflict", "retention"))
    print(HEAD.format(counts=counts))
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
