"""How a run's questions go through the chat template, and whether the model answers where its answers are read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from override_gap.margins.items.item import Item, ItemError
from override_gap.margins.text import plural
from override_gap.probes.readings.prior import locate
from override_gap.probes.subject.chat import ChatPrompt, chat_prompt, opens_thought
from override_gap.probes.subject.chat_template import ChatSettings, prints_date, template_hash, template_text
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.model import Subject
from override_gap.probes.subject.tokens import pad

#: What decides a run's prompts, of the keys of `chat_facts`.
CHAT_IDENTITY = ("template_sha256", "args", "system", "day")
#: Settings by which templates turn thinking off.
SWITCHES = ("enable_thinking", "thinking")
TAG_TOKENS = 12
"""How many tokens are read to see whether an answer begins with a tag that the tokenizer has no token for."""
FEWEST_WITH_WORD = 3
"""Of fewer questions one beginning tells nothing about how a model answers."""
_TAG = re.compile(r"\s*(<[|/]?[\w:.\-]{1,40}\|?>|\[/?[A-Z_]{3,20}\])")


def asked_in_chat(
    subject: Subject, settings: ChatSettings, items: Sequence[Item], *, required: bool
) -> dict[str, Any] | None:
    """The `chat_facts` of some items that are asked in chat; None where there are none, or the template can put none of them.

    Then each of them is an error of its own; but where it is `required`, since all items of a run are asked so, it raises
    ItemError.
    """
    try:
        return chat_facts(subject, settings, items) if items else None
    except ItemError:
        if required:
            raise
        return None


def chat_facts(subject: Subject, settings: ChatSettings, items: Sequence[Item]) -> dict[str, Any]:
    """How a subject is asked through its chat template, as a run's manifest records it.

    `answer_begins` says how the place was found where answers are read, `opening` what stands between question and answer,
    `example` the whole prompt of an item. `first_tokens` counts the items whose answer the model itself begins with a
    special token, a tag or an empty line, and `warnings` says what to change where these are most.

    Raises ItemError where the template can put none of the items.
    """
    subject = replace(subject, chat=settings)
    template = template_text(subject.tokenizer, settings)
    prompts, faults = [], []
    for item in items:
        try:
            prompts.append((item, chat_prompt(subject.tokenizer, item.question, settings)))
        except ItemError as fault:
            faults.append(fault)
    if not prompts:
        raise faults[0]
    begins = first_tokens(subject, items)
    first = prompts[0][1]
    unknown = [name for name in settings.args if name not in template]
    return {
        "template_sha256": template_hash(template),
        "template": "own" if settings.template is None else "replaced",
        "args": dict(settings.args),
        "day": settings.day if prints_date(template) else None,
        "system": first.system,
        "answer_begins": " and ".join(sorted({prompt.begins for _, prompt in prompts})),
        "opening": first.opening,
        "example": first.text,
        "first_tokens": begins,
        "warnings": [
            *(f"--template-arg {name} changes nothing: the template has no such setting" for name in unknown),
            *_warnings(subject, prompts[0][0], [prompt for _, prompt in prompts], begins),
        ],
    }


@torch.no_grad()
def first_tokens(subject: Subject, items: Sequence[Item]) -> dict[str, Any]:
    """How many of some items the base begins to answer with no answer, and what it writes most often there.

    That is a special token, a tag (<think>) or an empty line, unless an answer of the item begins with it too. `begins` is
    None where no item has it. `word` is the token that most often begins an answer and none of its item's named answers
    ("The", where a model answers in sentences), `with_word` the number of those items.
    """
    written: list[str] = []
    words: list[str] = []
    count = 0
    for item in items:
        try:
            place = locate(subject, item)
        except ItemError:
            continue
        count += 1
        start = place.n_question_tokens
        own = {place.tokens[start]} if start < len(place.tokens) else set()
        own |= {place.doc} if place.at < start else set()
        prompt = list(place.tokens[:start])
        first = _next(subject, prompt)
        if first in own:
            continue
        beginning = _no_answer(subject, prompt, first)
        if beginning is None:
            words.append(subject.tokenizer.decode([first]))
        else:
            written.append(beginning)
    common, word = Counter(written).most_common(1), Counter(words).most_common(1)
    return {
        "asked": count,
        "no_answer": len(written),
        "begins": common[0][0] if common else None,
        "word": word[0][0] if word else None,
        "with_word": word[0][1] if word else 0,
    }


def _no_answer(subject: Subject, ids: list[int], first: int) -> str | None:
    """What the base writes after a prompt, from its first token on, where that is no answer; None where it may be one."""
    tokenizer = subject.tokenizer
    text = tokenizer.decode([first])
    if not text:
        return f"token {first}"  # one that the tokenizer has no text for
    if first in tokenizer.all_special_ids or (first in tokenizer.added_tokens_decoder and _TAG.fullmatch(text)):
        return text
    written = [first]
    # a tag may be several tokens, and a space or a line may stand before it
    while len(written) < TAG_TOKENS and (not text.strip() or text.strip()[0] in "<["):
        tag = _TAG.match(text)
        if tag:
            return tag[1]
        written.append(_next(subject, ids + written))
        text = tokenizer.decode(written)
    return None if tokenizer.decode([first]).strip() else tokenizer.decode([first])


def _next(subject: Subject, prompt: Sequence[int]) -> int:
    """The base's arg max after a prompt."""
    ids, mask = (t.to(subject.device) for t in pad([prompt]))
    batch = Batch(ids, mask, mask.sum(1) - 1, torch.zeros_like(mask[:, 0]))
    final = forward(subject, batch, batch.at[:, None]).final[:, 0]
    return int(subject.logits(final).argmax())


def _warnings(subject: Subject, item: Item, prompts: Sequence[ChatPrompt], begins: Mapping[str, Any]) -> list[str]:
    """What is wrong with where answers are read, each with what to change."""
    count, asked = begins["no_answer"], begins["asked"]
    if 2 * count > asked:
        what = f"begins {count} of {plural(asked, 'answer')} with {begins['begins']!r}"
        return [f"{subject.name} {what}, where no answer begins: {_advice(subject, item, begins['begins'])}"]
    if any(prompt.begins == "generation prompt" and prompt.opens_thought for prompt in prompts):
        return [
            f"{subject.name}'s chat template ends the question within a thought, where no answer begins: "
            f"{_advice(subject, item, '')}"
        ]
    if asked >= FEWEST_WITH_WORD and 2 * begins["with_word"] > asked:
        what = f"begins {begins['with_word']} of {plural(asked, 'answer')} with {begins['word']!r}, as none of the named answers"
        return [
            f"{subject.name} {what}: it answers in sentences, but known, margins and top1 are read where the answer alone "
            "would begin; ask for the answer alone (in the questions, or with --system-prompt), or look at answers in words"
        ]
    return []


def _advice(subject: Subject, item: Item, begins: str) -> str:
    """What to change so that the answer begins where it is read: a setting of the template that changes the prompt, if any."""
    now = subject.chat_prompt(item.question)
    for name in SWITCHES:
        if name in subject.chat.args or name not in template_text(subject.tokenizer, subject.chat):
            continue
        off = replace(subject, chat=replace(subject.chat, args={**subject.chat.args, name: False}))
        if off.chat_prompt(item.question) != now:
            return f"add --template-arg {name}=false, or give --chat-template FILE"
    end = (
        f"ends with {begins!r} and what closes it" if opens_thought(begins) else "ends where the model's answer begins"
    )
    return f"give --chat-template FILE, a copy of the template that {end}"
