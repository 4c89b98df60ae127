"""How two audits differ, by their manifests, in words: for a run that is not resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Where a manifest says what decides a run's numbers, and what that is called.
PLACES = {
    "subject.fingerprint": "the model's weights, configuration or tokenizer",
    "subject.dtype": "the number format",
    "computing.code": "the model's own code",
    "computing.generation": "the model's generation settings",
    "computing.attention": "the implementation of attention",
    "computing.tokenizer": "the tokenizer's settings",
    "computing.torch": "torch's modes",
    "computing.environment": "variables of the environment that change how torch computes",
    "computing.kernels": "the versions of installed kernels",
    "computing.packages": "the versions of packages that the adapters depend on",
    "computing.prompts": "the tokens in which questions and answers are read",
    "versions.torch": "the version of torch",
    "versions.transformers": "the version of transformers",
    "versions.transformer-lens": "the version of transformer-lens",
    "versions.tokenizers": "the version of tokenizers",
    "code": "the version of override-gap",
    "adapters.name": "the method",
    "adapters.settings": "the adapters or their settings",
    "items.sha256": "the items",
    "conditions": "the policies",
    "seed": "the seed",
}
MOST = 3


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between two manifests, and what the old one does not say, at most MOST things of each; else all it can be."""
    recorded = [place for place in PLACES if _is_recorded(old, place)]
    found = [PLACES[place] for place in recorded if _at(old, place) != _at(new, place)]
    unknown = [words for place, words in PLACES.items() if place not in recorded and _at(new, place) is not None]
    said = [f"what differs: {_some(found)}"] if found else []
    if unknown:
        said.append(f"not recorded by the version that measured it: {_some(unknown)}")
    return "; ".join(said) or "other settings, model, adapters, items or code"


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - MOST} more" if len(words) > MOST else ""
    return f"{', '.join(words[:MOST])}{more}"


def _is_recorded(manifest: Mapping[str, Any], place: str) -> bool:
    *owners, last = place.split(".")
    owner = _at(manifest, ".".join(owners)) if owners else manifest
    return isinstance(owner, Mapping) and last in owner


def _at(manifest: Mapping[str, Any], place: str) -> Any:
    value: Any = manifest
    for name in place.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
