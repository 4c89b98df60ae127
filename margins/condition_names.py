"""Names of conditions and what each means; no library is loaded for it, so that listing them is quick."""

from __future__ import annotations

import re

BASE, DELIVERED = "base", "as-delivered"
#: The gains that the bare name `uniform` stands for; the one below 1 prices a method that is too strong as delivered.
SWEEP = (0.5, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
#: How many documents `joined` and `in-context-joined` combine, and how often `stated` repeats one.
JOINED = (2, 4, 8)
STATED = (2, 3, 4, 5)
MOST_DOCUMENTS = 32
#: Conditions whose adapters cannot hold the item's answer; what they achieve is not the content of the item's document.
NULL_OTHER, NULL_MEAN, NULL_RANDOM = NULLS = ("null-other", "null-mean", "null-random")
CONTESTED, CONTESTED_BASE = "contested", "contested-base"
IN_CONTEXT, COMBINED, JOINED_MEAN = "in-context", "combined", "joined-mean"
#: Wordings that do not assert what the document says; an override by them would be wrong.
HEDGES = {"hedged": "It is rumoured that {document}", "negated": "It is not true that {document}"}

ROBUSTNESS_MEANING = {
    "joined": f"the adapters of {', '.join(map(str, JOINED))} documents joined into one; each is asked about its own",
    JOINED_MEAN: f"the factors of {', '.join(map(str, JOINED))} documents averaged, A and B each, then multiplied (DyPRAG)",
    "in-context-joined": f"no adapter: {', '.join(map(str, JOINED))} documents in one prompt",
    "stated": f"an adapter made of the document repeated {', '.join(map(str, STATED))} times",
    "hedged": "an adapter made of 'It is rumoured that' and the document; overriding would be wrong",
    "negated": "an adapter made of 'It is not true that' and the document; overriding would be wrong",
    "contested": "the adapter as delivered, asked a second time after its answer was contradicted",
    "contested-base": "its control: the base after the same words, which name the answer and could be copied",
}
MEANING = {
    "as-delivered": "gain 1 everywhere: the method as its author ships it",
    "uniform": f"the same gain at every layer; alone it means the sweep {', '.join(f'{g:g}' for g in SWEEP)}",
    "slb": "Selective Layer Boosting: gain 1.75 at the 25% of layers with the largest norm",
    "ca": "Conflict-Aware: gain 2.0 at the top 33% of layers where the base is sure and disagrees, else as delivered",
    "ca-slb": "Conflict-Aware, else slb",
    "random-layers": "control: gain 1.75 at 25% of layers drawn at random",
    "bottom-layers": "control: gain 1.75 at the 25% of layers with the smallest norm",
    "random-matched": "control: random layers, with the norm that slb adds",
    "relevance-gate": "gain 0 where the question shares hardly a word with the document, else as delivered",
    "margin-matched": "the least gain predicted to flip the item with 2 nats to spare; uses both margins",
    "effect-gated": (
        "gain by the adapter's own effect on the question, read in one pass more, and by the words that question and document "
        "share; no look at an answer (effect-gated-GAIN-HEADROOM-HIGHEST: 1.5, 4 nats, no bound)"
    ),
    "effect-alone": "control: effect-gated without the words that are shared",
    "overlap-scaled": "control: gain 1.5 times the share of the question's words that the document contains, at most 3",
    "effect-layers": "gain 1.75 at the 25% of layers of largest effect on the question, read by backward passes",
    "least-effect-layers": "control: gain 1.75 at the 25% of layers of least effect on the question",
    "layers": "gains layer by layer: layers-1.5x8_1x22 is 1.5 at the first 8 layers and 1 at the next 22",
    "if-confident": "gate, as if-confident:uniform-1.5: that policy where the base is sure (above 0.5), else as delivered",
    "if-disagrees": "gate: where the base's first token does not begin the document's answer",
    "if-conflict": "gate of ca: where the base is sure and disagrees",
    "if-relevant": "gate: where the question shares words with the document",
    "if-effect": "gate: where the adapter's effect on the question is above 4 nats",
    "logit-fusion": "base + gain * (adapted - base) on the logits: no weight is touched (default gain 1.5)",
    IN_CONTEXT: "no adapter: the document in the prompt, before the question",
    "in-context-instructed": "no adapter: the document in the prompt, with the instruction to trust it",
    COMBINED: "the adapter as delivered and the document in the prompt; in-context is measured beside it",
    NULL_OTHER: "null: another document's adapter, of the same relation where there is one, with another answer",
    NULL_MEAN: "null: the mean adapter of documents about other knowledge points",
    NULL_RANDOM: "null: a random update of the same norm and rank at every weight",
    **ROBUSTNESS_MEANING,
}
_COUNTED = {"joined": JOINED, JOINED_MEAN: JOINED, "in-context-joined": JOINED, "stated": STATED}


def expand(name: str) -> list[str]:
    """The names that the bare name of a family stands for; any other name itself."""
    if name == "uniform":
        return [f"uniform-{gain:g}" for gain in SWEEP]
    return [f"{name}-{count}" for count in _COUNTED.get(name, ())] or [name]


def robustness_family(name: str) -> tuple[str, int] | None:
    """The family and the count of a condition that changes what the adapter or the prompt is made of; None for any other.

    The count is that of the documents or of the repetitions, 1 where there is only the item's own document. Raises
    ValueError for a count outside of 2 to 32.
    """
    if name in HEDGES or name in (CONTESTED, CONTESTED_BASE):
        return name, 1
    match = re.fullmatch(f"({'|'.join(_COUNTED)})-([0-9]+)", name)
    if match is None:
        return None
    family, count = match[1], int(match[2])
    if not 2 <= count <= MOST_DOCUMENTS:
        counted = "statements" if family == "stated" else "documents"
        raise ValueError(f"policy {name!r}: the number of {counted} is 2 to {MOST_DOCUMENTS}")
    return family, count
