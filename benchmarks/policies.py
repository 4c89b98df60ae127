"""Every policy against uniform scaling that costs as much, on made-up worlds, fresh items, a real model and fitted adapters.

Each subject is audited once, under every policy by name; the comparisons are those of every report (`analyses/equal_cost.py`).

    python benchmarks/policies.py --worlds worlds/6 worlds/7 --unseen worlds/8 --out runs/policies > docs/policies.md

`worlds/N` is made by `override-gap organism train --seed N --out worlds/N`. If interrupted, give the same command again to
resume; `--only NAME ...` audits some subjects, and the page is written from those whose run folders are whole.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.policies_tables import page
from override_gap.analyses.readings import RunFrame, load
from override_gap.margins.adapter import AdapterSource
from override_gap.margins.items.item import Item, item_from_record
from override_gap.probes.items import open_items
from override_gap.probes.organism.examination import build_items
from override_gap.probes.organism.load import load as load_organism
from override_gap.probes.organism.plants.catalogue import PLANTS
from override_gap.probes.organism.plants.items import ALL_SPLITS, SPLITS, context_for
from override_gap.probes.organism.world import Size, build_world
from override_gap.probes.run.audit import audit
from override_gap.probes.sources.planted import PlantedSource
from override_gap.reports.cli._progress import ProgressBar

STRENGTHS = ("0.5", "0.75", "1", "1.5", "2", "3", "6", "12")
CORE = (
    "as-delivered",
    *(f"uniform-{gain}" for gain in ("0.25", "0.5", "0.75", "1.25", "1.5", "2", "3")),
    *(f"effect-gated-{gain}" for gain in STRENGTHS),
    *(f"effect-alone-{gain}" for gain in ("0.75", "1.5", "3")),
    *(f"overlap-scaled-{gain}" for gain in ("0.75", "1.5", "3")),
    "slb",
    "ca",
    "relevance-gate",
    "margin-matched",
    *(f"{gate}:uniform-1.5" for gate in ("if-confident", "if-disagrees", "if-conflict", "if-relevant", "if-effect")),
)
"""Policies of every audit."""
MORE = (
    "uniform-1.1",
    "uniform-1.75",
    "uniform-2.25",
    "uniform-2.5",
    "uniform-4",
    "uniform-6",
    "uniform-8",
    "effect-gated-1.25",
    "effect-gated-1.75",
    "effect-gated-2.25",
    "effect-gated-2.5",
    "effect-gated-4",
    "effect-gated-8",
    "effect-gated-1.5-2",
    "effect-gated-1.5-4-3",
    "ca-slb",
    "random-layers",
    "bottom-layers",
    "effect-layers",
    "least-effect-layers",
    "layers-1.5x4_1x4",
    "layers-1x4_1.5x4",
)
"""Further ones on the organism, which is small."""
DEVELOPMENT, CONFIRMATION, UNSEEN, HALVES, PLANT = "development", "confirmation", "unseen", "half each", "plant"
PLANTED = ("times-0.3", "times-3", "at-a-price", "beside-mean")


@dataclass(frozen=True)
class Case:
    """One audit: a subject, adapters, and the items; `role` says whether the form of effect-gated was chosen on it."""

    name: str
    subject: str
    adapters: Callable[[], str | AdapterSource]
    items: Callable[[], list[Item]]
    role: str
    says: str
    policies: tuple[str, ...] = CORE + MORE

    def kinds(self) -> dict[str, str]:
        """What kind of question each item is: its split, the kind of unrelated question, a wording kept from training."""
        labels = {}
        for item in self.items():
            kept = item.meta.get("trained_wording") is False and item.split in ("conflict", "novel")
            detail = item.meta.get("kind") or ("untrained wording" if kept else "")
            labels[item.id] = f"{item.split}, {detail}" if detail else item.split
        return labels


def drawn(folder: Path | None, draws: Sequence[int], splits: Sequence[str] = ALL_SPLITS) -> list[Item]:
    """Items of an organism's world: draw 0 its own, others new documents and questions about the same facts."""
    organism = load_organism() if folder is None else load_organism(folder=folder)
    world = build_world(int(organism.recipe["seed"]), Size(**organism.recipe["world"]))
    items = []
    for draw in draws:
        records = build_items(world, draw) if draw else organism.items
        found = [item_from_record(record) for record in records if record["split"] in splits]
        items += [replace(item, id=f"{draw}/{item.id}") if draw else item for item in found]
    return items


def benchmark(splits: Sequence[str] = ALL_SPLITS, every: int = 5) -> list[Item]:
    """The benchmark's items of some splits, and of the novel ones every fifth: each has a document of its own."""
    items = [item for item in open_items("benchmark") if item.split in splits]
    novel = [item for item in items if item.split == "novel"][::every]
    return [*(item for item in items if item.split != "novel"), *novel]


def planted(name: str) -> AdapterSource:
    """Adapters of the organism that are made to succeed or fail in a known way."""
    return PlantedSource(PLANTS[name], context_for(load_organism()))


METHODS = {
    "": ("hypernetwork", "the hypernetwork that is trained with it"),
    ", fitted": ("fitted", "gradient steps on each document"),
    ", rank-one": ("rank-one", "an update of rank one as ROME makes it"),
}
"""By what is added to a case's name: adapters, and what they are."""


def cases(worlds: Sequence[Path], unseen: Sequence[Path] = ()) -> list[Case]:
    """The audits: world 0 as shipped, the worlds given, those trained after the form was fixed, plants, and SmolLM2."""
    found = []
    for folder in (None, *worlds, *unseen):
        subject, name = ("organism", "organism") if folder is None else (str(folder / "model"), f"world {folder.name}")
        role, draws = (DEVELOPMENT, (3, 4)) if folder is None else (CONFIRMATION, (1, 2))
        role = UNSEEN if folder in unseen else role
        own = partial(drawn, folder, (0,))
        found += [
            Case(f"{name}{ending}", subject, partial(str, adapters), own, role, says)
            for ending, (adapters, says) in METHODS.items()
        ]
        fresh = "the hypernetwork, new documents and questions about the same facts"
        new = partial(drawn, folder, draws)
        later = UNSEEN if folder in unseen else CONFIRMATION
        found.append(Case(f"{name}, fresh", subject, partial(str, "hypernetwork"), new, later, fresh))
    asked = partial(drawn, None, (0,), SPLITS)
    for plant in PLANTED:
        means = PLANTS[plant].meaning
        found.append(Case(f"organism, plant {plant}", "organism", partial(planted, plant), asked, PLANT, means))
    for ending, (adapters, says) in (
        METHODS | {", fitted": ("fitted:steps=8,lr=1e-2", METHODS[", fitted"][1])}
    ).items():
        items, role = (partial(benchmark, SPLITS), CONFIRMATION) if ending else (benchmark, HALVES)
        found.append(Case(f"SmolLM2{ending}", "smollm2", partial(str, adapters), items, role, says, CORE))
    return found


def half(point: str) -> int:
    """0 (development) or 1 (confirmation), by a hash of the knowledge point."""
    return int(hashlib.sha256(point.encode()).hexdigest(), 16) % 2


def in_halves(frame: RunFrame) -> dict[str, RunFrame]:
    """The run's two halves of knowledge points."""
    of_row = frame.readings["point"].map(half)
    return {
        role: RunFrame(frame.manifest, frame.readings[of_row == n].reset_index(drop=True))
        for n, role in enumerate((DEVELOPMENT, CONFIRMATION))
    }


def audited(case: Case, folder: Path) -> RunFrame:
    """Audit a case into its folder, or go on with it."""
    print(case.name, file=sys.stderr)
    settings = {"policies": case.policies, "probes": ("margins",), "answers": 0, "device": "cpu"}
    with ProgressBar(quiet=False) as bar:
        return load(audit(case.subject, case.adapters(), case.items(), out=folder, progress=bar, **settings))


def main(argv: Sequence[str] | None = None) -> int:
    """Audit every case and print the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/policies"), help="folder for the run folders")
    parser.add_argument("--worlds", type=Path, nargs="*", default=[], help="folders of trained organisms")
    parser.add_argument(
        "--unseen", type=Path, nargs="*", default=[], help="folders of worlds trained after the form was fixed"
    )
    parser.add_argument("--only", nargs="*", help="names of the cases to audit")
    parser.add_argument("--read", action="store_true", help="write the page from the run folders as they are")
    args = parser.parse_args(argv)
    frames: dict[str, tuple[Case, RunFrame]] = {}
    for case in cases(args.worlds, args.unseen):
        if args.only and case.name not in args.only:
            continue
        folder = args.out / case.name.replace(", ", "-").replace(" ", "-")
        if args.read and not any((folder / "readings").glob("*.parquet")):
            continue
        frame = load(folder) if args.read else audited(case, folder)
        frames[case.name] = case, frame
        if case.role == HALVES:
            for role, part in in_halves(frame).items():
                name = f"{case.name}, {role} half"
                frames[name] = replace(case, name=name, role=role), part
    print("\n".join(page(frames)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
