"""Generation: greedy answers under per-example adapters, and whether an answer names what it should."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from margins.items import Item
from probes.attach import Stack, attached
from probes.subject import Subject, pad

NEW_TOKENS = 64


@torch.no_grad()
def generate(
    subject: Subject,
    items: Sequence[Item],
    adapters: Stack | None = None,
    gains: Float[Tensor, "batch layer"] | None = None,
    new_tokens: int = NEW_TOKENS,
) -> list[str]:
    """Greedy continuations of the questions, one batch padded on the left, special tokens left out."""
    if adapters is not None and gains is not None:
        with attached(subject, adapters, gains):
            return generate(subject, items, new_tokens=new_tokens)
    from transformers import GenerationConfig

    prompts = [
        subject.tokenize(subject.templated(i.question), special=False) if i.chat else subject.tokenize(i.question)
        for i in items
    ]
    ids, mask = pad(prompts, "left")
    positions = subject.longest
    if positions is not None and ids.shape[1] + new_tokens > positions:
        new_tokens = max(1, positions - ids.shape[1])
    end = subject.tokenizer.eos_token_id
    stops = subject.model.generation_config.eos_token_id
    out = subject.model.generate(
        input_ids=ids.to(subject.device),
        attention_mask=mask.to(subject.device),
        # a configuration of our own: one shipped with the model may penalise repetition, and that is not greedy
        generation_config=GenerationConfig(
            max_new_tokens=new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=stops if stops is not None else end,
            pad_token_id=end if end is not None else 0,
        ),
    )
    return subject.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)


def first_mention(text: str, forms: Sequence[str]) -> int | None:
    """Where any of the accepted forms first stands in a text as whole words; None where none does.

    Both are compared case-folded and in Unicode's NFKC form.
    """
    found = []
    for form in forms:
        folded = _folded(form.strip())
        left, right = (r"(?<!\w)", r"(?!\w)")
        # scripts written without spaces have no word edges to ask for
        pattern = f"{left if _spaced(folded[:1]) else ''}{re.escape(folded)}{right if _spaced(folded[-1:]) else ''}"
        hit = re.search(pattern, _folded(text)) if form.strip() else None
        if hit:
            found.append(hit.start())
    return min(found, default=None)


def says(text: str, item: Item) -> bool:
    """The measure `answer`: the text holds an accepted form of the document's answer and names the prior's no earlier."""
    doc = first_mention(text, (item.answer, *item.aliases))
    prior = (item.prior_answer, *item.prior_aliases) if item.prior_answer else ()
    pre = first_mention(text, prior)
    return doc is not None and (pre is None or doc < pre)


def says_substring(text: str, item: Item) -> bool:
    """The paper's rule: the document's answer is a substring, whatever else is said."""
    return item.answer.strip().casefold() in text.casefold()


def _spaced(character: str) -> bool:
    """Whether the character's script parts words with spaces: not Chinese, Japanese, Thai, Lao, Khmer or Burmese."""
    name = unicodedata.name(character, "") if character else ""
    return not name.startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
