"""Conditions by name: `slb` is TopNorm(1.75, 25%), `slb-2.0-33` the same policy with other settings."""

from __future__ import annotations

import difflib
import re
from decimal import Decimal

from override_gap.margins.condition_names import (
    BASE,
    COMBINED,
    CONTESTED,
    CONTESTED_BASE,
    DELIVERED,
    HEDGES,
    JOINED_MEAN,
    MEANING,
    expand,
    robustness_family,
)
from override_gap.margins.conditions import (
    CONTEST,
    IN_CONTEXT,
    PROMPTS,
    AsDelivered,
    Base,
    Combined,
    Condition,
    Contested,
    InContext,
    Joined,
    LogitFusion,
    NullMean,
    NullOther,
    NullRandom,
    Reworded,
    Scaled,
)
from override_gap.margins.gain_policies import Uniform
from override_gap.margins.gain_policies.by_name import policy_named


def parse_conditions(names: str) -> tuple[Condition, ...]:
    """Conditions from a comma-separated list, the base and as-delivered always first, each once.

    Raises ValueError naming the nearest known name.
    """
    conditions: dict[str, Condition] = {}
    for word in filter(None, (part.strip() for part in names.split(","))):
        for name in expand(word):
            condition = parse_condition(name)
            if conditions.setdefault(condition.name, condition) != condition:
                raise ValueError(f"--policies {name!r}: another condition has the name {condition.name!r} already")
    if not conditions.keys() - {BASE}:
        raise ValueError(f"--policies {names!r} names none beside the base; need at least as-delivered")
    # what every policy is compared with is always measured
    beside = {name: parse_condition(name) for condition in conditions.values() for name in condition.beside}
    return tuple({BASE: Base(), DELIVERED: AsDelivered(), **conditions, **beside}.values())


_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"


#: Letters of a name; gains layer by layer take more.
LONGEST, LONGEST_BY_LAYER = 60, 2000


def parse_condition(name: str) -> Condition:
    """One condition by its name. Raises ValueError naming the nearest known name."""
    by_layer = name.startswith("layers-") or ":layers-" in name
    # a search can end at gain 4096 and ask for the next; layers are counted in the name
    most = 10_000 if name.startswith("uniform-") else 1000 if by_layer else 100
    long = len(name) > (LONGEST_BY_LAYER if by_layer else LONGEST)
    if long or any(float(number) > most for number in re.findall(r"[0-9]+(?:\.[0-9]+)?", name)):
        what = "the name is too long" if long else f"a setting is above {most}, the largest allowed"
        raise ValueError(f"policy {name[:60]!r}: {what}")
    fixed: dict[str, Condition] = {
        BASE: Base(),
        DELIVERED: AsDelivered(),
        **{stem: InContext(stem, prompt) for stem, prompt in PROMPTS.items()},
        **{stem: Reworded(stem, wording) for stem, wording in HEDGES.items()},
        COMBINED: Combined(),
        CONTESTED: Contested(),
        CONTESTED_BASE: InContext(CONTESTED_BASE, CONTEST),
        **{null.name: null for null in (NullOther(), NullMean(), NullRandom())},
        "logit-fusion": LogitFusion("logit-fusion-1.5"),
    }
    condition = fixed.get(name) or _counted(name) or _with_settings(name)
    if condition is not None:
        return condition
    near = difflib.get_close_matches(name, MEANING, n=1, cutoff=0.3)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(f"unknown policy {name!r}{hint} Known: {', '.join(MEANING)}")


def _counted(name: str) -> Condition | None:
    """A condition with a number of documents or of repetitions in its name."""
    family, count = robustness_family(name) or ("", 0)
    if family == "joined":
        return Joined(name, count)
    if family == JOINED_MEAN:
        return Joined(name, count, mean=True)
    if family == "in-context-joined":
        return InContext(name, IN_CONTEXT, count)
    if family == "stated":
        return Reworded(name, " ".join(["{document}"] * count))
    return None


def _with_settings(name: str) -> Condition | None:
    """A policy with other settings than the default ones, which stand in its name."""
    if match := re.fullmatch(f"uniform-{_NUMBER}", name):
        gain = float(match[1])
        if gain in (0.0, 1.0):
            return Base() if gain == 0 else AsDelivered()
        return Scaled(f"uniform-{_digits(gain)}", Uniform(gain))
    if match := re.fullmatch(f"logit-fusion-{_NUMBER}", name):
        return LogitFusion(f"logit-fusion-{_digits(float(match[1]))}", float(match[1]))
    policy = policy_named(name)
    return None if policy is None else Scaled(name, policy)


def _digits(gain: float) -> str:
    """A gain as a name has it: every digit that tells it from other numbers, so that no two gains share a name."""
    return f"{Decimal(repr(gain)):f}".removesuffix(".0")
