"""The terms of the report, each with a definition of one or two sentences; the page, its notebook form and docs print it.

python -m override_gap.reports.glossary > docs/glossary.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

from override_gap.margins.text import escape_control_characters

DOCS_HEAD = """# Glossary
What the words of the reports and of these pages mean, for a reader who has not read the papers. The page of a run shows the
same definitions where a term stands. Formulas: [definitions](definitions.md).

| term | meaning |
|---|---|
"""


@dataclass(frozen=True)
class Term:
    """A word of the field as it is used here; `forms` are the spellings that are explained where they stand in a sentence."""

    name: str
    meaning: str
    forms: tuple[str, ...] = ()

    @property
    def spellings(self) -> tuple[str, ...]:
        """The name and its other forms."""
        return (self.name, *self.forms)


TERMS = (
    Term(
        "adapter",
        "A small change of a model's weights, made from one document. Added to the model, it should make the model answer as "
        "if it had read that document.",
        ("adapters",),
    ),
    Term(
        "base",
        "The model without any adapter.",
        ("base model", "the base"),
    ),
    Term(
        "conflict",
        "A question whose document gives another answer than the one that the model holds.",
        ("conflicts",),
    ),
    Term(
        "known conflict",
        "A conflict whose old answer the model really gives: it is the first token that the base model says.",
        ("known conflicts", "known ones"),
    ),
    Term(
        "overridden",
        "The document's answer replaced the old one: the model's most likely next token is the document's, at the first "
        "token where the two answers differ (top1).",
        ("override", "overrides"),
    ),
    Term(
        "repaired",
        "At some gain that leaves the model intact (KL below 1 nat per token) the document's answer comes first, and the adapter "
        "raised it more than nearly all other answers: it holds the answer and does not only lower the old one.",
        ("repairs",),
    ),
    Term(
        "new fact",
        "A question about something that the model cannot know, since only the document says it (split novel). It shows "
        "whether the adapters carry their documents at all.",
        ("new facts", "novel"),
    ),
    Term(
        "unrelated answers kept",
        "The share of questions that have nothing to do with the document and are still answered as the base model answers "
        "them (split retention): what the adapter does not damage.",
        ("unrelated answers", "unrelated questions", "retention"),
    ),
    Term(
        "knowledge point",
        "One fact, asked in one or several questions. Its questions rise and fall together, so intervals count facts, not "
        "questions.",
        ("knowledge points", "fact", "facts"),
    ),
    Term(
        "relation",
        "A kind of fact, such as capital of. Facts of one relation are alike, so intervals allow for it where items name it.",
        ("relations",),
    ),
    Term(
        "as delivered",
        "The adapter as its method ships it: gain 1 at every layer.",
    ),
    Term(
        "gain",
        "The number that an adapter is multiplied by before it is added to the model: 0 is the base model, 1 the adapter as "
        "delivered, 1.5 one and a half times as strong.",
        ("gains", "another gain", "scale", "scaling"),
    ),
    Term(
        "policy",
        "A rule that says which gain each layer gets, for every question or question by question.",
        ("policies",),
    ),
    Term(
        "uniform",
        "The policy that gives every layer the same gain: uniform-1.5 is gain 1.5 everywhere.",
    ),
    Term(
        "slb",
        "Selective Layer Boosting: a gain of 1.75 at the quarter of layers where the adapter is largest, 1 elsewhere.",
    ),
    Term(
        "ca",
        "Conflict-Aware Internalization: a gain of 2 at a third of the layers on questions where the base model is sure and "
        "disagrees with the document.",
    ),
    Term(
        "known",
        "The base model's first answer token is that of the old answer.",
    ),
    Term(
        "margin",
        "How far one answer's score lies above another's, in nats: the difference of their logits at the first token where the "
        "answers differ.",
        ("margins",),
    ),
    Term(
        "prior margin",
        "How strongly the base model prefers its old answer to the document's, in nats.",
        ("prior margins",),
    ),
    Term(
        "adapter margin",
        "How far the adapter moves the model towards the document's answer and away from the old one, in nats. The document "
        "wins where it exceeds the prior margin.",
        ("adapter margins",),
    ),
    Term(
        "net margin",
        "Adapter margin minus prior margin: above zero the document's answer beats the old one.",
        ("net margins",),
    ),
    Term(
        "prior strength",
        "The log-probability that the base model gives to its old answer: the more firmly a fact is held, the nearer to 0.",
        ("firmly held", "weakly held"),
    ),
    Term(
        "nats",
        "The unit of logits and log-probabilities with the natural logarithm: a margin of 0.69 nats means twice as likely.",
        ("nat",),
    ),
    Term(
        "KL",
        "How far the model's next-token probabilities moved away from the base model's (Kullback-Leibler divergence, nats per "
        "token), read on unrelated questions: 0 is no change.",
    ),
    Term(
        "interval",
        "The brackets hold 95% intervals: the values that the data do not exclude. They count facts rather than questions, "
        "and relations where the items name them, whichever is wider.",
        ("intervals", "brackets"),
    ),
    Term(
        "magnitude",
        "Verdict: nearly all failures are repaired by another gain, so the adapters point the right way and have the wrong "
        "size (the 95% interval of the share repaired lies above 2/3).",
    ),
    Term(
        "representational",
        "Verdict: few failures are repaired at any gain that leaves the model intact, so the adapters do not carry the answer "
        "(the interval lies below 1/3).",
    ),
    Term(
        "mixed",
        "Verdict: some failures are repaired by another gain and some by none.",
    ),
    Term(
        "no-failure",
        "Verdict: there is little to repair. Surely less than 20% of known conflicts fail as delivered.",
    ),
    Term(
        "inconclusive",
        "Verdict: too little was measured, or the interval is too wide, for any of the other labels; or the method has no gain "
        "to vary.",
    ),
    Term(
        "out of fold",
        "Judged on facts that took no part in choosing the policy, so that the choice does not flatter itself.",
        ("held out",),
    ),
    Term(
        "budget",
        "What a policy may cost: a least share of unrelated answers kept, or a largest KL there.",
    ),
    Term(
        "organism",
        "A small language model that comes with this tool. It was trained on made-up facts whose frequency in training is known "
        "exactly, so that the tool can be checked on it.",
    ),
    Term(
        "smollm2",
        "SmolLM2-135M, a small public language model trained on English text.",
    ),
    Term(
        "hypernetwork",
        "A network that turns a document into an adapter in one pass.",
        ("hypernetworks",),
    ),
    Term(
        "fitted",
        "Adapters that are trained on each document by gradient steps, instead of being made by a hypernetwork.",
    ),
    Term(
        "rank-one",
        "Adapters that change one layer by one product of two vectors, computed in closed form (after ROME).",
    ),
    Term(
        "hypothesis",
        "A claim with a rule, fixed beforehand, that says which result supports it and which refutes it.",
        ("hypotheses",),
    ),
)
"""In the order in which a reader meets them."""

SHIPPED = ("organism", "smollm2", "hypernetwork", "fitted", "rank-one")
"""Names of models and methods that are this tool's own, and are explained where they stand."""
MEANINGS = {spelling.lower(): term for term in TERMS for spelling in term.spellings}
_SPELLINGS = re.compile(
    rf"(?<![\w-])({'|'.join(re.escape(form) for form in sorted(MEANINGS, key=len, reverse=True))})(?![\w-])",
    re.IGNORECASE,
)


def explained(text: str, seen: set[str] | None = None, only: Iterable[str] | None = None) -> Markup:
    """`text` escaped, with the first mention of each term as an element that shows its definition on hover, focus and tap.

    `seen` holds the names of terms that are explained already and is added to; `only` names the terms to explain (default:
    all). Text of others, such as an adapter's name, belongs in `untrusted` instead: its words are not the page's.
    """
    text = escape_control_characters(text)
    seen = set() if seen is None else seen
    wanted = None if only is None else set(only)

    parts, place = [], 0
    for match in _SPELLINGS.finditer(text):
        term = MEANINGS[match.group().lower()]
        if term.name in seen or (wanted is not None and term.name not in wanted):
            continue
        seen.add(term.name)
        parts += [escape(text[place : match.start()]), _element(match.group(), term)]
        place = match.end()
    return Markup("").join([*parts, escape(text[place:])])


def _element(shown: str, term: Term) -> Markup:
    """The word with its definition beside it; the definition is hidden until the word is pointed at or has the focus."""
    return Markup(
        '<span class="term" tabindex="0">{}<span class="meaning" role="note"><b>{}</b>: {}</span></span>'
    ).format(shown, term.name, term.meaning)


def as_markdown() -> str:
    """The glossary as a page of docs."""
    return DOCS_HEAD + "".join(f"| {term.name} | {term.meaning} |\n" for term in TERMS)


if __name__ == "__main__":
    from override_gap.reports.cli._say import say_text

    say_text(as_markdown().rstrip("\n"))
