"""Policies by name: `slb` is TopNorm(1.75, 25%), `slb-2.0-33` the same with other settings, `if-confident:slb` behind a gate."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from override_gap.margins.gain_policies.by_effect import EffectGated, EffectLayers, OverlapScaled
from override_gap.margins.gain_policies.by_norm import (
    BottomNorm,
    PerLayer,
    RandomLayers,
    RandomMatched,
    TopNorm,
    Uniform,
)
from override_gap.margins.gain_policies.by_question import ConflictAware, MarginMatched, RelevanceGate
from override_gap.margins.gain_policies.gates import gate
from override_gap.margins.gain_policies.inputs import Policy

MOST_LAYERS = 1000
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_BY_LAYERS: dict[str, Callable[[float, float], Policy]] = {
    "slb": TopNorm,
    "random-layers": RandomLayers,
    "bottom-layers": BottomNorm,
    "random-matched": RandomMatched,
    "effect-layers": EffectLayers,
    "least-effect-layers": partial(EffectLayers, least=True),
}
#: Policies whose settings may be left out from the last one on, and how many there are.
_IN_ORDER: dict[str, tuple[Callable[..., Policy], int]] = {
    "effect-gated": (EffectGated, 3),
    "effect-alone": (partial(EffectGated, by_overlap=False), 3),
    "overlap-scaled": (OverlapScaled, 2),
    "margin-matched": (MarginMatched, 1),
}


def policy_named(name: str) -> Policy | None:
    """The policy of a name; None where it is no policy of gains. Raises ValueError where a setting is impossible."""
    if ":" in name:
        return _gated(name)
    if name.startswith("layers-"):
        return _per_layer(name)
    fixed: dict[str, Policy] = {
        "ca": ConflictAware(),
        "ca-slb": ConflictAware(otherwise=TopNorm()),
        "relevance-gate": RelevanceGate(),
    }
    if name in fixed:
        return fixed[name]
    if match := re.fullmatch(f"uniform-{_NUMBER}", name):
        return Uniform(float(match[1]))
    stem, settings = name, []
    while match := re.fullmatch(f"(.+)-{_NUMBER}", stem):
        stem, settings = match[1], [float(match[2]), *settings]
    if stem in _IN_ORDER:
        make, most = _IN_ORDER[stem]
        return make(*settings) if len(settings) <= most else None
    if stem in _BY_LAYERS and len(settings) in (0, 2):
        gain, percent = settings or (1.75, 25.0)
        if not 0 < percent <= 100:
            raise ValueError(
                f"policy {name!r}: the share of layers is a percentage above 0 and up to 100, got {percent:g}"
            )
        return _BY_LAYERS[stem](gain, percent / 100)
    return None


def _gated(name: str) -> Policy:
    """`GATE:POLICY`, as if-confident:uniform-1.5; GATE-THRESHOLD where the gate has one. Raises ValueError."""
    stem, _, rest = name.partition(":")
    inner = policy_named(rest)
    if inner is None:
        raise ValueError(f"policy {name!r}: behind the gate need a policy of gains such as uniform-1.5, got {rest!r}")
    match = re.fullmatch(f"(.+?)(?:-{_NUMBER})?", stem)
    found = None if match is None else gate(match[1], inner, None if match[2] is None else float(match[2]))
    if found is None:
        raise ValueError(
            f"policy {name!r}: need a gate if-confident, if-disagrees, if-conflict, if-relevant or if-effect (with -THRESHOLD: "
            f"if-confident, if-conflict, if-effect), got {stem!r}"
        )
    if found.confident is not None and found.confident >= 1:
        raise ValueError(f"policy {name!r}: the gate's threshold is a probability below 1, got {found.confident:g}")
    return found


def _per_layer(name: str) -> PerLayer:
    """`layers-1.5x8_1x22`: gain 1.5 at the first 8 layers, 1 at the next 22. Raises ValueError."""
    runs = [re.fullmatch(f"{_NUMBER}x([0-9]+)", run) for run in name.removeprefix("layers-").split("_")]
    gains: list[float] = []
    for run in runs:
        if run is None or not 0 < int(run[2]) <= MOST_LAYERS - len(gains):
            raise ValueError(
                f"policy {name[:60]!r}: need gains as GAINxCOUNT joined by _, such as layers-1.5x8_1x22, for at most "
                f"{MOST_LAYERS} layers"
            )
        gains += [float(run[1])] * int(run[2])
    return PerLayer(tuple(gains))
