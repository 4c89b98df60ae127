"""A run's manifest: what decides its numbers, by content, and what its units have shown so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from override_gap.margins.adapter import AdapterSource, traits_of
from override_gap.margins.items.item import Item
from override_gap.margins.items.null_documents import NullDocuments
from override_gap.probes.errors import ParityError
from override_gap.probes.plan import code_hash, content_key
from override_gap.probes.readings.layers import LARGEST_GAP
from override_gap.probes.run.basis import basis_of, model_witness, prompts_hash
from override_gap.probes.run.chat_facts import CHAT_IDENTITY, asked_in_chat
from override_gap.probes.run.resolve import ResolvedPlan
from override_gap.probes.source_hash import source_hash
from override_gap.probes.subject.chat_template import ChatSettings
from override_gap.probes.subject.computing import process_facts
from override_gap.probes.subject.model import Subject

PACKAGES = (
    "override-gap",
    "torch",
    "transformers",
    "transformer-lens",
    "tokenizers",
    "peft",
    "numpy",
    "pandas",
    "statsmodels",
)
# another version of these may compute otherwise or make other tokens, so its readings are not mixed with these
MEASURING = ("torch", "transformers", "transformer-lens", "tokenizers")


@dataclass(frozen=True)
class RunFacts:
    """What a run's identity and manifest say of its subject and source, so that neither need be in this process.

    `computing`: what decides numbers beside weights and settings (`model_facts`, `process_facts`), the versions of the packages
    that the source names, and the hash of all prompts as they are read. `basis`: what every unit must be measured with.
    `witness`: some of the model's own logits, which a resumed run compares. `own_code`: whether the source runs a user's code.
    """

    subject: Mapping[str, Any]
    device: str
    dtype: str
    source: str
    settings: Mapping[str, Any]
    static: bool
    scope: str
    parity: float
    parity_tolerance: float
    attribution_tolerance: float
    chat: Mapping[str, Any] | None = None
    unread: tuple[Mapping[str, str], ...] = ()
    computing: Mapping[str, Any] = field(default_factory=dict)
    basis: Mapping[str, str] = field(default_factory=dict)
    witness: tuple[float, ...] = ()
    own_code: bool = False


def run_facts(
    subject: Subject,
    source: AdapterSource,
    chat: ChatSettings | None = None,
    items: Sequence[Item] = (),
    required: bool = False,
    questions: str = "",
    read: Sequence[Item] = (),
) -> RunFacts:
    """Describe a subject and a source, and how they are asked through the chat template: `items` are some that are.
    `read` are all items of the run, whose prompts are hashed.

    `questions` is the hash of what is asked of the documents: a setting of a source that reads it, and of no other.
    Raises ParityError; ItemError where the template can put none of the items and it is `required`.
    """
    asked = asked_in_chat(subject, chat or ChatSettings(), items, required=required)
    fault = subject.parity_fault()
    if fault is not None:
        raise ParityError(f"{subject.name}: logits read here differ from the model's own {fault}")
    code, traits = source_hash(source), traits_of(source)
    return RunFacts(
        subject.describe(),
        subject.device.type,
        str(subject.dtype),
        source.name,
        {
            **source.settings,
            **({} if code is None else {"code": code}),
            **({"questions_sha256": questions} if traits.reads_questions else {}),
        },
        traits.static,
        traits.scope,
        subject.parity(),
        subject.parity_tolerance(),
        LARGEST_GAP[subject.coarsest_dtype],
        asked,
        subject.unread,
        {
            **subject.computing,
            **process_facts(),
            "packages": {name: installed_version(name) for name in traits.packages},
            "prompts": prompts_hash(subject, chat or ChatSettings(), read),
        },
        basis_of(subject, source),
        tuple(model_witness(subject)),
        code is not None or "function" in source.settings,
    )


def run_identity(facts: RunFacts, resolved: ResolvedPlan, nulls: NullDocuments | None = None) -> str:
    """The hash of all that decides a run's numbers; the same for every shard of it."""
    plan = resolved.plan
    return content_key(
        facts.subject["fingerprint"],
        facts.dtype,
        facts.device,
        facts.source,
        facts.settings,
        [condition.name for condition in resolved.conditions],
        [repr(condition) for condition in resolved.conditions],  # two settings may share a name
        sorted(resolved.probes),
        [plan.seed, plan.answers, plan.system_prompt],
        [list(plan.temperatures), plan.draws] if "sampled" in plan.probes else [],
        *(["dose", plan.dose_items] if "prior-dose" in resolved.probes else []),
        *(["reference"] if plan.reference else []),
        *([] if facts.chat is None else [facts.chat[name] for name in CHAT_IDENTITY]),
        *([] if nulls is None else [nulls.key]),
        *([] if plan.cluster == "relation" else ["cluster", plan.cluster]),
        *(["from-base"] if plan.prior == "from-base" else []),
        code_hash(),
        {name: installed_version(name) for name in MEASURING},
        facts.computing,
        resolved.items.sha256,
    )


def new_manifest(
    facts: RunFacts,
    resolved: ResolvedPlan,
    identity: str,
    nulls: NullDocuments | None = None,
    handshake: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest as it is written first, before anything is measured; `handshake` is the record of the one before it."""
    plan, items = resolved.plan, resolved.items
    return {
        "schema": 1,
        "identity": identity,
        "version": installed_version("override-gap"),
        "code": code_hash(),
        "plan": plan.as_json(),
        "subject": dict(facts.subject),
        "adapters": {
            "name": facts.source,
            "settings": dict(facts.settings),
            "static": facts.static,
            "documents": len(items.documents),
        },
        "items": {
            "name": Path(plan.items).name,
            "sha256": items.sha256,
            "count": len(items.items),
            **({} if resolved.priors is None else {"prior": resolved.priors.as_json()}),
        },
        "chat": None if facts.chat is None else {**facts.chat, "items": sum(item.chat for item in items.items)},
        "conditions": [condition.name for condition in resolved.conditions],
        **({} if nulls is None else {"nulls": nulls.as_json()}),
        "refused": list(resolved.refused),
        "computing": dict(facts.computing),
        "versions": {name: installed_version(name) for name in PACKAGES},
        "handshake": None if handshake is None else dict(handshake),
        "seed": plan.seed,
        "threads": torch.get_num_threads(),
        "parity": {
            "logits_max_abs": facts.parity,
            "tolerance": facts.parity_tolerance,
            "attribution_max_abs": None,
            "attribution_tolerance": facts.attribution_tolerance,
            "attribution_passed": None,
            "passed": True,
            "witness": list(facts.witness),
        },
        "memory": {"asked": plan.batch_size, "batch_size": plan.batch_size},
        "timing": {},
        "started": now(),
        "finished": None,
        "complete": False,
    }


def with_progress(
    manifest: Mapping[str, Any],
    adapters: Mapping[str, Any],
    attribution_gap: float | None,
    attribution_missed: int,
    seconds_before: Mapping[str, float],
    seconds: Mapping[str, float],
    refused: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """The manifest with what the units so far have shown: their adapters, the largest attribution gap in nats, how many
    rows' gaps are more than rounding (of each row, at most the tolerance), seconds.

    `attribution_gap` is None where no margin was split over layers: then there was nothing to check, and `passed` is about
    the logits alone. `seconds` of this session come on top of those of the sessions before it. `refused` is what the units
    could not read. An item whose attribution misses is an error row; the run goes on, and its manifest says that the check
    did not pass.
    """
    parity = manifest["parity"]
    within = attribution_gap is not None and attribution_gap <= parity["attribution_tolerance"]
    passed = None if attribution_gap is None else within and attribution_missed == 0
    return {
        **manifest,
        "adapters": {**manifest["adapters"], **adapters},
        "refused": [*manifest["refused"], *(dict(row) for row in refused if row not in manifest["refused"])],
        "parity": {
            **parity,
            "attribution_max_abs": attribution_gap,
            "attribution_missed": attribution_missed,
            "attribution_passed": passed,
            "passed": passed is not False,
        },
        "timing": {name: seconds_before.get(name, 0.0) + value for name, value in seconds.items()},
    }


@cache
def installed_version(package: str) -> str | None:
    """A package's version; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
