"""How often an audit with `--until decided` gives a false label, what it saves, and how often it agrees with the full audit.

    python -m benchmarks.early_stopping simulate RESULTS.jsonl [AUDITS PER ROW]
    python -m benchmarks.early_stopping organism RESULTS.jsonl RUN...   (full runs of many items)
    python -m benchmarks.early_stopping page RESULTS.jsonl > docs/calibration/early-stopping.md

Simulated audits: each relation has a share drawn from a beta distribution about the true one, each point one about its
relation's, and questions succeed with their point's; nothing of `analyses.planning`'s own worlds is used. Looks are after each
fifth of the points. A row that is there already is not made again.
"""

from __future__ import annotations

import json
import sys
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from override_gap.analyses.planning.rule import LABELS, OPEN, Tallies, claims, labels
from override_gap.analyses.stats.group_sequential import bounds, coverage
from override_gap.analyses.verdict import FEWEST_RELATIONS

LOOKS = 5
QUICK = 10
"""Times as many audits where no relation is read, which takes a tenth of the time."""


@dataclass(frozen=True)
class Design:
    """The size of an audit and how alike its questions are; `zipf`: relations of unequal size (the n-th has 1/n of the first)."""

    points: int
    items_per_point: int
    relations: int = 0
    icc_relation: float = 0.0
    icc_point: float = 0.3
    known: float = 0.65
    zipf: bool = False

    def __str__(self) -> str:
        relations = f", {self.relations} relations{' of unequal size' if self.zipf else ''}" if self.relations else ""
        return f"{self.points} points x {self.items_per_point}{relations}"


DESIGNS = (
    Design(72, 3),
    Design(200, 3),
    Design(72, 3, 15, 0.1, 0.2),
    Design(200, 3, 20, 0.1, 0.2),
    Design(200, 2, 20, 0.3, 0.1),
    Design(400, 1, 30, 0.1, 0.0),
    Design(200, 2, 25, 0.1, 0.2, zipf=True),
    Design(60, 2, 8, 0.0, 0.3, known=1.0),
)
ON_BOUNDARY = (
    (0.2, 0.5), (0.2, 0.95), (0.2, 2 / 3), (0.2, 1 / 3), (0.2, 0.05),
    (0.6, 2 / 3), (0.6, 1 / 3), (0.6, 0.1), (0.6, 0.9), (0.35, 2 / 3), (0.95, 2 / 3), (0.95, 1 / 3),
)  # fmt: skip
USUAL = ((0.05, 0.8), (0.1, 0.5), (0.4, 1.0), (0.6, 0.9), (0.6, 0.8), (0.6, 0.5), (0.6, 0.2), (0.6, 0.02), (0.9, 0.0))


def clustered(
    rng: np.random.Generator, audits: int, relation: np.ndarray, sizes: np.ndarray, share: float, design: Design
) -> np.ndarray:
    """Successes per point, [audit, point], of `sizes` [audit, point] questions."""

    def around(centre: np.ndarray, icc: float) -> np.ndarray:
        if icc <= 0:
            return centre
        inside = np.clip(centre, 1e-9, 1 - 1e-9)
        return rng.beta(inside * (1 / icc - 1), (1 - inside) * (1 / icc - 1))

    of_relation = around(np.full((audits, int(relation.max()) + 1), share), design.icc_relation)
    return rng.binomial(sizes, around(of_relation[:, relation], design.icc_point)).astype(int)


def simulated(rng: np.random.Generator, design: Design, failing: float, held: float, audits: int) -> Tallies:
    """Audits of a known truth, their points in a random order."""
    weights = 1 / np.arange(1, design.relations + 1) if design.zipf else np.ones(max(1, design.relations))
    quota = np.floor(design.points * np.cumsum(weights) / weights.sum()).astype(int)
    relation = rng.permutation(np.searchsorted(quota, np.arange(design.points), side="right").clip(0, len(weights) - 1))
    whole = np.full((audits, design.points), design.items_per_point)
    known = clustered(rng, audits, relation, whole, design.known, design)
    fail = clustered(rng, audits, relation, known, failing, design)
    kept = clustered(rng, audits, relation, fail, held, design)
    return Tallies(*(x.astype(float) for x in (known, fail, kept)), relation if design.relations else None)


def stopped(audits: Tallies, places: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Each audit's label where it stops, and the number of points there, looked at after `places` points."""
    count, points = audits.known.shape
    at = bounds([place / points for place in places])
    label, stop = np.full(count, OPEN, dtype=np.int8), np.full(count, points)
    running = np.ones(count, dtype=bool)
    for place, bound in zip(places, at, strict=True):
        found, decided = labels(audits.part(running).first(place), coverage(bound))
        rows = np.flatnonzero(running)
        ends = decided if place < points else np.ones(len(rows), dtype=bool)
        label[rows[ends]], stop[rows[ends]] = found[ends], place
        running[rows[ends]] = False
    return label, stop


def row(design: Design, failing: float, held: float, audits: int, part: int = 500) -> dict[str, Any]:
    """One truth at one size, over many audits."""
    name = f"{design}{design.icc_relation}{failing:.4f}{held:.4f}"
    rng = np.random.default_rng([zlib.crc32(name.encode()), 21])
    places = [round(design.points * look / LOOKS) for look in range(1, LOOKS + 1)]
    early, stops, full, shares = [], [], [], []
    for _ in range(audits // part):
        drawn = simulated(rng, design, failing, held, part)
        label, stop = stopped(drawn, places)
        early, stops, full = [*early, label], [*stops, stop], [*full, labels(drawn)[0]]
        upto = np.arange(design.points)[None] < stop[:, None]
        with np.errstate(invalid="ignore"):
            at = [
                (drawn.failing * upto).sum(1) / (drawn.known * upto).sum(1),
                (drawn.held * upto).sum(1) / (drawn.failing * upto).sum(1),
                drawn.held.sum(1) / drawn.failing.sum(1),
            ]
        shares.append(np.array(at))
    label, stop, whole = (np.concatenate(x) for x in (early, stops, full))
    fails, holds, holds_full = np.concatenate(shares, axis=1)
    ended = stop < design.points
    return {
        "kind": "simulated",
        "design": asdict(design) | {"name": str(design)},
        "failing": failing,
        "held": held,
        "audits": len(label),
        "early": {name: int((label == n).sum()) for n, name in enumerate(LABELS)},
        "full": {name: int((whole == n).sum()) for n, name in enumerate(LABELS)},
        "false": int(claims(label, failing, held).sum()),
        "false_full": int(claims(whole, failing, held).sum()),
        "stopped": int(ended.sum()),
        "saved": float(1 - stop.mean() / design.points),
        "same": int((label == whole).sum()),
        "bias_failing": float(np.nanmean(fails) - failing),
        "bias_held": float(np.nanmean(holds) - held),
        "bias_held_full": float(np.nanmean(holds_full) - held),
        "bias_held_stopped": float(np.nanmean(holds[ended]) - held) if ended.any() else None,
    }


def stored(results: Path) -> list[dict[str, Any]]:
    """The rows that were made."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def simulate(results: Path, audits: int) -> None:
    """Make the rows of all designs and truths that are not there."""
    there = {
        (r["design"]["name"], r["design"]["icc_relation"], r["failing"], r["held"])
        for r in stored(results)
        if r["kind"] == "simulated"
    }
    for design in DESIGNS:
        for failing, held in (*ON_BOUNDARY, *USUAL):
            if (str(design), design.icc_relation, failing, held) not in there:
                with results.open("a") as file:
                    file.write(
                        json.dumps(row(design, failing, held, audits if by_relation(design) else QUICK * audits)) + "\n"
                    )


def by_relation(design: Design) -> bool:
    """Whether the verdict reads relations of this design, which takes longer."""
    return design.relations >= FEWEST_RELATIONS


def upper(count: int, audits: int) -> float:
    """Upper limit of the exact one-sided 95% interval of a share (Clopper & Pearson 1934)."""
    return 1.0 if count == audits else float(stats.beta.ppf(0.95, count + 1, audits - count))


if __name__ == "__main__":
    command, results, *rest = sys.argv[1:]
    if command == "simulate":
        simulate(Path(results), int(rest[0]) if rest else 2000)
