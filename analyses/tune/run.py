"""Tune a stored run: budget and choice from what a user states, and the gains.json that is made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from override_gap.analyses.readings import RunFrame, load
from override_gap.analyses.tune.budget import KEEP, Budget
from override_gap.analyses.tune.choice import FIGURES, Choice
from override_gap.analyses.tune.choose import choose
from override_gap.margins.gains_file import OF_ESTIMATE, GainsFile, gains_of


def tune(
    run: RunFrame | Path | str,
    keep: float | None = None,
    kl: float | None = None,
    measure: str = "top1",
    policies: Sequence[str] | None = None,
    seed: int = 0,
) -> Choice:
    """The policy to use under a budget, from the stored readings of a run or run folder; no model is opened.

    `keep`: the least share of unrelated answers that stay; `kl`: the largest mean KL to the base there, nats per token; without
    either, keep is 0.95. Raises ValueError for a budget outside its range, a policy that was not measured, or no run.
    """
    if keep is None and kl is None:
        keep = KEEP
    budget = Budget(keep, kl, measure)
    return choose(run if isinstance(run, RunFrame) else load(run), budget, policies, seed)


def gains_file(choice: Choice, run: RunFrame) -> GainsFile:
    """The content of gains.json for a choice made on a run."""
    from importlib.metadata import version

    manifest = run.manifest
    subject, adapters, items = (manifest.get(key) or {} for key in ("subject", "adapters", "items"))
    gains, looks = gains_of(choice.policy, max(1, int(subject.get("layers") or 1)))
    written = choice.as_json()
    return GainsFile(
        policy=choice.policy,
        gains=gains,
        looks_at_question=looks,
        recommendation=choice.recommendation,
        says=choice.says,
        budget=written["budget"],
        expected=_five_keys(written["expected"]),
        in_sample=_five_keys(written["in_sample"]),
        optimism=written["optimism"],
        subject={"name": _printable(subject.get("name")), "fingerprint": _printable(subject.get("fingerprint"))},
        adapters={"name": _printable(adapters.get("name")), "hash": adapters_hash(adapters)},
        items={"sha256": _printable(items.get("sha256")), "n": int(run.readings["item"].nunique())},
        run=_printable(manifest.get("identity")),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=version("override-gap"),
    )


def adapters_hash(adapters: Mapping[str, Any]) -> str:
    """SHA-256 of name and settings of the adapters in a manifest, as JSON with sorted keys; files stand there by their hashes."""
    stated = [adapters.get("name"), adapters.get("settings")]
    return hashlib.sha256(json.dumps(stated, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _printable(text: object) -> str:
    """A manifest's text as gains.json holds it: what is not printable as a question mark."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text or ""))


def _five_keys(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Every figure with value, limits and sizes alone."""
    return {
        name: None if figures.get(name) is None else {part: figures[name][part] for part in OF_ESTIMATE}
        for name in FIGURES
    }
