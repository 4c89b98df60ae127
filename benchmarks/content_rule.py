"""Does the content rule tell adapters that hold their document's answer from those that never saw it?

Adapters are planted from their definitions, audited, and the share of failing known conflicts that flip at some gain, and
that are held, is counted. Each world is audited twice: with the documents as they are, and with documents that state the
base's own second choice, which comes first wherever the old answer alone is lowered. `--set 0` are the recipes on which the
rule was chosen, `--set 1` others, kept aside. Every run replaces its own part of the page.

    python benchmarks/content_rule.py --set 0 --page docs/calibration/content.md
    python benchmarks/content_rule.py --set 1 --subject worlds/6/model --items worlds/6/items.jsonl --page ...
    python benchmarks/content_rule.py --set 1 --subject smollm2 --items benchmark --limit 24 --page ...
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.content_edits import Questions, edits, leading
from override_gap.analyses.readings import DELIVERED, RunFrame, load
from override_gap.analyses.stats.intervals import proportion
from override_gap.margins.adapter import Adapter, join
from override_gap.margins.content import MEASURED_FOR_CONTENT, has_content
from override_gap.margins.items.item import Document, Item, documents_of
from override_gap.margins.updates import LowRank
from override_gap.probes.items import open_items
from override_gap.probes.plan import Plan
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.run.loop import run
from override_gap.probes.sources import open_source
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject


@dataclass(frozen=True)
class Planted:
    """A source whose adapters were made before, by document; other documents (of retention questions) get these in turn."""

    name: str
    adapters: Mapping[str, Adapter]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The plant's name: a run is measured once."""
        return {"plant": self.name}

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        """The adapters of these documents."""
        planted = list(self.adapters.values())
        return [self.adapters.get(d.text, planted[n % len(planted)]) for n, d in enumerate(documents)]


def times(adapter: Adapter, gain: float) -> Adapter:
    """An adapter of low-rank updates times a number."""
    updates = {p: LowRank(u.A, u.B, u.scale * gain) for p, u in adapter.updates.items() if isinstance(u, LowRank)}
    return Adapter(adapter.name, updates)


def random_like(adapter: Adapter, generator: torch.Generator) -> Adapter:
    """Random factors of the same Frobenius norm at every map."""
    updates = {}
    for path, update in adapter.updates.items():
        assert isinstance(update, LowRank)
        a, b = (torch.randn(factor.shape, generator=generator) for factor in (update.A, update.B))
        updates[path] = LowRank(a, b, update.frobenius() / LowRank(a, b).frobenius())
    return Adapter("random", updates)


#: Factors of the right adapters, by recipe.
FACTORS = ((1 / 64, 0.1, 0.3), (1 / 32, 0.2, 0.7))


def of_source(
    subject: Subject, items: Sequence[Item], recipe: int, factors: Sequence[float]
) -> Iterator[tuple[str, str, dict[str, Adapter]]]:
    """Plants made of the hypernetwork's own adapters, among them these times each of the factors."""
    documents = documents_of(items)
    texts = [document.text for document in documents]
    encoded = open_source("hypernetwork", subject).encode(documents)
    own = {text: adapter for text, adapter in zip(texts, encoded, strict=True) if isinstance(adapter, Adapter)}
    relation = {item.document: str(item.meta.get("relation")) for item in items}
    order = np.random.default_rng(recipe).permutation(len(texts))
    generator = torch.Generator().manual_seed(recipe)
    randoms = {text: random_like(adapter, generator) for text, adapter in own.items()}
    for gain in factors:
        yield f"right, times {gain:.3g}", "content", {text: times(own[text], gain) for text in texts}
    half = {texts[n] for n in order[: len(texts) // 2]}
    yield (
        "right for half of the documents, else random",
        "half",
        {t: own[t] if t in half else randoms[t] for t in texts},
    )
    alike = {text: [other for other in texts if other != text and relation[other] == relation[text]] for text in texts}
    wrong = {t: own[o[order[n] % len(o)] if (o := alike[t]) else texts[n - 1]] for n, t in enumerate(texts)}
    yield "another document's, of the same relation", "blind", wrong
    yield "sign turned", "blind", {text: times(own[text], -1) for text in texts}
    yield "random", "blind", randoms
    sample = [times(own[texts[n]], 1 / min(16, len(texts))) for n in order[:16]]
    yield "mean of 16 documents", "blind", dict.fromkeys(texts, join(sample))


def known_conflicts(subject: Subject, items: Sequence[Item], limit: int | None) -> list[Item]:
    """The conflicts whose old answer the base knows; where that are more than `limit`, so many evenly spread over the file."""
    conflicts = [item for item in items if item.split == "conflict"]
    known = []
    for start in range(0, len(conflicts), 32):
        batch = conflicts[start : start + 32]
        prior = read_prior(subject, batch, [locate(subject, item) for item in batch])
        known += [item for item, is_known in zip(batch, prior.known.tolist(), strict=True) if is_known]
    if limit is None or limit >= len(known):
        return known
    return [known[n * len(known) // limit] for n in range(limit)]


def with_second_choices(subject: Subject, items: Sequence[Item]) -> list[Item]:
    """The same items, each of whose documents states the base's own second choice; those where that is no whole word left out."""
    prior = read_prior(subject, items, [locate(subject, item) for item in items])
    second = prior.logits.scatter(1, prior.pre[:, None].to(prior.logits.device), -torch.inf).argmax(-1).tolist()
    changed = []
    for item, token in zip(items, second, strict=True):
        word = subject.tokenizer.decode([token]).strip()
        if len(word) > 1 and word.isalpha() and word != item.prior_answer:
            text = item.document.replace(item.answer, word)
            other = replace(item, answer=word, document=text, aliases=())
            if locate(subject, other).doc == token:
                changed.append(other)
    return changed


@dataclass(frozen=True)
class Shares:
    """A plant's failing known conflicts: their points, and per rule which of them flip or are held."""

    points: np.ndarray
    held: Mapping[str, np.ndarray]


def shares(frame: RunFrame) -> Shares:
    """Every rule applied to the stored rows of the search."""
    delivered = frame.select("conflict", DELIVERED, "known")
    failing = delivered[~delivered["success_top1"].astype(bool)]
    rows = frame.search
    rows = rows[(rows["condition"] == DELIVERED) & ~rows["broken"].astype(bool) & (rows["success_top1"] == True)]  # noqa: E712
    measured = [rows[name].to_numpy(dtype=float) for name in MEASURED_FOR_CONTENT]
    rank, base = measured[:2]
    kl = rows["kl"].to_numpy(dtype=float)
    none = np.full(len(rows), np.nan)
    rules = {
        "flips": np.ones(len(rows), dtype=bool),
        "other answers": has_content(rank, none, none, none) == 1,
        "both sets": has_content(rank, base, none, none) == 1,
        "rule": has_content(*measured) == 1,
    }
    for threshold in (0.9, 0.975):
        rules[f"rank {threshold}"] = has_content(*measured, threshold=threshold) == 1
    for bound in (0.5, 0.25):
        rules[f"KL {bound}"] = rules["rule"] & (kl <= bound)
    ids = failing["item"].to_numpy()
    held = {name: np.isin(ids, rows["item"].to_numpy()[mask]) for name, mask in rules.items()}
    return Shares(failing["point"].to_numpy(dtype=object), held)


def audited(subject: Subject, items: Sequence[Item], name: str, adapters: Mapping[str, Adapter]) -> Shares:
    """One plant, audited as any method is."""
    plan = Plan(subject=subject.name, adapters=name, policies="as-delivered", probes=("margins", "search"))
    with tempfile.TemporaryDirectory() as folder:
        return shares(load(run(plan, subject, Planted(name, adapters), items, Path(folder) / "run")))


def table(measured: Mapping[str, tuple[str, Shares]]) -> list[str]:
    """Plants as rows; then the operating figures, averaged over the plants of one kind."""
    columns = ("flips", "other answers", "both sets", "rule")
    lines = [f"| plant | kind | failures | {' | '.join(columns)} |", f"|---|---|---|{'---|' * len(columns)}"]
    for name, (kind, found) in measured.items():
        cells = []
        for column in columns:
            share = proportion(column, found.held[column].astype(float), found.points)
            interval = f" [{share.low:.2f}, {share.high:.2f}]" if column == "rule" and share.low == share.low else ""
            cells.append(f"{share.value:.2f}{interval}" if share.n else "-")
        lines.append(f"| {name} | {kind} | {len(found.points)} | {' | '.join(cells)} |")
    others = ("rank 0.9", "rule", "rank 0.975", "KL 0.5", "KL 0.25")
    lines += ["", f"| mean over plants | {' | '.join(others)} |", f"|---|{'---|' * len(others)}"]
    for kind in ("content", "blind"):
        of_kind = [found for k, found in measured.values() if k == kind and len(found.points)]
        if not of_kind:
            continue
        means = [np.mean([found.held[rule].mean() for found in of_kind]) for rule in others]
        lines.append(f"| {kind} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Audit every plant of one set in one world, and print or write its part of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", type=int, choices=(0, 1), default=0)
    parser.add_argument("--subject", default="organism")
    parser.add_argument("--items", default="organism")
    parser.add_argument("--limit", type=int, help="known conflicts at most")
    parser.add_argument("--only", default="", help="plants whose name holds this regular expression")
    parser.add_argument("--title", help="what the page calls the world; default: the subject's name")
    parser.add_argument("--page", type=Path, help="page of which this part is replaced or added")
    args = parser.parse_args(argv)
    subject = open_subject(args.subject, device="cpu")
    items = open_items(args.items)
    retention = [item for item in items if item.split == "retention"][:40]
    plain = known_conflicts(subject, items, args.limit)
    title = f"{args.title or args.subject}, set {args.set}"
    lines = [f"## {title}"]
    for wording, conflicts in (
        ("Documents as they are", plain),
        ("Documents that state the base's second choice", with_second_choices(subject, plain)),
    ):
        questions = Questions.read(subject, conflicts, args.set, [item for item in items if item.split == "conflict"])
        measured: dict[str, tuple[str, Shares]] = {}
        for plants in (
            of_source(subject, conflicts, args.set, FACTORS[args.set]),
            edits(questions, args.set, args.only),
        ):
            for name, kind, adapters in plants:
                if not re.search(args.only, name):
                    continue
                measured[name] = (kind, audited(subject, [*conflicts, *retention], name, adapters))
                print(f"{title}: {name}: {measured[name][1].held['rule'].mean():.2f}", file=sys.stderr, flush=True)
        count = f"{len(conflicts)} known conflicts"
        count += f"; the base puts y_doc before the relation's other answers at {leading(questions)}"
        lines += ["", f"**{wording}**: {count}.", "", *table(measured)]
    text = "\n".join(lines) + "\n"
    if args.page is None:
        print(text)
    else:
        before = args.page.read_text(encoding="utf-8")
        parts = [part for part in before.split("\n## ") if not part.startswith(title)]
        args.page.write_text("\n## ".join(parts).rstrip() + f"\n\n{text}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
