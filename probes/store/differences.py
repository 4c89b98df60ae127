"""How two audits differ, by their manifests, in words: for a run that is not resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

#: Where a manifest says what decides a run's numbers, and what that is called.
PLACES = {
    "subject.fingerprint": "the model's weights, configuration or tokenizer",
    "subject.dtype": "the number format",
    "subject.device": "the device",
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
#: The settings of a plan that decide numbers, each with the places of which one differs where the setting matters; without a
#: place it decides by itself.
SETTINGS = {
    "subject": ("subject.fingerprint",),
    "dtype": ("subject.dtype",),
    "device": ("subject.device",),
    "adapters": ("adapters.name", "adapters.settings"),
    "adapter_map": ("adapters.settings",),
    "shared_adapter": ("adapters.settings",),
    "items": ("items.sha256",),
    "limit": ("items.sha256",),
    "prior": (),
    "policies": ("conditions",),
    "probes": (),
    "answers": (),
    "cluster": (),
    "seed": (),
    "reference": (),
    "chat": (),
    "system_prompt": (),
    "chat_template": (),
    "template_args": (),
}
#: Settings of one probe: they decide numbers where both runs have it.
OF_PROBES = {"dose_items": "prior-dose", "temperatures": "sampled", "draws": "sampled"}
FLAGS = {"template_args": "template_arg"}
"""Settings whose flag has another name."""
MOST, LONGEST = 3, 60


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between two manifests: the first thing with what the old one holds and what the new one asks for, then
    other things by name, at most MOST; and what the old one does not say. Where nothing is found, all that it can be."""
    recorded = [place for place in PLACES if _is_recorded(old, place)]
    places = [place for place in recorded if _at(old, place) != _at(new, place)]
    settings = _settings(old, new, places)
    explained = {place for name in settings for place in SETTINGS.get(name, ())} | ({"seed"} & set(settings))
    # other items are read in other tokens: that is no second thing that differs
    explained |= {"computing.prompts"} if "items.sha256" in places else set()
    rest = [place for place in places if place not in explained]
    found = [f"--{FLAGS.get(name, name).replace('_', '-')}" for name in settings] + [PLACES[place] for place in rest]
    unknown = [words for place, words in PLACES.items() if place not in recorded and _at(new, place) is not None]
    said = []
    if found:
        first = f"plan.{settings[0]}" if settings else rest[0]
        also = f"; also {_some(found[1:])}" if found[1:] else ""
        said = [f"what differs: {found[0]}, {both(_at(old, first), _at(new, first))}{also}"]
    if unknown:
        said.append(f"not recorded by the version that measured it: {_some(unknown)}")
    return "; ".join(said) or "other settings, model, adapters, items or code"


def both(old: Any, new: Any) -> str:
    """The two values in words, 'there 40, asked for 150'; of a list or a table what is not the same in both."""
    if isinstance(old, str) and isinstance(new, str) and ("," in old or "," in new):
        old, new = ([name.strip() for name in value.split(",")] for value in (old, new))
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        there, asked = ([_text(value) for value in values] for values in (old, new))
        if max(len(", ".join(names)) for names in (there, asked)) > LONGEST and set(there) != set(asked):
            only = [("there", set(there) - set(asked), there), ("asked for", set(asked) - set(there), asked)]
            return "; ".join(
                f"{x} alone {_short(', '.join(n for n in all_ if n in own))}" for x, own, all_ in only if own
            )
        old, new = ", ".join(there), ", ".join(asked)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
        if keys:
            return f"{_short(str(keys[0]))}: {both(old.get(keys[0]), new.get(keys[0]))}"
    return f"there {_short(_text(old))}, asked for {_short(_text(new))}"


def _settings(old: Mapping[str, Any], new: Mapping[str, Any], places: Sequence[str]) -> list[str]:
    """The settings whose values are recorded in both manifests, differ, and make a difference."""
    theirs, ours = old.get("plan"), new.get("plan")
    if not isinstance(theirs, Mapping) or not isinstance(ours, Mapping):
        return []
    probes = [plan.get("probes") for plan in (theirs, ours)]
    shared = [name for name, probe in OF_PROBES.items() if all(probe in str(names) for names in probes)]
    decisive = [name for name, of in SETTINGS.items() if not of or any(place in places for place in of)]
    asked = [name for name in (*decisive, *shared) if name in theirs and name in ours]
    return [name for name in asked if theirs[name] != ours[name]]


def _text(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


def _short(text: str) -> str:
    """A value as it is, cut where it is long: of a hash, as of any other word, its beginning tells it from another."""
    if len(text) >= 32 and not set(text) - set("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


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
