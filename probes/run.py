"""Run: a plan's units measured one after another into a run folder; what is there already is not measured again."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from margins.adapter import Adapter, AdapterSource, Delivered, traits
from margins.conditions import Condition
from margins.items import Document, Item, documents_of, items_hash
from margins.opaque import Prefix
from probes.answers import WORDED
from probes.generation import Sampling
from probes.plan import Agenda, Plan, agenda, code_hash, content_key
from probes.sites import AdapterError
from probes.sources.foreign import delivered
from probes.store import Store
from probes.subject import Subject
from probes.unit import ATTRIBUTION_TOLERANCE, Bench, ParityError, measure

DOCUMENTS_A_UNIT = 32
PACKAGES = ("override-gap", "torch", "transformers", "transformer-lens", "peft", "numpy", "pandas", "statsmodels")
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Unit:
    """Some documents, the items that ask about them, and the key of their content."""

    documents: tuple[Document, ...]
    items: tuple[Item, ...]
    key: str


def units_of(items: Sequence[Item], identity: str, seed: int) -> list[Unit]:
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


def run(
    plan: Plan,
    subject: Subject,
    source: AdapterSource,
    items: Sequence[Item],
    out: Path,
    progress: Progress = lambda *_: None,
) -> Path:
    """Measure a plan into `out`; raises RunError, AdapterError, ParityError. Killed at any time, it can be called again."""
    started = time.monotonic()
    if plan.system_prompt is not None:
        subject = replace(subject, system=plan.system_prompt)
        subject.templated(items[0].question)  # refused before anything is measured
    asked = agenda(plan, static=traits(source).static)
    parity = subject.parity()
    if not parity <= subject.parity_tolerance():
        raise ParityError(f"{subject.name}: logits read here differ from the model's own by {parity:.3g} nats")
    identity = content_key(
        subject.fingerprint,
        str(subject.dtype),
        subject.device.type,
        source.name,
        dict(source.settings),
        [condition.name for condition in asked.conditions],
        sorted(asked.probes),
        [plan.seed, plan.answers, plan.system_prompt],
        [list(plan.temperatures), plan.draws] if "sampled" in plan.probes else [],
        code_hash(),
        items_hash(items),
    )
    store = Store(out)
    manifest = _manifest(plan, subject, source, items, asked, identity, parity)
    before = store.open(manifest, identity)
    units = units_of(_in_chat(items) if plan.system_prompt is not None else items, identity, plan.seed)
    answered = _answered(units, plan.answers if WORDED & asked.probes else 0)
    sampled = tuple(Sampling(t, plan.seed, number) for t in plan.temperatures for number in range(plan.draws))
    bench = Bench(subject, asked.conditions, asked.probes, plan.batch_size, plan.seed, sampled)
    done, total, gap, seconds = 0, len(items), 0.0, {"adapters_s": 0.0, "measuring_s": 0.0}
    told = ("modules", "rank", "prefix")
    described: Mapping[str, Any] = {k: before["adapters"][k] for k in told if k in before["adapters"]}
    gap = before["parity"].get("attribution_max_abs") or 0.0
    spent = before.get("timing") or {}
    if before.get("complete") and all(store.done(unit.key) for unit in units):
        progress(total, total, "measured")
        return out
    for unit in units:
        progress(done, total, "measuring")
        if not store.done(unit.key):
            clock = time.monotonic()
            usable = tuple(d for d in unit.documents if d.text.strip())
            adapters = delivered(source, usable)
            by_text = {d.text: a for d, a in zip(usable, adapters, strict=True)}
            by_text |= _retold(source, usable, asked.conditions)
            seconds["adapters_s"] += time.monotonic() - clock
            clock = time.monotonic()
            measured = measure(bench, unit.items, by_text, answered)
            store.write_unit(unit.key, measured.readings, measured.layers, measured.drawn)
            seconds["measuring_s"] += time.monotonic() - clock
            gap = max(gap, measured.attribution_gap)
            described = described or _describe_adapters(adapters)
            manifest["adapters"] |= described
            manifest["parity"]["attribution_max_abs"] = gap
            manifest["timing"] = _added(spent, {"total_s": time.monotonic() - started, **seconds})
            store.write_json("manifest.json", manifest)
        done += len(unit.items)
    progress(total, total, "measured")
    manifest["adapters"] |= described
    manifest["parity"]["attribution_max_abs"] = gap
    manifest["timing"] = _added(spent, {"total_s": time.monotonic() - started, **seconds})
    manifest["finished"], manifest["complete"] = _now(), True
    store.write_json("manifest.json", manifest)
    return out


def _added(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """Seconds of this session on top of those of the sessions before it."""
    return {name: before.get(name, 0.0) + value for name, value in now.items()}


def _retold(
    source: AdapterSource, documents: Sequence[Document], conditions: Sequence[Condition]
) -> dict[str, Delivered]:
    """Adapters of the documents in the wordings of the conditions' variants, by the text they are made of.

    A text told otherwise has no ids and no points: an adapter filed under these is of the document as it stands. Raises
    AdapterError for a source with one adapter for every document, of which no variant can be made.
    """
    made = {
        c.variant: c.name for c in conditions if c.variant is not None and c.policy is not None and c.prompt is None
    }
    if made and traits(source).scope == "nothing":
        raise AdapterError(
            f"source {source.name}: one adapter serves every document, so none can be made for {next(iter(made.values()))}; "
            "leave joined, stated and hedged out of --probes and --policies"
        )
    told = {
        text: replace(document, text=text, ids=(), points=())
        for variant in made
        for document in documents
        if (text := variant.retold(document.text)) != document.text
    }
    return dict(zip(told, delivered(source, tuple(told.values())), strict=True)) if told else {}


def _in_chat(items: Sequence[Item]) -> list[Item]:
    """The items, each put through the chat template."""
    return [replace(item, chat=True) for item in items]


def _answered(units: Sequence[Unit], count: int) -> frozenset[str]:
    """The ids to answer in words: conflicts and novel items of the first units, which are a random sample."""
    ids = [item.id for unit in units for item in unit.items if item.split in ("conflict", "novel")]
    return frozenset(ids[:count])


def _manifest(
    plan: Plan,
    subject: Subject,
    source: AdapterSource,
    items: Sequence[Item],
    asked: Agenda,
    identity: str,
    parity: float,
) -> dict[str, Any]:
    return {
        "schema": 1,
        "identity": identity,
        "version": _version("override-gap"),
        "code": code_hash(),
        "plan": plan.as_json(),
        "subject": subject.describe(),
        "adapters": {
            "name": source.name,
            "settings": dict(source.settings),
            "static": traits(source).static,
            "documents": len(documents_of(items)),
        },
        "items": {"name": Path(plan.items).name, "sha256": items_hash(items), "count": len(items)},
        "conditions": [condition.name for condition in asked.conditions],
        "refused": list(asked.refused),
        "versions": {name: _version(name) for name in PACKAGES},
        "seed": plan.seed,
        "threads": torch.get_num_threads(),
        "parity": {
            "logits_max_abs": parity,
            "tolerance": subject.parity_tolerance(),
            "attribution_max_abs": None,
            "attribution_tolerance": ATTRIBUTION_TOLERANCE[subject.dtype],
            "passed": True,
        },
        "timing": {},
        "started": _now(),
        "finished": None,
        "complete": False,
    }


def _describe_adapters(adapters: Sequence[Any]) -> Mapping[str, Any]:
    """What the first unit's adapters touch, for the report's methods."""
    if not all(isinstance(adapter, Adapter) for adapter in adapters):
        lengths = [adapter.positions for adapter in adapters if isinstance(adapter, Prefix)]
        return {"prefix": max(lengths)} if lengths else {}
    paths = {path.rsplit(".", 1)[-1] for adapter in adapters for path in adapter.paths}
    ranks = {update.rank for adapter in adapters for _, update in adapter.parts()}
    return {"modules": sorted(paths), "rank": max(ranks)}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
