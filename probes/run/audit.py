"""An audit from the words that name subject, adapters and items to a run folder; and the same readings without a folder."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from override_gap.margins.adapter import AdapterSource, traits_of
from override_gap.margins.items.item import Document, Item, ItemError
from override_gap.margins.items.scripts import is_blank
from override_gap.margins.runtime import refusal_message
from override_gap.margins.scratch import scratch
from override_gap.margins.text import one_line, path_component
from override_gap.probes.errors import AdapterError
from override_gap.probes.items import open_items
from override_gap.probes.plan import CHAT_SETTINGS, Plan, PlanError, plan_from
from override_gap.probes.readings.batching import BatchSizer
from override_gap.probes.run.base_answers import fill_priors, priors_message
from override_gap.probes.run.chat_facts import asked_in_chat
from override_gap.probes.run.encode import encode, encode_reworded
from override_gap.probes.run.encode_nulls import MeanAdapters, encode_nulls
from override_gap.probes.run.engine import Engine, Job, Local
from override_gap.probes.run.exported import exported, in_methods_template
from override_gap.probes.run.handshake_record import HANDSHAKE_ITEMS, handshake_record
from override_gap.probes.run.loop import Progress, first_day, run_plan
from override_gap.probes.run.resolve import ResolvedPlan, resolve
from override_gap.probes.run.shards import Shard
from override_gap.probes.run.time_estimate import seconds_of
from override_gap.probes.run.unit import measure as measure_items
from override_gap.probes.run.until import Until
from override_gap.probes.sources import open_source
from override_gap.probes.sources.compact import read_compact
from override_gap.probes.sources.custom import require_source
from override_gap.probes.store.remote import store_at
from override_gap.probes.store.schema import READINGS
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.unknown_words import UnknownWords, unknown_words
from override_gap.probes.timing import timed

#: A model of fewer parameters gains nothing by a second thread, and on busy cores its threads wait for one another: an
#: audit of the organism took 43 s on two threads beside another process, and 3 s on one.
ONE_THREAD = 10_000_000

Items = str | Path | Sequence[Item]


def audit(
    subject: str | Subject = "organism",
    adapters: str | AdapterSource | None = None,
    items: Items | None = None,
    *,
    out: str | Path | None = None,
    progress: Progress = lambda *_: None,
    say: Callable[[str], None] | None = None,
    python: str | Path | None = None,
    trust_remote_code: bool = False,
    until: Until | None = None,
    **settings: Any,
) -> Path | str:
    """Measure a method on a subject into a run folder; returns the folder, which `report` and `load` take.

    `subject`, `adapters` and `items` are what the command line takes, or open objects: a Subject, a source (any object with
    `name`, `settings` and `encode(documents)`), a list of items. `settings` are those of a Plan: `policies`, `probes` (each
    a list, or names with commas), `limit`, `answers`, `seed`, `batch_size`, `device`, `dtype` and so on. Called again with
    the same `out`, it resumes where it was stopped. `progress` is called with (done, total, what); `say` with what is
    refused and with what is wrong with how questions are asked in chat, which without it are Python warnings. `python` is the
    interpreter of the environment of a method that is named by its checkpoint ("doc-to-lora:CHECKPOINT"). `until` is a rule by
    which the run may end early (`og.UntilDecided()`); called again without it, the run goes on to all items. Raises
    PlanError, SubjectError, AdapterError, ItemError, HandshakeError, RunError, each with one line that says what to do.
    """
    known = {field.name for field in fields(Plan)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise PlanError(f"unknown setting {unknown[0]!r}; known: {', '.join(sorted(known))}")
    by_name = items is None or isinstance(items, str | Path)
    names = {"subject": _name(subject), "adapters": _name(adapters)}
    names["items"] = (None if items is None else str(items)) if by_name else "items"
    for name in ("probes", "policies"):
        if name in settings:
            settings[name] = _names(name, settings[name])
    if "policies" in settings:
        settings["policies"] = ",".join(settings["policies"])
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    plan = plan_from({**settings, **{key: name for key, name in names.items() if name is not None}})
    items = None if by_name else _checked(items)[: plan.limit]
    resolved = resolve(plan, items)
    store_at(out or Path("runs")).require_room(needed=1)
    if python is not None:
        out = out or run_folder_of(
            Path(names["subject"] or plan.subject).name, plan.adapters.partition(":")[0], resolved
        )
    file = exported(resolved, None if python is None else Path(python), out or "", progress)
    resolved = in_methods_template(resolved, file)
    opened = partial(open_plan, plan, trust_remote_code, subject=subject, adapters=adapters, file=file)
    with open_engine("local", opened) as engine:
        folder = out or default_folder(engine, resolved)
        say = say or _warn
        run_audit(engine, resolved, folder, progress=progress, say=say, until=until)
        return folder


def measure(
    subject: str | Subject,
    adapters: str | AdapterSource,
    items: Items,
    *,
    policies: str | Sequence[str] = "as-delivered",
    probes: str | Sequence[str] = ("margins",),
    answers: bool = False,
    prior: str = "given",
    seed: int = 0,
    python: str | Path | None = None,
    **chat: Any,
) -> pd.DataFrame:
    """Readings of a few items in memory: one row per item and condition, in the columns of a run's readings.

    Nothing is written and no document is checked beforehand (`audit` does both). With `answers` every item is also answered
    in words. With `prior="from-base"` conflicts without an old answer get the base's own; those for which it gives the
    document's answer already, or none, have no row. `chat`, `system_prompt`, `chat_template` and `template_args` are those of
    a Plan. Raises SubjectError, AdapterError, ItemError, PlanError, ValueError for a policy that is not known.
    """
    if unknown := sorted(set(chat) - set(CHAT_SETTINGS)):
        raise PlanError(f"unknown setting {unknown[0]!r}; known: {', '.join(CHAT_SETTINGS)}")
    from_base = prior == "from-base"
    rows = open_items(str(items), from_base=from_base) if isinstance(items, str | Path) else _checked(items)
    names = _names("probes", probes)
    names += ("answers",) if answers and "answers" not in names else ()
    settings = {
        "policies": ",".join(_names("policies", policies)),
        "probes": names,
        "prior": prior,
        "seed": seed,
        **chat,
    }
    plan = Plan(_name(subject) or "organism", _name(adapters) or "", "items", **settings)
    if not plan.adapters:
        raise AdapterError("no adapters named; see `override-gap list adapters`, or give a source")
    resolved = resolve(plan, rows)
    # the file is read document by document as long as the source lives
    folder = None if python is None else scratch()
    file = exported(resolved, None if python is None else Path(python), "" if folder is None else folder.name)
    model, source = open_plan(plan, False, subject=subject, adapters=adapters, file=file)
    if folder is not None:
        weakref.finalize(source, folder.cleanup)
    resolved = in_methods_template(resolved, file).for_source(
        static=traits_of(source).static, unread=model.unread, scope=traits_of(source).scope
    )
    resolved = fill_priors(Local(model, source), resolved)
    asked = asked_in_chat(model, resolved.chat, resolved.chat_sample, required=resolved.all_in_chat)
    for warning in asked["warnings"] if asked else ():
        _warn(warning)
    rows = list(resolved.items.items)
    ids = frozenset(item.id for item in rows)
    answered, nulls = ids if answers else frozenset(), resolved.nulls
    job = Job(resolved.conditions, resolved.probes, 0, seed, (), answered, resolved.chat, nulls=nulls)
    documents = [document for document in resolved.items.documents if document.text.strip()]
    encoded = encode(source, documents)
    encoded |= encode_reworded(source, [d for d in documents if d.text in encoded.adapters], resolved.conditions)
    null_adapters = encode_nulls(source, nulls, rows, resolved.conditions, encoded, MeanAdapters())
    encoded = replace(encoded, nulls=null_adapters)
    readings = measure_items(job.setup(model, BatchSizer()), resolved.items.items, encoded, job.answered).readings
    order = {(item.id, c.name): n for n, (item, c) in enumerate((i, c) for i in rows for c in resolved.conditions)}
    readings.sort(key=lambda row: order[row["item"], row["condition"]])
    return pd.DataFrame(readings, columns=[name for name in READINGS.names if any(name in row for row in readings)])


def _warn(text: str) -> None:
    """A Python warning; what it quotes of a file cannot act on the terminal that shows it."""
    warnings.warn(one_line(text), stacklevel=3)


def default_folder(engine: Engine, resolved: ResolvedPlan, shard: Shard | None = None) -> Path:
    """A run folder named after subject, adapters and items."""
    return run_folder_of(*engine.ask(_names_of), resolved, shard)


def run_folder_of(subject: str, source: str, resolved: ResolvedPlan, shard: Shard | None = None) -> Path:
    """The run folder of a subject and a source by their names, which may come from files: always one folder within `runs`."""
    part = "" if shard is None else f"-shard-{shard.number}-of-{shard.of}"
    items = Path(resolved.plan.items).stem
    return Path("runs") / path_component(f"{subject}-{source}-{items}", end=part)


def run_audit(
    engine: Engine,
    resolved: ResolvedPlan,
    out: str | Path,
    *,
    shard: Shard | None = None,
    progress: Progress = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
    until: Until | None = None,
) -> None:
    """Check a new run's adapters on a few documents, then measure it into a run folder or URL, whose manifest records both.

    `say` is told what cannot be measured with this source, and what of its adapters is left out. Raises
    HandshakeError and what `run_plan` raises.
    """
    static, unread, scope = engine.ask(_supported)
    supported = resolved.for_source(static=static, unread=unread, scope=scope)
    if supported.refused:
        say(refusal_message(supported.refused))
    unknown = engine.ask(partial(_unknown_words, items=supported.items.items[:HANDSHAKE_ITEMS]))
    if unknown is not None:
        message = unknown.message(supported.plan.subject)
        if unknown.in_answers == unknown.n:
            raise ItemError(message)
        say(message)
    with timed("readings"):
        supported = fill_priors(engine, supported.on_day(first_day(store_at(out))), store_at(out), progress)
    if supported.priors is not None:
        say(priors_message(supported.priors))
    is_new = not store_at(out).exists()
    handshake = handshake_record(engine, supported, store_at(out), say)
    record, expected = None, None
    if handshake is not None:
        record, expected = handshake.as_json(), seconds_of(engine, supported, handshake.encode_s)
    if is_new:
        for note in engine.ask(partial(_notes, documents=supported.items.documents)):
            say(note)
    with timed("readings"):
        run_plan(engine, supported, out, progress, shard, say, record, until, expected)
    left_out = (store_at(out).manifest().get("nulls") or {}).get("mean_left_out")
    if left_out:
        say(
            f"null-mean: left out of the mean adapters, since they are not finite: {' and '.join(map(str, left_out))} of them"
        )
    found = [row for row in store_at(out).manifest().get("refused") or [] if row not in supported.refused]
    if found:
        say(refusal_message(found))


def open_plan(
    plan: Plan,
    trust_remote_code: bool = False,
    *,
    subject: str | Subject | None = None,
    adapters: str | AdapterSource | None = None,
    file: Path | None = None,
) -> tuple[Subject, AdapterSource]:
    """A plan's subject and source, wherever this is called; those that are open objects already are returned as they are.

    `file`: the adapters that a method wrote in its own environment (`exported`).
    """
    with timed("subject"):
        if not isinstance(subject, Subject):
            subject = open_subject(plan.subject, device=plan.device, dtype=plan.dtype, trust=trust_remote_code)
    with timed("adapters"):
        if file is not None:
            return subject, read_compact(file)
        if adapters is None or isinstance(adapters, str):
            return subject, open_source(
                plan.adapters,
                subject,
                adapter_map=plan.adapter_map,
                shared_adapter=plan.shared_adapter,
            )
        if plan.adapter_map is not None or plan.shared_adapter is not None:
            raise PlanError("adapter_map and shared_adapter are for adapters that are named, not for an open source")
        return subject, require_source(adapters, "adapters")


@contextmanager
def open_engine(
    name: Literal["local", "ray"],
    opener: Callable[[], tuple[Subject, AdapterSource]],
    *,
    workers: int | None = None,
    threads: int | None = None,
) -> Iterator[Engine]:
    """The engine named. With ray the model is opened by the workers alone.

    `threads` are CPU threads; without them all cores, but one for a tiny model.
    """
    threads_before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        if name == "local":
            subject, source = opener()
            if threads is None and sum(p.numel() for p in subject.model.parameters()) < ONE_THREAD:
                torch.set_num_threads(1)
            yield Local(subject, source)
            return
        from override_gap.probes.run.ray import on_ray

        with on_ray(opener, threads=torch.get_num_threads(), workers=workers) as engine:
            yield engine
    finally:
        torch.set_num_threads(threads_before)


def _supported(subject: Subject, source: AdapterSource) -> tuple[bool, tuple[dict[str, str], ...], str]:
    return traits_of(source).static, subject.unread, traits_of(source).scope


def _notes(subject: Subject, source: AdapterSource, documents: Sequence[Document]) -> list[str]:
    notes_on = traits_of(source).notes_on
    return [] if notes_on is None else list(notes_on([d for d in documents if not is_blank(d.text)]))


def _unknown_words(subject: Subject, _: AdapterSource, items: Sequence[Item]) -> UnknownWords | None:
    return unknown_words(subject.tokenizer, items)


def _names_of(subject: Subject, source: AdapterSource) -> tuple[str, str]:
    return subject.name, source.name


def _names(setting: str, value: Any) -> tuple[str, ...]:
    """Names as a tuple, from a list or from text with commas. Raises PlanError."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise PlanError(f"{setting} needs a list of names, or names with commas, got {value!r}")
    return tuple(part.strip() for part in parts if part.strip())


def _checked(items: Any) -> list[Item]:
    """Open items as a list. Raises ItemError where there is none, one is something else, or two have one id."""
    if isinstance(items, Item):
        raise ItemError("items need a list; put the one item into brackets")
    items = list(items)
    if not items:
        raise ItemError("no items to measure")
    ids: set[str] = set()
    for item in items:
        if not isinstance(item, Item):
            raise ItemError(f"items need Item objects, got {type(item).__name__}; see Item.conflict, or give a file")
        if item.id in ids:
            raise ItemError(f"id {item.id!r} stands twice; ids must be unique")
        ids.add(item.id)
    return items


def _name(thing: Any) -> str | None:
    """The name of an open object, or the words that name it."""
    return thing if thing is None or isinstance(thing, str) else str(getattr(thing, "name", type(thing).__name__))
