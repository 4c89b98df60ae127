"""Run: a plan's units measured into a run folder by an engine; what is there already is not measured again."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from override_gap.margins.adapter import AdapterSource, traits_of
from override_gap.margins.items.item import Item, documents_of, items_hash
from override_gap.probes.plan import Plan, ResolvedPlan, code_hash, content_key, resolve
from override_gap.probes.readings.generation import Sampling
from override_gap.probes.run.answers import ANSWER_PROBES
from override_gap.probes.run.batch import ATTRIBUTION_TOLERANCE, ParityError
from override_gap.probes.run.engine import Engine, Job, Local, Unit
from override_gap.probes.run.shards import Shard
from override_gap.probes.sources.custom import source_hash
from override_gap.probes.store.files import expected_bytes
from override_gap.probes.store.folder import RunError
from override_gap.probes.store.remote import store_at
from override_gap.probes.store.run_store import RunStore
from override_gap.probes.subject.model import Subject

DOCUMENTS_A_UNIT = 32
PACKAGES = ("override-gap", "torch", "transformers", "transformer-lens", "peft", "numpy", "pandas", "statsmodels")
# another version of these may round otherwise, so its readings are not mixed with these
MEASURING = ("torch", "transformers", "transformer-lens")
Progress = Callable[[int, int, str], None]


def split_into_units(items: Sequence[Item], identity: str, seed: int) -> list[Unit]:
    """Documents in an order drawn by the seed, at most DOCUMENTS_A_UNIT at a time: every unit is a random sample of them.

    Units are of like size, so that none is left with too few documents to be joined.
    """
    documents = sorted(documents_of(items), key=lambda d: hashlib.sha256(f"{seed}:{d.key}".encode()).digest())
    by_document: dict[str, list[Item]] = {}
    for item in items:
        by_document.setdefault(item.document, []).append(item)
    units = []
    size = math.ceil(len(documents) / max(1, math.ceil(len(documents) / DOCUMENTS_A_UNIT)))
    for first in range(0, len(documents), max(1, size)):
        part = tuple(documents[first : first + size])
        own = tuple(item for document in part for item in by_document[document.text])
        units.append(Unit(part, own, content_key(identity, [item.as_json() for item in own])))
    return units


@dataclass(frozen=True)
class RunFacts:
    """What a run's identity and manifest say of its subject and source, so that neither need be in this process."""

    subject: Mapping[str, Any]
    device: str
    dtype: str
    source: str
    settings: Mapping[str, Any]
    static: bool
    parity: float
    parity_tolerance: float
    attribution_tolerance: float


def run_facts(subject: Subject, source: AdapterSource, system: str | None, question: str) -> RunFacts:
    """Look at a subject and a source; `question` is one to put behind the system turn, where there is one.

    Raises ParityError, and whatever a chat template without a system turn raises.
    """
    if system is not None:
        replace(subject, system=system).chat_prompt(question)  # refused before anything is measured
    parity = subject.parity()
    if not parity <= subject.parity_tolerance():
        raise ParityError(f"{subject.name}: logits read here differ from the model's own by {parity:.3g} nats")
    return RunFacts(
        subject.describe(),
        subject.device.type,
        str(subject.dtype),
        source.name,
        {**source.settings, **({} if (code := source_hash(source)) is None else {"code": code})},
        traits_of(source).static,
        parity,
        subject.parity_tolerance(),
        ATTRIBUTION_TOLERANCE[subject.dtype],
    )


def run(
    plan: Plan,
    subject: Subject,
    source: AdapterSource,
    items: Sequence[Item],
    out: Path,
    progress: Progress = lambda *_: None,
) -> Path:
    """Measure a plan in this process into `out`; see `run_on`."""
    run_on(Local(subject, source), plan, items, out, progress)
    return out


def run_on(
    engine: Engine,
    plan: Plan,
    items: Sequence[Item],
    out: Path | str,
    progress: Progress = lambda *_: None,
    shard: Shard | None = None,
) -> None:
    """Measure a plan into `out`; raises RunError, AdapterError, ParityError. Killed at any time, it can be called again.

    `out` is a folder or the URL of one. The readings do not depend on the engine. With a shard, only its units are
    measured.
    """
    store = store_at(out)
    store.require_room()
    facts = engine.ask(partial(run_facts, system=plan.system_prompt, question=items[0].question))
    with store.locked() as gone:
        _measured(engine, facts, plan, items, store, progress, shard, gone)


def _measured(
    engine: Engine,
    facts: RunFacts,
    plan: Plan,
    items: Sequence[Item],
    store: RunStore,
    progress: Progress,
    shard: Shard | None,
    gone: str | None,
) -> None:
    """`run_on` in a folder that is held; `gone` tells of a holder that died."""
    started = time.monotonic()
    asked = resolve(plan, static=facts.static)
    identity = content_key(
        facts.subject["fingerprint"],
        facts.dtype,
        facts.device,
        facts.source,
        facts.settings,
        [condition.name for condition in asked.conditions],
        sorted(asked.probes),
        [plan.seed, plan.answers, plan.system_prompt],
        [list(plan.temperatures), plan.draws] if "sampled" in plan.probes else [],
        *(["reference"] if plan.reference else []),
        code_hash(),
        {name: _version(name) for name in MEASURING},
        items_hash(items),
    )
    units = split_into_units(_in_chat(items) if plan.system_prompt is not None else items, identity, plan.seed)
    manifest = _manifest(plan, facts, items, asked, identity) | {"units": len(units)}
    if shard is not None:
        manifest["shard"] = asdict(shard)
    before = store.open(manifest, identity)
    if before.get("shard") != manifest.get("shard"):
        raise RunError(f"{store} holds another part of this audit; give each --shard an --out of its own")
    own = units if shard is None else shard.share(units)
    todo, wrong = store.pending([unit.key for unit in own])
    pending = [unit for unit in own if unit.key in set(todo)]
    size = {unit.key: len(unit.items) for unit in own}
    total = sum(size.values())
    if before.get("complete") and not pending:
        progress(total, total, "measured")
        return
    _require_room(store, asked, facts, sum(len(unit.items) for unit in pending), plan)
    answered = _answered(units, plan.answers if ANSWER_PROBES & asked.probes else 0)
    sampled = tuple(Sampling(t, plan.seed, number) for t in plan.temperatures for number in range(plan.draws))
    sized = 0 if plan.batch_size == "auto" else plan.batch_size
    together = 1 if plan.reference else sized
    job = Job(
        asked.conditions, asked.probes, together, plan.seed, sampled, answered, plan.system_prompt, plan.reference
    )
    told = ("modules", "rank", "prefix")
    described: Mapping[str, Any] = {k: before["adapters"][k] for k in told if k in before["adapters"]}
    gap, spent = before["parity"].get("attribution_max_abs") or 0.0, before.get("timing") or {}
    seconds = {"adapters_s": 0.0, "measuring_s": 0.0}
    if gone or wrong:
        manifest["recovered"] = [*([gone] if gone else []), *wrong]
    done = total - sum(size[unit.key] for unit in pending)
    progress(done, total, "measuring")
    most = plan.batch_size
    for finished in engine.measure(job, pending, store):
        done += size[finished.key]
        gap = max(gap, finished.attribution_gap)
        seconds["adapters_s"] += finished.adapters_s
        seconds["measuring_s"] += finished.measuring_s
        described = described or finished.adapters
        if finished.most is not None:
            most = finished.most if most == "auto" else min(most, finished.most)
            manifest["memory"] = {"asked": plan.batch_size, "batch_size": most}
        _note(manifest, described, gap, spent, {"total_s": time.monotonic() - started, **seconds})
        store.write_json("manifest.json", manifest)
        progress(done, total, "measuring")
    progress(total, total, "measured")
    _note(manifest, described, gap, spent, {"total_s": time.monotonic() - started, **seconds})
    manifest["finished"], manifest["complete"] = _now(), True
    store.write_json("manifest.json", manifest)


def _require_room(store: RunStore, asked: ResolvedPlan, facts: RunFacts, items: int, plan: Plan) -> None:
    """Raise DiskError where the readings of so many items will not fit."""
    layers = int(facts.subject["layers"]) + 1 if "layers" in asked.probes else 0
    draws = len(plan.temperatures) * plan.draws if "sampled" in asked.probes else 0
    drawn = min(items, plan.answers) * len(asked.conditions) * draws
    store.require_room(expected_bytes(items, len(asked.conditions), layers, drawn))


def _note(
    manifest: dict[str, Any],
    described: Mapping[str, Any],
    gap: float,
    spent: Mapping[str, float],
    seconds: Mapping[str, float],
) -> None:
    """What the units so far have shown: their adapters, the largest attribution gap, seconds of all sessions."""
    manifest["adapters"] |= described
    manifest["parity"]["attribution_max_abs"] = gap
    # an item whose attribution misses is an error row; the run goes on, and says here that one did
    manifest["parity"]["passed"] = gap <= manifest["parity"]["attribution_tolerance"]
    manifest["timing"] = _added(spent, seconds)


def _added(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """Seconds of this session on top of those of the sessions before it."""
    return {name: before.get(name, 0.0) + value for name, value in now.items()}


def _in_chat(items: Sequence[Item]) -> list[Item]:
    """The items, each put through the chat template."""
    return [replace(item, chat=True) for item in items]


def _answered(units: Sequence[Unit], count: int) -> frozenset[str]:
    """The ids to answer in words: conflicts and novel items of the first units, which are a random sample."""
    ids = [item.id for unit in units for item in unit.items if item.split in ("conflict", "novel")]
    return frozenset(ids[:count])


def _manifest(plan: Plan, facts: RunFacts, items: Sequence[Item], asked: ResolvedPlan, identity: str) -> dict[str, Any]:
    return {
        "schema": 1,
        "identity": identity,
        "version": _version("override-gap"),
        "code": code_hash(),
        "plan": plan.as_json(),
        "subject": dict(facts.subject),
        "adapters": {
            "name": facts.source,
            "settings": dict(facts.settings),
            "static": facts.static,
            "documents": len(documents_of(items)),
        },
        "items": {"name": Path(plan.items).name, "sha256": items_hash(items), "count": len(items)},
        "conditions": [condition.name for condition in asked.conditions],
        "refused": list(asked.refused),
        "versions": {name: _version(name) for name in PACKAGES},
        "seed": plan.seed,
        "threads": torch.get_num_threads(),
        "parity": {
            "logits_max_abs": facts.parity,
            "tolerance": facts.parity_tolerance,
            "attribution_max_abs": None,
            "attribution_tolerance": facts.attribution_tolerance,
            "passed": True,
        },
        "memory": {"asked": plan.batch_size, "batch_size": plan.batch_size},
        "timing": {},
        "started": _now(),
        "finished": None,
        "complete": False,
    }


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
