"""The tokens that a method read, against those that the subject's tokenizer gives the same texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from override_gap.margins.adapter import NativeExample
from override_gap.margins.items.item import ItemError
from override_gap.margins.text import plural
from override_gap.probes.run.checks import Check
from override_gap.probes.subject.model import Subject


def check_tokens(subject: Subject, examples: Sequence[NativeExample]) -> Check:
    """Whether the method read its texts as the subject's tokenizer gives them: plain, with its special tokens or in chat.

    Other tokens are told (passed is None) and compared all the same, since a method may put a text into a template of its
    own; ids that are in no vocabulary of this model, and texts without any, fail.
    """
    size = len(subject.model.get_input_embeddings().weight)
    for example in examples:
        outside = next((token for token in example.ids if not 0 <= token < size), None)
        if outside is not None or not example.ids:
            came = "no token" if outside is None else f"token {outside}, and this model has {size}"
            return Check("tokens", False, f"the method's text {example.text[:40]!r} has {came}: was it another model?")
    differing = [example for example in examples if example.ids not in _readings(subject, example.text)]
    texts = plural(len(examples), "text")
    if not differing:
        return Check("tokens", True, f"{texts} of the method's, each with the tokens that it has here")
    first, here = differing[0], tuple(subject.tokenize(differing[0].text))
    at = next(
        (n for n, (a, b) in enumerate(zip(first.ids, here, strict=False)) if a != b), min(len(first.ids), len(here))
    )
    return Check(
        "tokens",
        None,
        f"{len(differing)} of {texts} of the method's have other tokens here: {first.text[:40]!r} has {len(first.ids)} there and "
        f"{len(here)} here, from position {at} on; the method has another template or tokenizer, and its own tokens are compared",
    )


def _readings(subject: Subject, text: str) -> Iterator[tuple[int, ...]]:
    """The ways in which the subject reads a text."""
    yield tuple(subject.tokenize(text))
    yield tuple(subject.tokenize(text, special=False))
    if getattr(subject.tokenizer, "chat_template", None):
        try:
            yield tuple(subject.tokenize(subject.chat_prompt(text), special=False))
        except ItemError:
            return
