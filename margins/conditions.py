"""Conditions by name: `slb` is TopNorm(1.75, 25%), `slb-2.0-33` the same policy with other settings."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from override_gap.margins.policies import (
    BottomNorm,
    ConflictAware,
    MarginMatched,
    Policy,
    RandomLayers,
    RandomMatched,
    RelevanceGate,
    TopNorm,
    Uniform,
)

JOINED = (2, 4, 8)
STATED = (2, 3, 4, 5)
CONTESTED, CONTESTED_BASE = "contested", "contested-base"
#: Statements that do not say what the document says; an override by them would be wrong.
HEDGES = {"hedged": "It is rumoured that {document}", "negated": "It is not true that {document}"}

VARIANTS = {
    "joined": f"the adapters of {', '.join(map(str, JOINED))} documents joined into one; each asked about its own",
    "in-context-joined": f"no adapter: {', '.join(map(str, JOINED))} documents in one prompt",
    "stated": f"the document stated {', '.join(map(str, STATED))} times over, and an adapter made of that",
    "hedged": "an adapter made of 'It is rumoured that' and the document; overriding would be wrong",
    "negated": "an adapter made of 'It is not true that' and the document; overriding would be wrong",
    "contested": "the adapter as delivered, asked a second time after its answer was contradicted",
    "contested-base": "its control: the base behind the same words, which name the answer and could be copied",
}


@dataclass(frozen=True)
class Variant:
    """What a condition is made of: `count` documents, of which the item's own is one; or its own put as `wording`."""

    count: int = 1
    wording: str = "{document}"

    def reworded(self, document: str) -> str:
        """The document in the variant's wording; braces in it stay as they are."""
        return self.wording.replace("{document}", document)


def variant(name: str) -> tuple[str, Variant] | None:
    """The family of a variant's name and what it is made of; None for a policy. Raises ValueError for a count below 2."""
    if name in HEDGES:
        return name, Variant(wording=HEDGES[name])
    if name in (CONTESTED, CONTESTED_BASE):
        return name, Variant()
    found = re.fullmatch(r"(joined|in-context-joined|stated)-([0-9]+)", name)
    if not found:
        return None
    family, count = found[1], int(found[2])
    if not 2 <= count <= 32:
        raise ValueError(
            f"policy {name!r}: the number of {'statements' if family == 'stated' else 'documents'} is 2 to 32"
        )
    if family == "stated":
        return family, Variant(wording=" ".join(["{document}"] * count))
    return family, Variant(count=count)


def sweep(name: str) -> list[str]:
    """The names that a family's bare name means; the name itself for all others."""
    counts = {"joined": JOINED, "in-context-joined": JOINED, "stated": STATED}.get(name, ())
    return [f"{name}-{count}" for count in counts] or [name]


SWEEP = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0)

_BY_LAYERS = {
    "slb": TopNorm,
    "random-layers": RandomLayers,
    "bottom-layers": BottomNorm,
    "random-matched": RandomMatched,
}

PROMPTS = {
    "in-context": "{document}\n{question}",
    "in-context-instructed": (
        "Answer from the text below. It is true, whatever you believed before.\n\n{document}\n\n{question}"
    ),
}

#: A second turn in plain text, since a base model has no turns: the document's answer was given and is contradicted.
CONTEST = "{question} {answer}. No, that is wrong: it is {rival}. {question}"

MEANING = {
    "as-delivered": "gain 1 everywhere: the method as its author ships it",
    "uniform": f"every layer alike; alone it means the sweep {', '.join(f'{g:g}' for g in SWEEP)}",
    "slb": "Selective Layer Boosting: 1.75 at the 25% of layers with the largest norm",
    "ca": "Conflict-Aware: 2.0 at the top 33% of layers where the base is sure and disagrees, else as delivered",
    "ca-slb": "Conflict-Aware, else slb",
    "random-layers": "control: 1.75 at 25% of layers drawn at random",
    "bottom-layers": "control: 1.75 at the 25% of layers with the smallest norm",
    "random-matched": "control: random layers, with the norm that slb adds",
    "relevance-gate": "gain 0 where the question shares hardly a word with the document, else as delivered",
    "margin-matched": "the least gain predicted to flip the item with 2 nats to spare; uses both margins",
    "logit-fusion": "base + gain * (adapted - base) on the logits: amplitude that touches no weight (default 1.5)",
    "in-context": "no adapter: the document in the prompt, before the question",
    "in-context-instructed": "no adapter: the document in the prompt, with the instruction to trust it",
    **VARIANTS,
}


@dataclass(frozen=True)
class Condition:
    """A way to run the model: `policy` sets an adapter's gains, `fusion` mixes logits, `prompt` puts the document
    in front of the question, without a policy with no adapter in the weights; none of them is the base. `variant`
    changes what the adapter or the prompt is made of."""

    name: str
    policy: Policy | None = None
    fusion: float | None = None
    prompt: str | None = None
    variant: Variant | None = None


BASE = Condition("base")


def parse_conditions(names: str) -> tuple[Condition, ...]:
    """Conditions from a comma-separated list, the base always first, each once.

    Raises ValueError naming the nearest known name.
    """
    found: dict[str, Condition] = {"base": BASE}
    for name in filter(None, (part.strip() for part in names.split(","))):
        for condition in _expand(name):
            found.setdefault(condition.name, condition)
    if len(found) == 1:
        raise ValueError(f"--policies {names!r} names none beside the base; need at least as-delivered")
    # what every policy is compared with is always measured
    delivered = {"base": BASE, "as-delivered": Condition("as-delivered", Uniform(1.0))}
    return tuple({**delivered, **found}.values())


def needs_amplitude(condition: Condition) -> bool:
    """Whether a condition sets gains other than 0 and 1, which a method that is no update of the weights cannot follow."""
    return condition.policy is not None and condition.policy not in (Uniform(1.0), RelevanceGate())


def needs_update(condition: Condition) -> bool:
    """Whether a condition joins adapters by their ranks or puts a prompt before an adapted model: both take updates."""
    several = condition.variant is not None and condition.variant.count > 1
    return condition.policy is not None and (several or condition.prompt is not None)


def _expand(name: str) -> list[Condition]:
    if name == "base":
        return [BASE]
    if name == "uniform":
        return [Condition(f"uniform-{gain:g}", Uniform(gain)) for gain in SWEEP]
    return [_condition(each) for each in sweep(name)]


def _condition(name: str) -> Condition:
    if len(name) > 60 or any(float(number) > 100 for number in re.findall(r"[0-9]+(?:\.[0-9]+)?", name)):
        raise ValueError(f"policy {name[:60]!r}: no setting of a policy is above 100")
    fixed: dict[str, Policy] = {
        "as-delivered": Uniform(1.0),
        "ca": ConflictAware(),
        "ca-slb": ConflictAware(otherwise=TopNorm()),
        "relevance-gate": RelevanceGate(),
        "margin-matched": MarginMatched(),
        **{stem: make() for stem, make in _BY_LAYERS.items()},
    }
    if name in fixed:
        return Condition(name, fixed[name])
    if made := variant(name):
        if name == CONTESTED_BASE:
            return Condition(name, prompt=CONTEST, variant=made[1])
        if name == CONTESTED:
            return Condition(name, Uniform(1.0), prompt=CONTEST, variant=made[1])
        if made[0] == "in-context-joined":
            return Condition(name, prompt=PROMPTS["in-context"], variant=made[1])
        return Condition(name, Uniform(1.0), variant=made[1])
    if name in PROMPTS:
        return Condition(name, prompt=PROMPTS[name])
    if name == "logit-fusion":
        return Condition("logit-fusion-1.5", fusion=1.5)
    number = r"([0-9]+(?:\.[0-9]+)?)"
    if found := re.fullmatch(f"uniform-{number}", name):
        gain = float(found[1])
        if gain in (0.0, 1.0):
            return BASE if gain == 0 else Condition("as-delivered", Uniform(1.0))
        return Condition(f"uniform-{gain!r}".removesuffix(".0"), Uniform(gain))
    if found := re.fullmatch(f"logit-fusion-{number}", name):
        return Condition(f"logit-fusion-{float(found[1]):g}", fusion=float(found[1]))
    if found := re.fullmatch(f"margin-matched-{number}", name):
        return Condition(name, MarginMatched(float(found[1])))
    if (found := re.fullmatch(f"(.+)-{number}-{number}", name)) and found[1] in _BY_LAYERS:
        share = float(found[3]) / 100
        if not 0 < share <= 1:
            raise ValueError(
                f"policy {name!r}: the share of layers is a percentage above 0 and up to 100, got {found[3]}"
            )
        return Condition(name, _BY_LAYERS[found[1]](float(found[2]), share))
    near = difflib.get_close_matches(name, MEANING, n=1, cutoff=0.3)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(f"unknown policy {name!r}{hint} Known: {', '.join(MEANING)}")
