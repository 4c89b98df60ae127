"""Chat: an answer begins where the template puts the assistant's content, worked out by hand for known families."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.plan import Plan, PlanError
from override_gap.probes.subject.chat import ChatPrompt, chat_prompt, opens_thought
from override_gap.probes.subject.chat_template import ChatSettings, chat_settings, dated, read_template
from override_gap.probes.subject.load import open_tokenizer
from override_gap.probes.subject.tokens import divergence_of, prompt_ids, tokenize_items
from tests.probes.subject import templates as t

Q = "Where is it?"
OFF = {"enable_thinking": False}


def pieces(template: Any = None, **more: Any) -> PreTrainedTokenizerFast:
    """A tokenizer as Llama-2's: a space is the mark ▁, which is part of the word that follows, and one stands before the text."""
    words, merges = [*"<unk> <s> </s> ▁".split(), *"ParisLyon<>/\n"], []
    for word in "▁Paris ▁Lyon Paris Lyon ▁[INST] ▁[/INST] ▁Where ▁is ▁it? ▁Be ▁brief.".split():
        for end in range(1, len(word)):
            words += [word[:end], word[end]]
            merges.append((word[:end], word[end]))
        words.append(word)
    vocab = {word: n for n, word in enumerate(dict.fromkeys(words))}
    inner = Tokenizer(models.BPE(vocab, list(dict.fromkeys(merges)), unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **more
    )
    tokenizer.chat_template = template
    return tokenizer


def asked(template: Any, system: str | None = None, question: str = Q, **args: Any) -> ChatPrompt:
    return chat_prompt(pieces(template), question, ChatSettings(system=system, args=args, day="2024-07-26"))


BY_HAND = {
    "llama-2": (t.LLAMA_2, {}, f"<s>[INST] {Q} [/INST] ", "assistant turn"),
    "mistral-0.2": (t.MISTRAL_02, {}, f"<s>[INST] {Q} [/INST] ", "assistant turn"),
    "mistral-0.3": (t.MISTRAL_03, {}, f"<s>[INST] {Q}[/INST] ", "assistant turn"),
    "chatml": (t.CHATML, {}, f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n", "assistant turn"),
    "chatml without a prompt": (
        t.CHATML_WITHOUT_PROMPT, {}, f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n", "assistant turn",
    ),
    "qwen-3": (
        t.QWEN_3, {}, f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", "assistant turn",
    ),
    "qwen-3, thinking off": (
        t.QWEN_3, OFF, f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", "assistant turn",
    ),
    "no thought in rendered answers": (
        t.HISTORY_WITHOUT_THOUGHTS, {}, f"<|user|>{Q}\n<|assistant|>", "assistant turn",
    ),
    "no thought in rendered answers, thinking off": (
        t.HISTORY_WITHOUT_THOUGHTS, OFF, f"<|user|>{Q}\n<|assistant|><think>\n\n</think>\n\n", "generation prompt",
    ),
    "deepseek-r1": (t.DEEPSEEK_R1, {}, f"<s><|User|>{Q}<|Assistant|>", "assistant turn"),
    "gemma": (t.GEMMA, {}, f"<s><start_of_turn>user\n{Q}<end_of_turn>\n<start_of_turn>model\n", "assistant turn"),
    "llama-3": (
        t.LLAMA_3, {}, f"<s><|system|>\nToday: 26 Jul 2024\n<|eot|><|user|>\n\n{Q}<|eot|><|assistant|>\n\n", "assistant turn",
    ),
    "gpt-oss": (
        t.GPT_OSS, {}, f"<|start|>user<|message|>{Q}<|end|><|start|>assistant<|channel|>final<|message|>", "assistant turn",
    ),
    "vicuna": (t.WITHOUT_SYSTEM, {}, f"USER: {Q} ASSISTANT: ", "assistant turn"),
    "contents in parts": (t.PARTS, {}, f"user: {Q}\nassistant: ", "assistant turn"),
    "the user has the last word": (t.ENDS_WITH_USER, {}, f"[user]{Q}[assistant] ", "assistant turn"),
    "no answers": (t.ONLY_QUESTIONS, {}, f"Q: {Q} A:", "generation prompt"),
    "generation tags": (t.GENERATION_TAGS, {}, f"<|user|>\n{Q}\n<|assistant|>\n", "assistant turn"),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_an_answer_begins_where_the_template_puts_it(name: str) -> None:
    template, args, text, begins = BY_HAND[name]
    prompt = asked(template, **args)
    assert (prompt.text, prompt.begins) == (text, begins)
    assert prompt.system is None
    assert text.endswith(Q + prompt.opening)


CONTINUED = [
    name for name in BY_HAND if BY_HAND[name][3] == "assistant turn" and "last word" not in name and "parts" not in name
]


@pytest.mark.parametrize("name", CONTINUED)
def test_the_tokens_are_those_of_the_conversation_that_transformers_renders(name: str) -> None:
    template, args, *_ = BY_HAND[name]
    tokenizer = pieces(template)
    item = Item.conflict("It moved to Lyon.", Q, answer="Lyon", prior_answer="Paris", chat=True)
    place = divergence_of(tokenizer, item, ChatSettings(args=args))
    for answer, token in (("Lyon", place.doc), ("Paris", place.pre)):
        turns = [{"role": "user", "content": Q}, {"role": "assistant", "content": answer}]
        ids = tokenizer.apply_chat_template(turns, continue_final_message=True, return_dict=False, **args)
        assert isinstance(ids, list)
        assert ids[: place.at + 1] == list(place.prefix)
        assert ids[place.at + 1] == token
    assert prompt_ids(tokenizer, item, ChatSettings(args=args)) == list(place.tokens[: place.start])


def test_a_space_before_the_answer_is_part_of_its_first_token() -> None:
    tokenizer = pieces(t.LLAMA_2)
    item = Item.conflict("It moved to Lyon.", Q, answer="Lyon", prior_answer="Paris", chat=True)
    place = divergence_of(tokenizer, item)
    assert tokenizer.convert_ids_to_tokens([place.pre or 0, place.doc]) == ["▁Paris", "▁Lyon"]
    assert tokenizer.convert_ids_to_tokens(list(place.tokens))[-2:] == ["▁[/INST]", "▁Paris"]
    assert tokenizer.convert_ids_to_tokens(prompt_ids(tokenizer, item))[-1] == "▁[/INST]"
    assert place.tokens.count(tokenizer.bos_token_id) == 1
    [tokens] = tokenize_items(tokenizer, [item])
    assert (tokens.n_shared, tokens.n_answer) == (0, 1)


def test_a_plain_question_that_ends_with_a_space_is_answered_from_where_it_is_read() -> None:
    tokenizer = pieces()
    item = Item.conflict("It moved to Lyon.", "Where is ", answer="Lyon", prior_answer="Paris")
    assert tokenizer.convert_ids_to_tokens(prompt_ids(tokenizer, item)) == ["▁Where", "▁is"]
    whole = Item.conflict("It moved to Lyon.", "Where is", answer="Lyon", prior_answer="Paris")
    assert prompt_ids(tokenizer, whole) == tokenizer("Where is")["input_ids"]


S = "Be brief."
SYSTEM = {
    "llama-2": (t.LLAMA_2, f"<s>[INST] <<SYS>>\n{S}\n<</SYS>>\n\n{Q} [/INST] ", "system turn"),
    "mistral-0.2": (t.MISTRAL_02, f"<s>[INST] {S}\n\n{Q} [/INST] ", "user turn"),
    "mistral-0.3": (t.MISTRAL_03, f"<s>[INST] {S}\n\n{Q}[/INST] ", "system turn"),
    "gemma": (t.GEMMA, f"<s><start_of_turn>user\n{S}\n\n{Q}<end_of_turn>\n<start_of_turn>model\n", "user turn"),
    "vicuna": (t.WITHOUT_SYSTEM, f"USER: {S}\n\n{Q} ASSISTANT: ", "user turn"),
    "deepseek-r1": (t.DEEPSEEK_R1, f"<s>{S}<|User|>{Q}<|Assistant|>", "system turn"),
    "contents in parts": (t.PARTS, f"system: {S}\nuser: {Q}\nassistant: ", "system turn"),
}


@pytest.mark.parametrize("name", SYSTEM)
def test_a_system_text_stands_where_the_family_puts_it(name: str) -> None:
    template, text, place = SYSTEM[name]
    prompt = asked(template, system=S)
    assert (prompt.text, prompt.system) == (text, place)


def test_a_template_of_two_roles_does_not_make_an_answer_of_the_system_text() -> None:
    two = "{% for m in messages %}{{ 'Q ' + m.content if m.role == 'user' else ' A ' + m.content }}{% endfor %}"
    prompt = asked(two, system=S)
    assert (prompt.text, prompt.system) == (f"Q {S}\n\n{Q} A ", "user turn")


@pytest.mark.parametrize(
    ("text", "opens"),
    [
        ("<think>\n", True), ("<think>\n\n</think>\n\n", False), ("</think>", False), ("[THINK]", True),
        ("[THINK]a[/THINK]", False),
        ("<|START_THINKING|>", True), ("<|START_THINKING|><|END_THINKING|>", False), ("<seed:think>", True), ("I think", False),
        ("<|assistant|>\n", False),
    ],
)  # fmt: skip
def test_a_thought_is_open_until_its_tag_closes(text: str, opens: bool) -> None:
    assert opens_thought(text) is opens


def test_a_thought_that_the_generation_prompt_opens_is_said_and_not_read_in() -> None:
    assert asked(t.DEEPSEEK_R1).opens_thought
    assert not asked(t.QWEN_3).opens_thought
    assert not asked(t.QWEN_3, question="What does <think> mean?").opens_thought


def test_the_date_is_the_one_given_and_today_without() -> None:
    tokenizer = pieces(t.LLAMA_3)
    today = f"Today: {date.today().strftime('%d %b %Y')}\n"
    assert today in chat_prompt(tokenizer, Q).text
    assert "Today: 02 Mar 2025\n" in chat_prompt(tokenizer, Q, ChatSettings(day="2025-03-02")).text


def test_several_templates_are_told_apart_by_name(tmp_path: Path) -> None:
    several = pieces({"default": t.CHATML, "brief": t.WITHOUT_SYSTEM})
    assert chat_prompt(several, Q).text.startswith("<|im_start|>")
    assert chat_prompt(several, Q, ChatSettings(template_name="brief")).text == f"USER: {Q} ASSISTANT: "
    with pytest.raises(ItemError, match=r"no template 'long'; give --chat-template FILE or one of default, brief"):
        chat_prompt(several, Q, ChatSettings(template_name="long"))
    with pytest.raises(ItemError, match="no template is the default"):
        chat_prompt(pieces({"brief": t.CHATML}), Q)
    with pytest.raises(ItemError, match=r"no such file, and the subject's one template has no name"):
        chat_prompt(pieces(t.CHATML), Q, ChatSettings(template_name="brief"))
    several.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == several.chat_template
    assert chat_prompt(open_tokenizer(str(tmp_path)), Q, ChatSettings(template_name="brief")).begins == "assistant turn"


def test_a_template_in_a_file_beside_the_tokenizer_is_its_own(tmp_path: Path) -> None:
    pieces().save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(t.GEMMA)
    assert chat_prompt(open_tokenizer(str(tmp_path)), Q).text == BY_HAND["gemma"][2]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "the subject's tokenizer has no chat template; give --chat-template FILE"),
        ("{{ raise_exception('not today') }}", "refuses the turns: not today"),
        ("{{ messages[0].absent.content }}", "refuses the turns: .*absent"),
        ("{% if %}", "is not a Jinja template: line 1"),
        ("{{ 'Hello' }}", "leaves the question out"),
    ],
)
def test_what_cannot_be_asked_is_an_error_of_one_line(template: str | None, message: str) -> None:
    with pytest.raises(ItemError, match=message) as caught:
        asked(template)
    assert "\n" not in str(caught.value)


def test_a_file_replaces_the_template_and_settings_reach_it(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(t.HISTORY_WITHOUT_THOUGHTS, encoding="utf-8-sig")
    settings = chat_settings(Plan(chat_template=str(file), template_args=OFF))
    assert chat_prompt(pieces(t.CHATML), Q, settings).text == f"<|user|>{Q}\n<|assistant|><think>\n\n</think>\n\n"
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "a {{ messages[0].content }}"}')
    assert read_template(tmp_path / "tokenizer_config.json") == "a {{ messages[0].content }}"
    assert chat_settings(Plan(chat_template="tool_use")).template_name == "tool_use"
    assert chat_settings(Plan(template_args={"strftime_now": "2024-07-26"})) == ChatSettings(day="2024-07-26")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chat_template": "absent.jinja"}, "absent.jinja: no such file"),
        ({"chat_template": "empty.jinja"}, "the file is empty"),
        ({"chat_template": "binary.jinja"}, "cannot be read as text"),
        ({"chat_template": "other.json"}, "holds no chat_template"),
        ({"chat_template": ""}, "--chat-template needs a text"),
        ({"template_args": {"strftime_now": "today"}}, "needs YYYY-MM-DD, got 'today'"),
        ({"template_args": {"tokenize": True}}, "--template-arg tokenize cannot be set"),
        ({"template_args": {"day": date(2024, 7, 26)}}, "needs JSON values"),
        ({"template_args": [1]}, "needs settings by name"),
        ({"chat": "yes"}, "chat needs true or false"),
    ],
)
def test_settings_that_cannot_be_are_named(
    settings: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.jinja").write_text(" \n")
    Path("binary.jinja").write_bytes(b"\xff\xfe\x00")
    Path("other.json").write_text("[]")
    with pytest.raises(PlanError, match=message) as caught:
        chat_settings(Plan(**settings))
    assert "\n" not in str(caught.value)


def test_a_template_of_calls_that_do_not_end_is_searched_in_no_time() -> None:
    """A third of a million characters; without a limit on a date's format it took over a minute."""
    text = "{{ strftime_now('" * 20_000
    start = time.thread_time()
    assert dated(text, "2024-07-26") == text
    assert time.thread_time() - start < 5
