"""Questions behind one template: readings of the base where its keys and values are shared, against whole rows."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bench import kit
from benchmarks.bench.clock import in_turn
from benchmarks.bench.record import Line
from override_gap.probes.readings.adapted import read_base
from override_gap.probes.readings.layers import read_layers
from override_gap.probes.readings.prior import read_prior
from override_gap.probes.subject.model import Subject

TITLE = "Questions behind one template"
LIMITS = (
    "Prior, margin, attribution and lens of the base, on conflicts behind 64 tokens that all have in common, as an instruct "
    "model's template is: run once per batch, and its keys and values repeated. What is left is the questions' own tokens, "
    "their attention to the template, and the logits, which are as many on both sides. A pass under adapters, one per "
    "document, cannot share: an adapter changes the template's keys and values as well. So an audit gains this in the base's "
    "pass alone; `--reference` shares nothing."
)
SUBJECTS = ("smollm2",)
COUNT, PREFIX = 64, 64
WORDS = (
    "You are asked short questions about the world, one at a time. Give the answer alone, in as few words as it takes, without "
    "an explanation and without repeating the question. Where a text was given before, go by what the text says, even where it "
    "differs from what you have read elsewhere. Where you do not know the answer, give the likeliest one. "
)


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row."""
    ours = kit.subject(subject)
    tokens = ours.tokenizer(WORDS, add_special_tokens=False)["input_ids"][:PREFIX]
    begin = ours.tokenizer.decode(tokens)
    items = [replace(item, question=f"{begin} {item.question}") for item in kit.questions(subject, COUNT)]
    parts = kit.parts(ours, items)
    timed = in_turn(
        {
            "shared": lambda: [readings(ours, part, share=True) for part in parts],
            "whole": lambda: [readings(ours, part, share=False) for part in parts],
        },
        repeats,
    )
    lengths = [len(place.fed) for part in parts for place in part.places]
    line = Line(
        "base readings of all layers, speed-up",
        "the same without sharing",
        timed.ratio("whole", "shared"),
        goal=("at least", 1.5),
        seconds={name: timed.median(name) for name in timed.seconds},
    )
    return [line], {"conflicts": len(items), "template tokens": len(tokens), "mean tokens": sum(lengths) / len(lengths)}


def readings(subject: Subject, part: kit.Part, share: bool) -> None:
    """All readings of the base on one batch."""
    prior = read_prior(subject, part.items, part.places, layers=True, share=share)
    read_layers(subject, prior, read_base(prior, subject))
