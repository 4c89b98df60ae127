"""The loop over a run's units: an engine measures them into a run folder, and what is there already is not measured again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from override_gap.margins.adapter import AdapterSource
from override_gap.margins.items.item import Item, questions_hash
from override_gap.probes.errors import AdapterChanged
from override_gap.probes.plan import Plan
from override_gap.probes.run.base_answers import FILE, fill_priors, items_json
from override_gap.probes.run.basis import require_same_answers
from override_gap.probes.run.comparisons import Comparisons
from override_gap.probes.run.dose_sample import DoseSample, draw_sample
from override_gap.probes.run.engine import Engine, FinishedUnit, Job, Local, Unit
from override_gap.probes.run.manifest import RunFacts, new_manifest, now, run_facts, run_identity, with_progress
from override_gap.probes.run.repeated_document import RepeatedDocument, repeated_document
from override_gap.probes.run.resolve import ResolvedPlan, resolve
from override_gap.probes.run.shards import Shard
from override_gap.probes.run.time_estimate import in_words
from override_gap.probes.run.unit import larger
from override_gap.probes.run.units import MOST_SAMPLED, answered_in_words, split_into_units
from override_gap.probes.run.until import LooksAhead, Until, resumed_to_the_end, units_to_measure
from override_gap.probes.store.files import expected_bytes
from override_gap.probes.store.folder import DAMAGED, RunError
from override_gap.probes.store.remote import store_at
from override_gap.probes.store.run_store import RunStore
from override_gap.probes.subject.model import Subject

Progress = Callable[[int, int, str], None]
#: What one item of the probe prior-dose costs, in forward passes of one question: what is fitted fast, and what is not.
PASSES_PER_ITEM = 200, 1000
NONE_KNOWN = "no conflict that the base knows, so that there is no prior to change"
#: Seconds between two lines on how far a unit is.
TOLD_EVERY = 5.0
#: Probes that compare with unrelated questions and text.
COMPARING = frozenset({"search", "prior-dose"})


def run(
    plan: Plan,
    subject: Subject,
    source: AdapterSource,
    items: Sequence[Item],
    out: Path,
    progress: Progress = lambda *_: None,
) -> Path:
    """Measure a plan in this process into `out`; see `run_plan`."""
    run_plan(Local(subject, source), resolve(plan, items), out, progress)
    return out


def run_plan(
    engine: Engine,
    resolved: ResolvedPlan,
    out: Path | str,
    progress: Progress = lambda *_: None,
    shard: Shard | None = None,
    say: Callable[[str], None] = lambda _: None,
    handshake: Mapping[str, Any] | None = None,
    until: Until | None = None,
    expected: float | None = None,
) -> None:
    """Measure a plan into `out`; raises RunError, AdapterError, ParityError. Killed at any time, it can be called again.

    `out` is a folder or the URL of one. The readings do not depend on the engine. With a shard, only its units are
    measured. `say` is told before anything is measured what was set aside, and if the model begins its answers in chat with none.
    `handshake` is the record of the checks made before; a run that holds one already keeps its own. `until` is a rule by
    which the run may end before all units are measured; it looks at units in their order, so that it is for whole runs in this
    process. `expected` is how many seconds a whole audit is thought to take, for `progress` to begin with.
    """
    if until is not None and (shard is not None or not isinstance(engine, Local)):
        what = "a shard" if shard is not None else "Ray"
        raise RunError(f"a run that stops by a rule is measured whole and in order, not by {what}; leave --until out")
    store = store_at(out)
    store.require_room()
    resolved = fill_priors(engine, resolved.on_day(first_day(store)), store, progress)
    asked = {
        "chat": resolved.chat,
        "items": resolved.chat_sample,
        "required": resolved.all_in_chat,
        "questions": questions_hash(resolved.items.documents),
        "read": resolved.items.items,
    }
    facts = engine.ask(partial(run_facts, **asked))
    for warning in facts.chat["warnings"] if facts.chat else ():
        say(warning)
    resolved.require_layers(int(facts.subject["layers"]))
    resolved = resolved.for_source(static=facts.static, unread=facts.unread, scope=facts.scope)
    with store.locked() as dead_holder:
        _measure(engine, facts, resolved, store, progress, shard, dead_holder, handshake, until, say, expected)


def _measure(
    engine: Engine,
    facts: RunFacts,
    resolved: ResolvedPlan,
    store: RunStore,
    progress: Progress,
    shard: Shard | None,
    dead_holder: str | None,
    handshake: Mapping[str, Any] | None,
    until: Until | None,
    say: Callable[[str], None],
    expected: float | None,
) -> None:
    """`run_plan` in a locked folder; `dead_holder` tells of a process that had locked it and died."""
    started = time.monotonic()
    plan = resolved.plan
    nulls = resolved.nulls
    identity = run_identity(facts, resolved, nulls)
    needs_partner = any(condition.needs_partner for condition in resolved.conditions)
    if until is not None and needs_partner and len(resolved.items.documents) > MOST_SAMPLED:
        raise RunError(
            f"a run that stops by a rule begins with a random sample of its documents, and one of more than {MOST_SAMPLED} "
            "documents with null conditions does not; leave these out of --policies, or --until out"
        )
    units = split_into_units(resolved.items, identity, plan.seed, partners=needs_partner)
    manifest: dict[str, Any] = new_manifest(facts, resolved, identity, nulls, handshake) | {"units": len(units)}
    if shard is not None:
        manifest["shard"] = asdict(shard)
    before = store.open(manifest, identity)
    parity = before.get("parity") or {}
    require_same_answers(str(facts.subject["name"]), parity.get("witness"), facts.witness, facts.parity_tolerance)
    manifest["handshake"] = before.get("handshake") or manifest["handshake"]
    as_measured = items_json(resolved)
    if as_measured is not None and not (before.get("complete") and store.read_json(FILE)):
        store.write_json(FILE, as_measured)
    if before.get("shard") != manifest.get("shard"):
        raise RunError(f"{store} holds another part of this audit; give each --shard an --out of its own")
    own_units = units if shard is None else shard.share(units)
    keys, damages = store.pending([unit.key for unit in own_units])
    for damage in damages:
        say(f"set aside in {store}/{DAMAGED} and measured again: {damage}")
    seen = before.get("until")
    looks = None if until is None else LooksAhead.of(until, units, seen, store.keys())
    own_units = units_to_measure(own_units, seen, until)
    pending = [unit for unit in own_units if unit.key in set(keys)]
    n_items = {unit.key: len(unit.items) for unit in own_units}
    total = sum(n_items.values())
    if before.get("complete") and not pending:
        progress(total, total, "measured")
        return
    if before.get("complete"):  # no longer: what it says of its units does not hold while some are measured again
        before = {**before, "seals": None, "finished": None, "complete": False}
        store.write_json("manifest.json", before)
    n_pending = sum(n_items[unit.key] for unit in pending)
    _require_disk(store, resolved, facts, n_pending)
    doses = _dose_sample(engine, resolved, progress, say)
    if doses is not None:
        manifest |= {"prior_dose": doses.as_json()}
        if not doses.chosen:
            manifest |= {"refused": [*(manifest.get("refused") or []), {"probe": "prior-dose", "reason": NONE_KNOWN}]}
    job = Job(
        resolved.conditions,
        resolved.probes,
        resolved.batch_size,
        plan.seed,
        resolved.sampled,
        answered_in_words(units, resolved.n_answers, plan.seed),
        resolved.chat,
        plan.reference,
        nulls,
        Comparisons.of(resolved.items, plan.seed) if resolved.probes & COMPARING else Comparisons(),
        math.ceil(resolved.n_answers / max(1, len(units))),
        plan.cluster,
        doses or DoseSample(),
        facts.basis,
        _repeated(engine, facts, units, before) if pending else None,
        identity,
    )
    if job.repeated is not None:
        manifest["adapters"] |= {"repeated": job.repeated.as_json()}
        store.write_json("manifest.json", {**before, "adapters": {**before["adapters"], **manifest["adapters"]}})
    changed_maps: Mapping[str, Any] = {
        k: v for k, v in before["adapters"].items() if k in ("modules", "rank", "prefix", "left_out")
    }
    gap, seconds_before = before["parity"].get("attribution_max_abs"), before.get("timing") or {}
    unread = [row for row in before.get("refused") or [] if row not in manifest["refused"]]
    missed = before["parity"].get("attribution_missed") or 0
    seconds = {"adapters_s": 0.0, "measuring_s": 0.0}
    if dead_holder or damages:
        manifest["recovered"] = [*([dead_holder] if dead_holder else []), *damages]
    done, batch_size = total - n_pending, plan.batch_size
    record = resumed_to_the_end(seen) if looks is None else looks.record
    manifest |= {} if record is None else {"until": record}
    measured = {unit.key for unit in own_units} - {unit.key for unit in pending}
    progress(done, total, _measuring(done, n_pending, len(resolved.items.items), seconds_before, expected))
    if isinstance(engine, Local):
        engine = replace(engine, told=_now_and_then(lambda what: progress(done, total, what)))
    finished = _of_one_method(engine.measure(job, pending, store), store)
    while True:
        if looks is not None and (place := looks.due(measured)) is not None:
            looks = looks.look(place, store, say)
            manifest |= {"until": looks.record}
            store.write_json("manifest.json", manifest)
            if looks.record["stopped"]:
                total = done
                break
        unit = next(finished, None)
        if unit is None:
            break
        measured.add(unit.key)
        done += n_items[unit.key]
        gap = larger(gap, unit.attribution_gap)
        unread += [row for row in unit.unread if row not in unread]
        missed += unit.attribution_missed
        seconds["adapters_s"] += unit.adapters_s
        seconds["measuring_s"] += unit.measuring_s
        changed_maps = changed_maps or unit.adapters
        if unit.largest_batch is not None:
            batch_size = unit.largest_batch if batch_size == "auto" else min(batch_size, unit.largest_batch)
            manifest["memory"] = {"asked": plan.batch_size, "batch_size": batch_size}
        so_far = {"total_s": time.monotonic() - started, **seconds}
        if nulls is not None and unit.means:
            left_out = {"mean_left_out": list(unit.means_left_out)} if any(unit.means_left_out) else {}
            manifest["nulls"] = {**nulls.as_json(), "mean_documents": list(unit.means), **left_out}
        manifest = with_progress(manifest, changed_maps, gap, missed, seconds_before, so_far, unread)
        store.write_json("manifest.json", manifest)
        progress(done, total, "measuring")
    progress(total, total, "measured")
    so_far = {"total_s": time.monotonic() - started, **seconds}
    manifest = with_progress(manifest, changed_maps, gap, missed, seconds_before, so_far, unread)
    seals = store.seals([unit.key for unit in own_units if unit.key in measured])
    store.write_json("manifest.json", manifest | {"finished": now(), "complete": True, "seals": seals})


def _measuring(done: int, n_pending: int, count: int, before: Mapping[str, Any], expected: float | None) -> str:
    """What progress begins with: how long the rest will take, by the pace of the part that is measured, or as expected."""
    spent = sum(before.get(name) or 0.0 for name in ("adapters_s", "measuring_s"))
    if done and spent:
        return f"measuring, {in_words(spent / done * n_pending, sure=True)}"
    return "measuring" if expected is None else f"measuring, {in_words(expected * n_pending / max(1, count))}"


def _repeated(
    engine: Engine, facts: RunFacts, units: Sequence[Unit], before: Mapping[str, Any]
) -> RepeatedDocument | None:
    """The document whose adapter is made again with every unit, of a source that runs a user's code; None for any other."""
    if not facts.own_code:
        return None
    documents = [document for unit in units for document in unit.documents if document.text.strip()]
    return engine.ask(partial(repeated_document, documents=documents[:1], recorded=before["adapters"].get("repeated")))


def _dose_sample(
    engine: Engine, resolved: ResolvedPlan, progress: Progress, say: Callable[[str], None]
) -> DoseSample | None:
    """The items whose prior is changed, and what that will cost said before; None where it is not asked for."""
    if "prior-dose" not in resolved.probes:
        return None
    plan = resolved.plan
    progress(0, len(resolved.items.items), "drawing the conflicts whose prior is changed")
    settings = {"items": resolved.items.items, "count": plan.dose_items, "seed": plan.seed, "chat": resolved.chat}
    sample = engine.ask(partial(draw_sample, **settings))
    say(
        f"prior-dose: {len(sample.chosen)} conflicts that the base knows, of {sample.points} knowledge points "
        f"(--dose-items {plan.dose_items}); each takes some {PASSES_PER_ITEM[0]} to {PASSES_PER_ITEM[1]} passes of its question"
    )
    return sample


def _now_and_then(tell: Callable[[str], None]) -> Callable[[str], None]:
    """The same, but for what comes within TOLD_EVERY seconds of what was told before."""
    last = time.monotonic()

    def told(what: str) -> None:
        nonlocal last
        if time.monotonic() - last >= TOLD_EVERY:
            last = time.monotonic()
            tell(what)

    return told


def _of_one_method(units: Iterator[FinishedUnit], store: RunStore) -> Iterator[FinishedUnit]:
    """The units as they are finished. Raises AdapterChanged, which says what to do with the run, where an adapter changed."""
    try:
        yield from units
    except AdapterChanged as fault:
        raise AdapterChanged(
            f"{fault}; {store} holds readings of the adapters as they were, which are kept apart: audit the new ones into "
            "another --out, or put the old ones back and repeat the command"
        ) from fault


def first_day(store: RunStore) -> str:
    """The day on which a run began, today where it has not: a template may print the date, and a resumed run keeps it."""
    chat = (store.manifest().get("chat") if store.exists() else None) or {}
    return chat.get("day") or datetime.now().astimezone().date().isoformat()


def _require_disk(store: RunStore, resolved: ResolvedPlan, facts: RunFacts, n_items: int) -> None:
    """Raise DiskError where the readings of so many items will not fit."""
    layers = int(facts.subject["layers"]) + 1 if "layers" in resolved.probes else 0
    conditions = len(resolved.conditions)
    drawn = min(n_items, resolved.plan.answers) * conditions * len(resolved.sampled)
    store.require_room(expected_bytes(n_items, conditions, layers, drawn))
