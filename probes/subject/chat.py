"""Chat: a question put through a chat template, up to where the template itself puts the assistant's answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from jinja2 import TemplateSyntaxError

from override_gap.margins.items.item import ItemError
from override_gap.probes.subject.chat_template import ChatSettings, dated, template_text
from override_gap.probes.subject.template_limits import BYTES, LONGEST, SECONDS, TemplateTooLong, has_powers, limited

Begins = Literal["assistant turn", "generation prompt"]
Turns = Sequence[Mapping[str, Any]]
#: Answers that are put into the assistant's turn to see what the template writes before them; two, since one that a
#: template alters is still found where the two texts first differ.
MARKERS = ("Zanzibar", "Quito")
_THOUGHT = re.compile(
    r"(?:(?P<close></|<\|END_|\[/)|<\|START_|<\|?|\[)(?:[\w:]*think(?:ing)?|thought|reasoning)(?:\|?>|\])", re.I
)


@dataclass(frozen=True)
class ChatPrompt:
    """All that stands before an answer, and how its end was found.

    `begins`: "assistant turn" where it is what the template writes before the assistant's content, "generation prompt" where
    it is the template's prompt for an answer. `opening` is its part after the question. `system` tells where the system text
    stands, None without one. `opens_thought`: the generation prompt ends within a thought.
    """

    text: str
    begins: Begins
    opening: str
    system: Literal["system turn", "user turn"] | None
    opens_thought: bool


def chat_prompt(tokenizer: Any, question: str, settings: ChatSettings | None = None) -> ChatPrompt:
    """The question as the user's turn of a chat template, up to where the assistant's answer begins.

    A template's generation prompt need not be the place: Llama-2's and Mistral's write a space between it and the answer,
    gpt-oss's a channel, Qwen3's an empty thought. So the assistant's turn is rendered, and what stands before its content is
    taken. The generation prompt is right only where it writes more than the assistant's turn (a thought closed by
    `enable_thinking=false`, which the turns of a history do not have), unless what it writes opens a thought, in which no
    answer stands.

    Raises ItemError where there is no template, or where it refuses the turns or leaves the question or the system text out.
    """
    settings = settings or ChatSettings()
    render = partial(_render, tokenizer, dated(template_text(tokenizer, settings), settings.day), settings)
    turns, place = _user_turns(render, question, settings.system)
    generation = render(turns, add_generation_prompt=True)
    before = _before_content(render, turns, generation)
    text, begins = _beginning(generation, before, question.strip())
    tail = _after(generation, question.strip())
    return ChatPrompt(text, begins, _after(text, question.strip()), place, opens_thought(tail))


def opens_thought(text: str) -> bool:
    """Whether a text ends within a thought: the last of its tags for one (<think>, [THINK] ...) opens it."""
    tags = list(_THOUGHT.finditer(text))
    return bool(tags) and tags[-1]["close"] is None


def _render(
    tokenizer: Any, template: str, settings: ChatSettings, turns: Turns, add_generation_prompt: bool = False
) -> str:
    """The turns as one text. Raises ItemError, one line."""
    try:
        if has_powers(template):
            raise ItemError("the subject's chat template raises a number to a power (**); give --chat-template FILE")
        with limited():
            text = tokenizer.apply_chat_template(
                [dict(turn) for turn in turns],
                chat_template=template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **settings.args,
            )
    except TemplateSyntaxError as fault:
        raise ItemError(f"the chat template is not a Jinja template: line {fault.lineno}: {fault.message}") from fault
    except ItemError:
        raise
    except TemplateTooLong as fault:
        raise ItemError(
            f"the subject's chat template computes for more than {SECONDS:.0f} s; give --chat-template FILE"
        ) from fault
    except MemoryError as fault:
        raise ItemError(
            f"the subject's chat template takes more than {BYTES:,} bytes; give --chat-template FILE"
        ) from fault
    except Exception as fault:  # a template is a program of its own: it can raise anything
        reason = " ".join(str(fault).split())[:200] or type(fault).__name__
        raise ItemError(f"the subject's chat template refuses the turns: {reason}") from fault
    if len(text) > LONGEST + 8 * len(str(turns)):
        raise ItemError(f"the subject's chat template writes {len(text):,} characters; give --chat-template FILE")
    return text


def _user_turns(
    render: Callable[..., str], question: str, system: str | None
) -> tuple[Turns, Literal["system turn", "user turn"] | None]:
    """The turns before the answer, and where the system text stands.

    Where a template refuses a system turn or leaves it out, its text goes before the question, a blank line between: so do
    the templates of Gemma 3 and of Mistral 0.3, whose families know no system turn.
    """
    if system is None:
        return _asking(render, [], question), None
    try:
        turns = _asking(render, [("system", system)], question)
        text = render(turns, add_generation_prompt=True)
        # a template of two roles may write whatever is not the user's as an answer of the assistant's
        others = [
            render(turns[1:], add_generation_prompt=True),
            _rendered(render, [_as_assistant(turns[0]), *turns[1:]]),
        ]
        if system.strip() in text and text not in others:
            return turns, "system turn"
    except ItemError:
        pass
    turns = _asking(render, [], f"{system}\n\n{question}")
    if system.strip() not in render(turns, add_generation_prompt=True):
        raise ItemError("--system-prompt: the subject's chat template leaves the text out")
    return turns, "user turn"


def _as_assistant(turn: Mapping[str, Any]) -> dict[str, Any]:
    return {**turn, "role": "assistant"}


def _rendered(render: Callable[..., str], turns: Turns) -> str | None:
    """The prompt for an answer to some turns; None where the template refuses them."""
    try:
        return render(turns, add_generation_prompt=True)
    except ItemError:
        return None


def _asking(render: Callable[..., str], before: Sequence[tuple[str, str]], question: str) -> Turns:
    """Turns that end with the user's question, their content as text, or as a list of parts where the template needs that.

    Raises ItemError where the template writes the same whatever the question is.
    """

    def turns(asked: str, *, parts: bool) -> Turns:
        texts = [*before, ("user", asked)]
        return [{"role": r, "content": [{"type": "text", "text": t}] if parts else t} for r, t in texts]

    plain = turns(question, parts=False)
    fault: ItemError | None = None
    try:
        text = render(plain, add_generation_prompt=True)
        if question.strip() in text:
            return plain
    except ItemError as refused:
        text, fault = "", refused
    try:
        in_parts = turns(question, parts=True)
        if question.strip() in render(in_parts, add_generation_prompt=True):
            return in_parts
    except ItemError:
        pass
    if fault is not None:
        raise fault
    if text == render(turns(f"{question} {MARKERS[0]}", parts=False), add_generation_prompt=True):
        raise ItemError("the subject's chat template leaves the question out")
    return plain


def _before_content(render: Callable[..., str], turns: Turns, generation: str) -> str | None:
    """What a template writes before the assistant's content; None where it refuses the turn or leaves the content out."""
    parts = not isinstance(turns[-1]["content"], str)
    texts = []
    for marker in MARKERS:
        while marker in generation:
            marker += marker[-1]
        content = [{"type": "text", "text": marker}] if parts else marker
        answer = {"role": "assistant", "content": content}
        try:
            # some templates refuse a conversation that ends with the assistant
            text = _first_rendering(render, [[*turns, answer], [*turns, answer, turns[-1]]])
        except ItemError:
            return None
        if marker in text:
            return text[: text.index(marker)]
        texts.append(text)
    return _shared(*texts) if texts[0] != texts[1] else None


def _first_rendering(render: Callable[..., str], conversations: Sequence[Turns]) -> str:
    """The first of several conversations that a template accepts. Raises the first one's ItemError where it accepts none."""
    faults = []
    for turns in conversations:
        try:
            return render(turns)
        except ItemError as fault:
            faults.append(fault)
    raise faults[0]


def _beginning(generation: str, before: str | None, question: str) -> tuple[str, Begins]:
    """The text before the answer, from the generation prompt and from what stands before the assistant's content."""
    if before is None or (question in generation and question not in before):
        return generation, "generation prompt"
    shared = _shared(generation, before)
    prompted, written = generation[len(shared) :], before[len(shared) :]
    if prompted and len(shared) < generation.rfind(question) + len(question):
        # a last turn may be written otherwise than one that is answered: Mistral's has the system text; only what
        # follows the question is the answer's
        at, tail = generation.rfind(question), _after(before, question)
        if at < 0:
            return generation, "generation prompt"
        head, own_tail = generation[: at + len(question)], generation[at + len(question) :]
        shared = _shared(own_tail, tail)
        prompted, written, before = own_tail[len(shared) :], tail[len(shared) :], head + tail
    if prompted.strip() and not written.strip() and not opens_thought(_after(generation, question)):
        return generation, "generation prompt"
    return before, "assistant turn"


def _shared(left: str, right: str) -> str:
    """The beginning that two texts share."""
    pairs = enumerate(zip(left, right, strict=False))
    return left[: next((n for n, (a, b) in pairs if a != b), min(len(left), len(right)))]


def _after(text: str, question: str) -> str:
    """What follows the question, all of the text where it is not there."""
    at = text.rfind(question)
    return text if at < 0 else text[at + len(question) :]
