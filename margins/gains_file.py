"""gains.json: a policy with its gains, the budget that it was chosen under, and what to expect of it; read and written.

A file of another is hostile until it is checked: strict JSON, every field of the format, no other format, sizes bounded. What a
file says of gains is held against the policy that it names, so that the two cannot differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from override_gap.margins.strict_json import read_json
from override_gap.margins.whole_files import write_text

FORMAT = "override-gap gains 1"
RECOMMENDATIONS = ("scale", "as-delivered", "no-gain", "undecided")
FIGURES = ("conflict", "conflict_as_delivered", "difference", "novel", "combination", "retention", "kl")
OF_ESTIMATE = ("value", "low", "high", "n", "points")
LARGEST = 2**20
"""Bytes of such a file; one of a hundred layers has 4,000."""
MOST_LAYERS, LONGEST, MOST_GAIN = 10_000, 4_000, 10_000.0


@dataclass(frozen=True)
class GainsFile:
    """The content of a gains.json; estimates are dicts of value, low, high, n and points.

    `gains`: one per layer, or None where the policy looks at the question or sets gains by each document's norms. `run` is the
    identity of the run whose readings it was chosen from, `adapters` and `subject` what was audited, by name and hash.
    """

    policy: str
    gains: tuple[float, ...] | None
    looks_at_question: bool
    recommendation: str
    says: str
    budget: Mapping[str, Any]
    expected: Mapping[str, Any] = field(default_factory=dict)
    in_sample: Mapping[str, Any] = field(default_factory=dict)
    optimism: float | None = None
    subject: Mapping[str, Any] = field(default_factory=dict)
    adapters: Mapping[str, Any] = field(default_factory=dict)
    items: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    created: str = ""
    version: str = ""

    def as_json(self) -> dict[str, Any]:
        """The file's content, keys in the order of the format."""
        return {
            "format": FORMAT,
            "policy": self.policy,
            "gains": None if self.gains is None else list(self.gains),
            "looks_at_question": self.looks_at_question,
            "recommendation": self.recommendation,
            "says": self.says,
            "budget": dict(self.budget),
            "expected": dict(self.expected),
            "in_sample": dict(self.in_sample),
            "optimism": self.optimism,
            "subject": dict(self.subject),
            "adapters": dict(self.adapters),
            "items": dict(self.items),
            "run": self.run,
            "created": self.created,
            "version": self.version,
        }


def write_gains(gains: GainsFile, path: str | Path) -> None:
    """Write the file whole or not at all. Raises WriteError where the disk does not take it."""
    write_text(Path(path), json.dumps(gains.as_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_gains(path: str | Path) -> GainsFile:
    """Read and check a gains.json. Raises ValueError, one line, for anything that `write_gains` does not write."""
    file = Path(path)
    content = read_json(file, LARGEST)
    try:
        return gains_from(content)
    except ValueError as fault:
        raise ValueError(f"{file}: {fault}; `override-gap tune RUN` writes such a file") from fault


def gains_from(content: Any) -> GainsFile:
    """The checked content of a gains.json. Raises ValueError, which names the field."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        shown = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"needs an object with format {FORMAT!r}, got {str(shown)[:60]!r}")
    known = set(GainsFile.__dataclass_fields__) | {"format"}
    unknown = sorted(set(map(str, content)) - known)
    if unknown:
        raise ValueError(f"unknown key {unknown[0][:60]!r}; this version knows {', '.join(sorted(known))}")
    policy, looks = _text(content, "policy", 60), content.get("looks_at_question")
    if not isinstance(looks, bool):
        raise ValueError(f"looks_at_question is true or false, got {looks!r:.60}")
    gains = _gains(content.get("gains"))
    recommendation = _text(content, "recommendation", 40)
    if recommendation not in RECOMMENDATIONS:
        raise ValueError(f"recommendation is one of {', '.join(RECOMMENDATIONS)}, got {recommendation!r}")
    if policy.split(":")[-1].startswith(("random-layers", "random-matched")):
        raise ValueError(
            f"policy {policy!r} draws its layers at random: a control to be compared with, no gains to apply"
        )
    _agrees(policy, gains, looks)
    return GainsFile(
        policy=policy,
        gains=gains,
        looks_at_question=looks,
        recommendation=recommendation,
        says=_text(content, "says", LONGEST),
        budget=_budget(content.get("budget")),
        expected=_figures(content, "expected"),
        in_sample=_figures(content, "in_sample"),
        optimism=_number(content.get("optimism"), "optimism"),
        subject=_texts(content, "subject", ("name", "fingerprint")),
        adapters=_texts(content, "adapters", ("name", "hash")),
        items=_items(content.get("items")),
        run=_text(content, "run", 200),
        created=_text(content, "created", 60),
        version=_text(content, "version", 60),
    )


def gains_of(policy: str, layers: int) -> tuple[tuple[float, ...] | None, bool]:
    """A policy's gains per layer where they are the same for every document (else None), and whether it looks at the question.

    Raises ValueError for a name that is no policy or sets no gains.
    """
    import torch

    from override_gap.margins.condition_parser import parse_condition
    from override_gap.margins.gain_policies import PolicyInputs, looks_at_question

    gain_policy = parse_condition(policy).gain_policy
    if gain_policy is None:
        raise ValueError(f"policy {policy!r} sets no gains")
    if looks_at_question(gain_policy):
        return None, True
    # gains that norms or seeds decide differ between these
    rising = torch.arange(layers, dtype=torch.float32)
    tried = [gain_policy(PolicyInputs(norms, seed=seed)) for norms in (rising, rising.flip(0)) for seed in range(3)]
    same = all(torch.equal(each, tried[0]) for each in tried)
    return (tuple(tried[0].tolist()) if same else None), False


def _agrees(policy: str, gains: tuple[float, ...] | None, looks: bool) -> None:
    """Raise ValueError where gains or looks_at_question are not those of the policy."""
    of_policy, looks_indeed = gains_of(policy, 1 if gains is None else len(gains))
    if looks != looks_indeed:
        raise ValueError(f"looks_at_question is {looks}, but policy {policy!r} does{'' if looks_indeed else ' not'}")
    if gains is None:
        return
    if of_policy is None or max(abs(a - b) for a, b in zip(gains, of_policy, strict=True)) > 1e-6:
        raise ValueError(f"gains are not those of policy {policy!r}")


def _gains(value: Any) -> tuple[float, ...] | None:
    """One gain per layer, or None."""
    if value is None:
        return None
    if not isinstance(value, list) or not 0 < len(value) <= MOST_LAYERS:
        raise ValueError("gains is null or a list of one number per layer")
    gains = [_number(each, "gains") for each in value]
    if any(gain is None or not 0 <= gain <= MOST_GAIN for gain in gains):
        raise ValueError(f"every gain is a number from 0 to {MOST_GAIN:g}")
    return tuple(float(gain) for gain in gains if gain is not None)


def _number(value: Any, name: str) -> float | None:
    """A finite number, or None for null."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} holds {value!r:.60}, which is no finite number")
    return float(value)


def _text(content: Mapping[str, Any], name: str, longest: int) -> str:
    """A text of bounded length without control characters."""
    value = content.get(name)
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise ValueError(f"{name} is a text of up to {longest} printable characters, got {value!r:.60}")
    return value


def _budget(value: Any) -> dict[str, Any]:
    """keep, kl and measure."""
    if (
        not isinstance(value, dict)
        or set(value) != {"keep", "kl", "measure"}
        or value["measure"] not in ("top1", "answer")
    ):
        raise ValueError(f"budget has keep, kl and measure (top1 or answer), got {value!r:.60}")
    return {"keep": _number(value["keep"], "budget"), "kl": _number(value["kl"], "budget"), "measure": value["measure"]}


def _figures(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Estimates by their names, each with five numbers, or null."""
    value = content.get(name)
    if not isinstance(value, dict) or not set(value) <= set(FIGURES):
        raise ValueError(f"{name} has estimates of {', '.join(FIGURES)}, got {value!r:.60}")
    found: dict[str, Any] = {}
    for key in FIGURES:
        estimate = value.get(key)
        if estimate is not None and (not isinstance(estimate, dict) or set(estimate) != set(OF_ESTIMATE)):
            raise ValueError(f"{name}.{key} is null or has {', '.join(OF_ESTIMATE)}, got {estimate!r:.60}")
        found[key] = estimate and {part: _number(estimate[part], f"{name}.{key}") for part in OF_ESTIMATE}
        if estimate is not None:
            found[key] |= {part: int(found[key][part] or 0) for part in ("n", "points")}
    return found


def _texts(content: Mapping[str, Any], name: str, keys: Sequence[str]) -> dict[str, str]:
    """A few texts by their names."""
    value = content.get(name)
    if not isinstance(value, dict) or set(value) != set(keys):
        raise ValueError(f"{name} has {' and '.join(keys)}, got {value!r:.60}")
    return {key: _text(value, key, 1000) for key in keys}


def _items(value: Any) -> dict[str, Any]:
    """Hash and number of the items."""
    if not isinstance(value, dict) or set(value) != {"sha256", "n"}:
        raise ValueError(f"items has sha256 and n, got {value!r:.60}")
    n = value["n"]
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= 10**9:
        raise ValueError(f"items.n is a count, got {n!r:.60}")
    return {"sha256": _text(value, "sha256", 200), "n": n}
