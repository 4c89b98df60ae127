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
import pandas as pd
from scipy import stats

from override_gap.analyses.calibration import markdown
from override_gap.analyses.causes import HELD, causes
from override_gap.analyses.planning.pilot import pilot
from override_gap.analyses.planning.rule import LABELS, OPEN, Tallies, claims, labels, true_label
from override_gap.analyses.planning.simulated import audits as simulated_audits
from override_gap.analyses.planning.stopping import looks_at, stopped
from override_gap.analyses.readings import DELIVERED, RunFrame, load, truth
from override_gap.analyses.stats.group_sequential import bounds, coverage
from override_gap.analyses.until_decided import LOOKS, of_items
from override_gap.analyses.verdict import FEWEST_RELATIONS, verdict
from override_gap.probes.organism.examination import build_items
from override_gap.probes.organism.load import load as read_organism
from override_gap.probes.organism.world import Size, build_world

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
    return Tallies(known.astype(float), fail.astype(float), kept.astype(float), relation if design.relations else None)


def row(design: Design, failing: float, held: float, audits: int, part: int = 500) -> dict[str, Any]:
    """One truth at one size, over many audits."""
    name = f"{design}{design.icc_relation}{failing:.4f}{held:.4f}"
    rng = np.random.default_rng([zlib.crc32(name.encode()), 21])
    places = looks_at(design.points)
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
        for failing, held in dict.fromkeys((*ON_BOUNDARY, *USUAL)):
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


def outcomes_of(run: RunFrame) -> pd.DataFrame:
    """One row per known conflict of a full run: point, document, whether it fails as delivered and whether it is held."""
    rows = run.select("conflict", DELIVERED, "known").set_index("item")
    found = causes(run)
    assert found is not None
    held = found.items.set_index("item")["cause"].isin(HELD)
    fails = 1 - truth(rows["success_top1"])
    return pd.DataFrame(
        {
            "point": rows["point"],
            "document": rows["document"],
            "failing": fails,
            "held": held.reindex(rows.index).fillna(False).to_numpy(dtype=float) * fails,
        }
    )


def per_point(rows: pd.DataFrame, points: list[str], order: np.ndarray, upto: int) -> tuple[np.ndarray, ...]:
    """Known conflicts, failures and held ones per point, [redraw, point], of the first `upto` documents of each order."""
    documents = rows.groupby(["point", "document"]).agg(
        known=("failing", "size"), failing=("failing", "sum"), held=("held", "sum")
    )
    where = pd.Categorical(documents.index.get_level_values("point"), categories=points).codes
    found = []
    for name in ("known", "failing", "held"):
        counts = documents[name].to_numpy(dtype=float)
        first = order[:, :upto]
        tally = np.zeros((len(order), len(points)))
        np.add.at(tally, (np.arange(len(order))[:, None], where[first]), counts[first])
        found.append(tally)
    return tuple(found)


def redrawn(name: str, run: RunFrame, redraws: int) -> dict[str, Any]:
    """A full run, stopped early in many orders of its documents."""
    rows, whole = outcomes_of(run), verdict(run)
    points, documents = sorted(rows["point"].unique()), rows.groupby(["point", "document"]).ngroups
    rng = np.random.default_rng(21)
    order = rng.permuted(np.tile(np.arange(documents), (redraws, 1)), axis=1)
    places = [round(documents * look / LOOKS) for look in range(1, LOOKS + 1)]
    label, stop = np.full(redraws, OPEN, dtype=np.int8), np.full(redraws, documents)
    running = np.ones(redraws, dtype=bool)
    for place, bound in zip(places, bounds([place / documents for place in places]), strict=True):
        found, decided = labels(Tallies(*per_point(rows, points, order, place)), coverage(bound))
        ends = running & (decided | (place == documents))
        label[ends], stop[ends] = found[ends], place
        running &= ~ends
    plain, _ = labels(Tallies(*per_point(rows, points, order[:1], documents)))
    assert LABELS[plain[0]] == whole.label, "the rule for many audits and the verdict differ"
    return {
        "kind": "organism",
        "run": name,
        "full": whole.label,
        "held": whole.held.as_json() if whole.held else None,
        "failing": whole.failing.as_json() if whole.failing else None,
        "known": len(rows),
        "documents": documents,
        "redraws": redraws,
        "same": int((label == plain[0]).sum()),
        "labels": {text: int((label == n).sum()) for n, text in enumerate(LABELS)},
        "stopped": int((stop < documents).sum()),
        "saved": float(1 - stop.mean() / documents),
    }


def predicted(
    name: str, run: RunFrame, audits: int, sizes: tuple[int, ...] = (10, 20, 40, 72, 140)
) -> list[dict[str, Any]]:
    """What `power --pilot` predicts at some sizes, beside audits of points drawn again from the run (with replacement)."""
    rows, found = outcomes_of(run), pilot(run)
    asked = run.select("conflict", DELIVERED)
    every = asked["point"].unique()
    tallies = (
        rows.groupby("point")
        .agg(known=("failing", "size"), failing=("failing", "sum"), held=("held", "sum"))
        .reindex(every, fill_value=0)
    )
    label = true_label(found.truth.failing, found.truth.held)
    rng, made = np.random.default_rng(22), []
    for size in sizes:
        drawn = rng.integers(len(every), size=(audits, size))
        seen, _ = labels(
            Tallies(*(tallies[column].to_numpy(dtype=float)[drawn] for column in ("known", "failing", "held")))
        )
        foreseen, _ = labels(simulated_audits(np.random.default_rng([23, size]), found.truth, size, audits))
        share = {text: [float((x == n).mean()) for x in (foreseen, seen)] for n, text in enumerate(LABELS)}
        made.append({"kind": "power", "run": name, "points": size, "audits": audits, "label": label, "shares": share})
    return made


def documents(out: Path, folders: list[Path]) -> None:
    """Item files of many items: four draws of documents about the same facts for each world, `shipped` for the embedded one."""
    for folder in folders:
        world = read_organism() if folder.name == "shipped" else read_organism(folder=folder)
        recipe = world.recipe
        records = []
        for draw in range(4):
            items = build_items(build_world(recipe["seed"], Size(**recipe["world"])), draw)
            chosen = [
                item for item in items if item["split"] == "conflict" or (item["split"] == "retention" and draw == 0)
            ]
            records += [item | {"id": f"{item['id']}-d{draw}"} for item in chosen]
        (out / f"{folder.name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def organism(results: Path, folders: list[Path]) -> None:
    """Rows of full runs; the first documents about each fact alone (`-d0`) are an audit of the usual size."""
    with results.open("a") as file:
        for folder in folders:
            run = load(folder)
            first = frozenset(name for name in run.readings["item"].unique() if name.endswith("-d0"))
            for name, part in (
                (f"{folder.name}, all documents", run),
                (f"{folder.name}, one document per fact", of_items(run, first)),
            ):
                for row in (redrawn(name, part, 1000), *predicted(name, part, 2000)):
                    file.write(json.dumps(row) + "\n")


def page(rows: list[dict[str, Any]]) -> str:
    """The page, from the rows that were made."""
    rows = list({json.dumps(row): row for row in rows}.values())
    simulated = [row for row in rows if row["kind"] == "simulated"]
    lines = [HEAD.format(worst=_worst(simulated), rows=len([row for row in simulated if among(row, ON_BOUNDARY)]))]
    lines += [markdown(pd.DataFrame([_boundary(row) for row in simulated if among(row, ON_BOUNDARY)])), ""]
    lines += [USUAL_HEAD, markdown(pd.DataFrame([_usual(row) for row in simulated if among(row, USUAL)])), ""]
    lines += [RUNS_HEAD, markdown(pd.DataFrame([_of_run(row) for row in rows if row["kind"] == "organism"])), ""]
    lines += [POWER_HEAD, markdown(pd.DataFrame([_of_power(row) for row in rows if row["kind"] == "power"]))]
    return "\n".join(lines)


def among(row: dict[str, Any], truths: tuple[tuple[float, float], ...]) -> bool:
    """Whether a row's truth is one of these; one may be on a boundary and usual."""
    return any(np.allclose((row["failing"], row["held"]), truth) for truth in truths)


def _share(count: int, of: int) -> str:
    return f"{100 * count / of:.1f}"


def _truth(row: dict[str, Any]) -> dict[str, str]:
    return {
        "audit": row["design"]["name"],
        "correlation of relations": f"{row['design']['icc_relation']:g}" if row["design"]["relations"] else "",
        "failing": f"{row['failing']:.2f}",
        "held": f"{row['held']:.2f}",
        "audits": f"{row['audits']:,}",
    }


def _boundary(row: dict[str, Any]) -> dict[str, str]:
    return _truth(row) | {
        "false, %": _share(row["false"], row["audits"]),
        "at most": f"{100 * upper(row['false'], row['audits']):.1f}",
        "false, full audit": _share(row["false_full"], row["audits"]),
    }


def _usual(row: dict[str, Any]) -> dict[str, str]:
    best = max(row["full"], key=row["full"].get)
    return _truth(row) | {
        "label of most full audits": f"{best} {_share(row['full'][best], row['audits'])}",
        "early": _share(row["early"][best], row["audits"]),
        "same label": _share(row["same"], row["audits"]),
        "stopped": _share(row["stopped"], row["audits"]),
        "items saved": f"{100 * row['saved']:.0f}",
        "bias of held": f"{100 * row['bias_held']:+.1f}",
        "full": f"{100 * row['bias_held_full']:+.1f}",
        "bias of failing": f"{100 * row['bias_failing']:+.1f}",
    }


def _of_run(row: dict[str, Any]) -> dict[str, str]:
    held = row["held"] or {"value": np.nan, "low": np.nan, "high": np.nan}
    return {
        "run": row["run"],
        "known conflicts": str(row["known"]),
        "full audit": f"{row['full']}, held {held['value']:.2f} [{held['low']:.2f}, {held['high']:.2f}]",
        "same label": f"{_share(row['same'], row['redraws'])}",
        "stopped": _share(row["stopped"], row["redraws"]),
        "items saved": f"{100 * row['saved']:.0f}",
    }


def _of_power(row: dict[str, Any]) -> dict[str, str]:
    common = {name: pair for name, pair in row["shares"].items() if max(pair) >= 0.02}
    return {
        "run": row["run"],
        "points": str(row["points"]),
        "foreseen, %": ", ".join(f"{name} {100 * pair[0]:.0f}" for name, pair in common.items()),
        "drawn from the run, %": ", ".join(f"{name} {100 * pair[1]:.0f}" for name, pair in common.items()),
    }


def _worst(rows: list[dict[str, Any]]) -> str:
    most = max((row for row in rows if among(row, ON_BOUNDARY)), key=lambda row: row["false"] / row["audits"])
    limit = 100 * upper(most["false"], most["audits"])
    where = f"{most['design']['name']}, failing {most['failing']:.2f}, held {most['held']:.2f}"
    return f"{_share(most['false'], most['audits'])}% [upper limit {limit:.1f}%] ({where})"


HEAD = """# Stopping early

An audit asks a model hundreds of questions and ends with a verdict on why a method fails. It can stop as soon as that verdict
is certain enough (`audit --until decided`), which saves time; but looking at the data several times makes it easier to be
fooled by chance. This page shows, on simulated audits whose truth is known and on real runs, how often that leads to a wrong
verdict, how much it saves, and how well the planning tool `power` foresees the outcome. Here an audit is looked at five
times, each after a fifth of the facts.

**False labels, at truths on a boundary.** A label is false whose claim is not so: *no-failure* where 20%
fail or more, *magnitude* where 2/3 are held or fewer, *representational* where 1/3 or more, *mixed*
where 10% or fewer or 90% or more. At a failing rate of 20% and a share held on a bound two claims can be
false, so that up to 5% are expected there, and 2.5% elsewhere. *At most*: upper limit of the exact
one-sided 95% interval. Highest of the {rows} rows: {worst}.
"""
USUAL_HEAD = """**Truths off the boundary: what is saved, and what it does to estimates.** Per cent of audits. Bias in
points, of the share held and of the failing rate where an audit ends, stopped or not (*full*: the share
held of the full audit, which is a ratio and therefore a little biased where failures are clustered).
"""
RUNS_HEAD = """**Full runs of the organism, their documents in 1,000 random orders**, looked at in the same way (one order decides
where an audit stops; the full run is the same in all). *Same
label*: as the full audit. `world-N-fitted` are adapters fitted in six steps, too weak nearly everywhere.
"""
POWER_HEAD = """**What `power --pilot` foresees**, beside audits of as many knowledge points drawn again from the run
(with replacement), 2,000 each; labels below 2% are left out.
"""


if __name__ == "__main__":
    command, results, *rest = sys.argv[1:]
    if command == "simulate":
        simulate(Path(results), int(rest[0]) if rest else 1000)
    elif command == "items":
        documents(Path(results), [Path(folder) for folder in rest])
    elif command == "organism":
        organism(Path(results), [Path(folder) for folder in rest])
    else:
        print(page(stored(Path(results))))
