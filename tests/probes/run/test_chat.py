"""Chat items of a run: read and answered where plain transformers would, and said where the model does not answer there."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import override_gap as og
from override_gap.analyses.compare.pairing import asked_otherwise
from override_gap.analyses.readings import load
from override_gap.margins.items.item import Item, ItemError
from override_gap.probes.plan import Plan, PlanError
from override_gap.probes.run import loop
from override_gap.probes.run.chat_facts import chat_facts
from override_gap.probes.run.engine import Job, Local
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.run.loop import run, run_plan
from override_gap.probes.run.resolve import resolve
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.folder import RunError
from override_gap.probes.subject.chat_template import ChatSettings
from override_gap.probes.subject.model import Subject, wrap
from tests.conftest import conflict, tiny
from tests.probes.subject import templates as t

FACTS = {
    "Norland": "Hale",
    "Sudmark": "Brenn",
    "Estia": "Corva",
    "Westor": "Dunmore",
    "Ostrava": "Eskil",
    "Midreth": "Farrow",
}
PLAN = Plan("taught", "fitted", "own", "as-delivered", ("margins", "answers"), answers=6)
OFF = {"enable_thinking": False}
THOUGHT = "<think>\nA country, its seat.\n</think>\n\n"


def question(land: str) -> str:
    return f"What is the seat of {land}?"


def items(*, chat: bool = True) -> list[Item]:
    towns = list(FACTS.values())
    return [
        Item.conflict(
            f"The seat of {land} is {towns[(n + 2) % 6]}.", question(land), answer=towns[(n + 2) % 6], prior_answer=town,
            id=f"c{n}", point=f"p{n}", chat=chat,
        )
        for n, (land, town) in enumerate(FACTS.items())
    ]  # fmt: skip


def taught(template: str, texts: list[str], specials: tuple[str, ...] = (), *, marks: bool = False) -> Subject:
    """A small Llama that has learned these texts by heart; with `marks`, a space is the mark ▁ before a word, as Llama-2's."""
    inner = Tokenizer(models.BPE(unk_token="<unk>" if marks else None))
    if marks:
        inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        inner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    else:
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
    names = ["<unk>", "<s>", "</s>", *specials]
    inner.train_from_iterator(texts * 3, trainers.BpeTrainer(vocab_size=400, special_tokens=names, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = template
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (width - len(row)) for row in rows])
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, **shape))
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=260)
    for _ in range(260):
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    return wrap(model, tokenizer, "taught")


@pytest.fixture(scope="module")
def mistral() -> Subject:
    """Its answers begin with a space, as its template writes them."""
    texts = [f"<s>[INST] {question(land)} [/INST] {town}</s>" for land, town in FACTS.items()]
    return taught(t.MISTRAL_02, texts, marks=True)


@pytest.fixture(scope="module")
def hybrid() -> Subject:
    """It opens a thought unless a closed one is in its prompt."""
    turns = [f"<|user|>{question(land)}\n<|assistant|>" for land in FACTS]
    plain = [f"{turn}<think>\n\n</think>\n\n{town}</s>" for turn, town in zip(turns, FACTS.values(), strict=True)]
    thinking = [f"{turn}{THOUGHT}{town}</s>" for turn, town in zip(turns, FACTS.values(), strict=True)]
    return taught(t.HISTORY_WITHOUT_THOUGHTS, plain + thinking, ("<think>", "</think>", "<|user|>", "<|assistant|>"))


def measured(subject: Subject, out: Path, plan: Plan = PLAN, rows: list[Item] | None = None) -> pd.DataFrame:
    run(plan, subject, FittedAdapters(subject, steps=3, lr=1e-2), items() if rows is None else rows, out)
    return pd.read_parquet(out / "readings").set_index(["item", "condition"]).sort_index()


def manifest(out: Path) -> dict[str, Any]:
    return json.loads((out / "manifest.json").read_text())


@torch.no_grad()
def by_transformers(subject: Subject, item: Item, **args: Any) -> tuple[float, bool, str]:
    """Prior margin, known, greedy answer: plain transformers, tokens of the conversation that the template writes."""
    tokenizer, model, pair = subject.tokenizer, subject.model, []
    for answer in (item.prior_answer, item.answer):
        user = [{"role": "user", "content": item.question}]
        # thinking off is a matter of the generation prompt, which has to be used there; elsewhere the turn itself is rendered
        text = (
            tokenizer.apply_chat_template(user, tokenize=False, add_generation_prompt=True, **args) + str(answer)
            if args
            else tokenizer.apply_chat_template([*user, {"role": "assistant", "content": answer}], tokenize=False)
        )
        pair.append(tokenizer(text, add_special_tokens=False)["input_ids"])
    at = next(n for n, (pre, doc) in enumerate(zip(*pair, strict=False)) if pre != doc)
    logits = model(input_ids=torch.tensor([pair[0][:at]])).logits[0, -1]
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": item.question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=False,
        **args,
    )
    out = model.generate(ids, max_new_tokens=64, do_sample=False, pad_token_id=0, attention_mask=torch.ones_like(ids))
    answer = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    margin = (logits[pair[0][at]] - logits[pair[1][at]]).item()
    return margin, int(logits.argmax()) == pair[0][at], answer


def test_an_answer_that_begins_with_a_space_is_read_where_the_template_writes_it(
    mistral: Subject, tmp_path: Path
) -> None:
    readings = measured(mistral, tmp_path / "run")
    for item in items():
        margin, known, answer = by_transformers(mistral, item)
        row = readings.loc[(item.id, "base")]
        assert row["prior_margin"] == pytest.approx(margin, abs=1e-4)
        assert bool(row["known"]) is known is True
        assert row["answer_text"].strip() == answer.strip() == item.prior_answer
        assert margin > 2
    chat = manifest(tmp_path / "run")["chat"]
    assert (chat["answer_begins"], chat["opening"], chat["items"]) == ("assistant turn", " [/INST] ", 6)
    assert chat["first_tokens"] == {"asked": 6, "no_answer": 0, "begins": None, "word": None, "with_word": 0}
    assert chat["warnings"] == []


def test_all_questions_can_be_asked_in_chat_and_are_read_the_same(mistral: Subject, tmp_path: Path) -> None:
    as_items_say = measured(mistral, tmp_path / "items")
    as_asked = measured(mistral, tmp_path / "flag", replace(PLAN, chat=True), items(chat=False))
    pd.testing.assert_frame_equal(as_items_say, as_asked)
    plain = measured(mistral, tmp_path / "plain", rows=items(chat=False))
    assert set(plain["known"]) == {0}
    assert manifest(tmp_path / "plain")["chat"] is None


def test_a_system_text_without_a_system_turn_is_put_before_the_question(mistral: Subject, tmp_path: Path) -> None:
    measured(mistral, tmp_path / "run", replace(PLAN, system_prompt="Be brief."), items(chat=False))
    chat = manifest(tmp_path / "run")["chat"]
    assert chat["system"] == "user turn"
    assert chat["example"].endswith(f"[INST] Be brief.\n\n{question('Norland')} [/INST] ")


def test_a_model_that_thinks_first_is_said_before_it_is_measured(hybrid: Subject, tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []
    engine = Local(hybrid, FittedAdapters(hybrid, steps=3, lr=1e-2))
    run_plan(
        engine, resolve(PLAN, items()), tmp_path / "run", lambda *_: order.append("measured"),
        say=lambda text: said.append(text) or order.append("said"),
    )  # fmt: skip
    assert order[0] == "said"
    [text] = said
    assert text == (
        "taught begins 6 of 6 answers with '<think>', where no answer begins: add --template-arg enable_thinking=false, or give "
        "--chat-template FILE"
    )
    chat = manifest(tmp_path / "run")["chat"]
    assert chat["warnings"] == said
    assert chat["first_tokens"] == {"asked": 6, "no_answer": 6, "begins": "<think>", "word": None, "with_word": 0}
    assert set(pd.read_parquet(tmp_path / "run" / "readings")["known"]) == {0}


def test_with_thinking_off_it_answers_as_plain_transformers_say(hybrid: Subject, tmp_path: Path) -> None:
    readings = measured(hybrid, tmp_path / "run", replace(PLAN, template_args=OFF))
    for item in items():
        margin, known, answer = by_transformers(hybrid, item, **OFF)
        row = readings.loc[(item.id, "base")]
        assert row["prior_margin"] == pytest.approx(margin, abs=1e-4)
        assert bool(row["known"]) is known is True
        assert row["answer_text"] == answer == item.prior_answer
    chat = manifest(tmp_path / "run")["chat"]
    assert (chat["answer_begins"], chat["args"], chat["warnings"]) == ("generation prompt", OFF, [])


def test_a_template_of_ones_own_closes_the_thought(hybrid: Subject, tmp_path: Path) -> None:
    closed = t.HISTORY_WITHOUT_THOUGHTS.replace(
        "{% if enable_thinking is defined and not enable_thinking %}", "{% if true %}"
    )
    (tmp_path / "closed.jinja").write_text(closed)
    plan = replace(PLAN, chat_template=str(tmp_path / "closed.jinja"))
    own = measured(hybrid, tmp_path / "own", plan)
    pd.testing.assert_frame_equal(own, measured(hybrid, tmp_path / "off", replace(PLAN, template_args=OFF)))
    assert manifest(tmp_path / "own")["chat"]["template"] == "replaced"


def test_another_template_or_setting_is_another_run(hybrid: Subject, tmp_path: Path) -> None:
    measured(hybrid, tmp_path / "run")
    (tmp_path / "other.jinja").write_text(t.HISTORY_WITHOUT_THOUGHTS + " ")
    for other in (
        {"template_args": OFF},
        {"chat_template": str(tmp_path / "other.jinja")},
        {"system_prompt": "Be brief."},
    ):
        with pytest.raises(RunError, match="holds another audit"):
            measured(hybrid, tmp_path / "run", replace(PLAN, **other))
    measured(hybrid, tmp_path / "run", replace(PLAN, chat=True))  # all items are in chat already: the same questions


def test_a_tag_that_is_no_token_and_an_empty_line_are_no_answers(mistral: Subject) -> None:
    spelled = taught("{% for m in messages %}{{ m.role + ':\n' + m.content + '\n' }}{% endfor %}", [
        f"user:\n{question(land)}\nassistant:\n{THOUGHT}{town}</s>" for land, town in FACTS.items()
    ])  # fmt: skip
    facts = chat_facts(spelled, ChatSettings(), items())
    assert len(spelled.tokenizer("<think>", add_special_tokens=False)["input_ids"]) > 1
    assert facts["first_tokens"] == {"asked": 6, "no_answer": 6, "begins": "<think>", "word": None, "with_word": 0}
    assert (
        "give --chat-template FILE, a copy of the template that ends with '<think>' and what closes it"
        in facts["warnings"][0]
    )
    lines = taught("{% for m in messages %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}", [
        f"user:{question(land)}\nassistant:\n\n{town}</s>" for land, town in FACTS.items()
    ])  # fmt: skip
    begins = chat_facts(lines, ChatSettings(), items())["first_tokens"]
    assert begins["no_answer"] == 6
    assert begins["begins"].strip() == ""
    assert chat_facts(mistral, ChatSettings(), items())["warnings"] == []
    misspelt = chat_facts(mistral, ChatSettings(args={"enable_thinkng": False}), items())["warnings"]
    assert misspelt == ["--template-arg enable_thinkng changes nothing: the template has no such setting"]


def test_a_run_keeps_the_day_on_which_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = tiny("llama")
    subject.tokenizer.chat_template = (
        "{{ strftime_now('%A') }} " + "{% for m in messages %}{{ m.content }} {% endfor %}"
    )
    rows = [conflict(n, f"alpha beta {word}", "red", "blue", chat=True) for n, word in enumerate(("one", "two"))]
    with monkeypatch.context() as earlier:
        earlier.setattr(loop, "first_day", lambda _: "2024-07-26")
        before = measured(subject, tmp_path / "run", rows=rows)
    assert manifest(tmp_path / "run")["chat"]["example"].startswith("Friday ")
    for table in (tmp_path / "run" / "readings").glob("*.parquet"):
        table.unlink()
    pd.testing.assert_frame_equal(before, measured(subject, tmp_path / "run", rows=rows))
    assert manifest(tmp_path / "run")["chat"]["day"] == "2024-07-26"
    with pytest.raises(RunError, match="another audit"):
        measured(subject, tmp_path / "run", replace(PLAN, template_args={"strftime_now": "2024-07-27"}), rows)


def test_without_a_template_a_run_in_chat_is_refused_and_one_item_is_an_error(tmp_path: Path) -> None:
    subject = tiny("llama")
    plain, chat = conflict(0, "alpha beta", "red", "blue"), conflict(1, "gamma delta", "red", "blue", chat=True)
    with pytest.raises(ItemError, match="has no chat template; give --chat-template FILE"):
        measured(subject, tmp_path / "all", replace(PLAN, chat=True), [plain, chat])
    assert not (tmp_path / "all").exists()
    readings = measured(subject, tmp_path / "some", rows=[plain, chat])
    assert readings.loc[("c0", "base"), "status"] == "ok"
    assert "no chat template" in readings.loc[("c1", "base"), "error"]


def test_settings_of_a_template_through_which_no_question_goes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="--template-arg would change nothing: no item has chat set; add --chat"):
        resolve(replace(PLAN, template_args=OFF), items(chat=False))


def test_the_handshake_asks_as_the_audit_does(mistral: Subject) -> None:
    class Watched:
        name, settings = "watched", MappingProxyType({})
        asked: ClassVar[list[str]] = []

        def encode(self, documents: Any) -> Any:
            return FittedAdapters(mistral, steps=3, lr=1e-2).encode(documents)

        def native_logits(self, _: Any, text: str) -> torch.Tensor:
            self.asked.append(text)
            return torch.zeros(len(mistral.tokenizer))

    source = Watched()
    check_adapters(mistral, source, items()[:1], chat=ChatSettings(system="Be brief."))
    assert source.asked == [f"<s>[INST] Be brief.\n\n{question('Norland')} [/INST] "]


def test_python_takes_the_same_settings_and_warns(hybrid: Subject) -> None:
    rows = items(chat=False)[:2]
    with pytest.warns(UserWarning, match="begins 2 of 2 answers with '<think>'"):
        thinking = og.measure(hybrid, "fitted:steps=3", rows, chat=True)
    off = og.measure(hybrid, "fitted:steps=3", rows, chat=True, template_args=OFF)
    assert set(thinking["known"]) == {0}
    assert set(off["known"]) == {1}
    with pytest.raises(PlanError, match="unknown setting 'chats'"):
        og.measure(hybrid, "fitted:steps=3", rows, chats=True)


def test_settings_travel_to_workers() -> None:
    settings = ChatSettings("Be brief.", "{{ messages }}", None, OFF, "2024-07-26")
    job = Job((), frozenset(), 0, 0, (), frozenset(), settings)
    assert pickle.loads(pickle.dumps(job)).chat == settings


def test_a_comparison_says_that_its_runs_ask_otherwise(mistral: Subject, tmp_path: Path) -> None:
    measured(mistral, tmp_path / "chat")
    measured(mistral, tmp_path / "plain", rows=items(chat=False))
    measured(mistral, tmp_path / "again", replace(PLAN, answers=3))
    runs = {name: load(tmp_path / name) for name in ("chat", "plain", "again")}
    [note] = asked_otherwise(runs)
    assert note.startswith("'chat' and 'plain' do not put their questions in the same way")
    assert asked_otherwise({name: runs[name] for name in ("chat", "again")}) == []


def test_a_model_that_answers_in_sentences_is_said_by_its_first_word() -> None:
    """Its first word begins none of the named answers, so no item would count as known although it knows all of them."""
    template = "{% for m in messages %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}"
    sentences = taught(template, [
        f"user:{question(land)}\nassistant:It lies in {town}</s>" for land, town in FACTS.items()
    ])  # fmt: skip
    facts = chat_facts(sentences, ChatSettings(), items())
    word = facts["first_tokens"]["word"]
    assert word
    assert "It lies in".startswith(word)
    assert (facts["first_tokens"]["with_word"], facts["first_tokens"]["no_answer"]) == (6, 0)
    [warning] = facts["warnings"]
    assert warning.startswith(f"taught begins 6 of 6 answers with {word!r}, as none of the named answers")
    assert chat_facts(sentences, ChatSettings(), items()[:2])["warnings"] == []
