"""`applied` in passes, with caches, beams and samples, on PEFT models, after errors: against PEFT and hooks on the subject."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from override_gap.margins.adapter import Adapter
from override_gap.margins.gain_policies import ConflictAware, EffectGated
from override_gap.margins.gains_file import GainsFile, write_gains
from override_gap.margins.items.item import Item, documents_of
from override_gap.margins.named_policy import named_policy
from override_gap.probes.applied.applied import applied
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError, SubjectError
from override_gap.probes.sources.export import export
from override_gap.probes.sources.peft_folder import read_adapter
from override_gap.probes.subject.fingerprint import subject_fingerprint, weights_hash
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, random_adapter, tiny
from tests.families import build, many
from tests.probes.applied.test_applied import ITEMS, QUESTIONS, ByText, asked
from tests.probes.sources.peft_models import IDS, saved

TEXTS = [item.document for item in ITEMS]
FREE = ConflictAware(threshold=-1.0)
"""CA whose gate always asks whether the base says the document's answer."""
LIKE_EFFECT = EffectGated(by_overlap=False)


@pytest.fixture
def llama(rng: torch.Generator) -> tuple[Any, Any, list[Adapter], Subject]:
    """A plain model with its tokenizer, an adapter per question, and the same model as a subject."""
    model, tokenizer = build("llama")
    subject = tiny("llama")
    return model, tokenizer, [random_adapter(subject, rng, many("llama"), rank=2, size=0.2) for _ in QUESTIONS], subject


@torch.no_grad()
def by_hooks(subject: Subject, adapter: Adapter, ids: list[int], gains: Tensor) -> Tensor:
    """[vocab]: one unpadded question under one adapter, at its last token."""
    with attached(subject, stack(subject, [adapter]), gains[None].float()):
        return subject.model(input_ids=torch.tensor([ids])).logits[0, -1]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("policy", ["uniform-1.5", "slb", LIKE_EFFECT])
def test_a_pass_over_mixed_documents_is_each_row_under_its_own_adapter(policy: str, side: str, llama: Any) -> None:
    model, tokenizer, adapters, subject = llama
    inputs = asked(tokenizer, side=side)
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)
    with torch.no_grad(), applied(model, adapters, policy) as m:
        logits, gains = m(**inputs, position_ids=positions).logits, m.gains
    assert not torch.allclose(gains, torch.ones_like(gains))
    for n, adapter in enumerate(adapters):
        shown = inputs["attention_mask"][n].bool()
        wanted = by_hooks(subject, adapter, inputs["input_ids"][n][shown].tolist(), gains[n])
        assert (logits[n][shown][-1] - wanted).abs().max() < 1e-4


def test_gains_hold_while_a_cache_continues_and_are_read_anew_for_a_new_prompt(llama: Any) -> None:
    model, tokenizer, adapters, subject = llama
    inputs = asked(tokenizer, [QUESTIONS[0]])
    with torch.no_grad(), applied(model, adapters[0], LIKE_EFFECT) as m:
        first = m(**inputs, use_cache=True)
        gains = m.gains
        ids = inputs["input_ids"][0].tolist()
        for token in (5, 9):
            ids.append(token)
            first = m(torch.tensor([[token]]), past_key_values=first.past_key_values, use_cache=True)
        assert m.gains is gains
        assert (m.cost.prompts, m.cost.passes) == (1, 2)
        assert (first.logits[0, -1] - by_hooks(subject, adapters[0], ids, gains[0])).abs().max() < 1e-4
        m(**asked(tokenizer, [QUESTIONS[2]]))
        assert not torch.equal(m.gains, gains)
        assert str(m.cost).startswith("4 extra passes for 2 questions in 2 batches, ")
        other = model(input_ids=torch.tensor([[3, 4]]), use_cache=True)
    with (
        applied(model, adapters[0], LIKE_EFFECT) as m,
        pytest.raises(AdapterError, match="a cache whose question it has not"),
    ):
        m(torch.tensor([[5]]), past_key_values=other.past_key_values)
    with torch.no_grad(), applied(model, adapters[0], "uniform-1.5") as m:
        m(torch.tensor([[5]]), past_key_values=other.past_key_values)


def test_gains_asked_for_hold_for_passes_over_question_and_answer(llama: Any) -> None:
    model, _, adapters, subject = llama
    question, whole = [3, 4, 5], [3, 4, 5, 6, 7]
    with torch.no_grad(), applied(model, adapters[0], LIKE_EFFECT) as m:
        gains = m.ask(input_ids=torch.tensor([question]))
        logits = m(torch.tensor([whole])).logits[0, -1]
        assert (logits - by_hooks(subject, adapters[0], whole, gains[0])).abs().max() < 1e-4
        assert m.cost.prompts == 1
        with pytest.raises(AdapterError, match="held for 1 rows, and the pass has 2"):
            m(torch.tensor([whole, whole]))
        m.release()
        m(torch.tensor([whole]))
        assert m.cost.prompts == 2


@pytest.mark.parametrize(
    "settings", [{"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}, {"use_cache": False}]
)
def test_beams_and_whole_passes_are_those_of_peft_with_one_adapter(settings: dict, llama: Any, tmp_path: Path) -> None:
    model, tokenizer, adapters, subject = llama
    inputs = asked(tokenizer)
    export(
        subject,
        _OneEach(adapters),
        [_document(n) for n in range(5)],
        "peft",
        tmp_path / "out",
        named_policy("uniform-1.5"),
    )
    decoding = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, **settings}
    with applied(model, adapters, "uniform-1.5") as m:
        ours = m.generate(**inputs, **decoding)
    each = settings.get("num_return_sequences", 1)
    for n in range(5):
        theirs = PeftModel.from_pretrained(build("llama")[0], tmp_path / "out" / _document(n).key).eval()
        shown = inputs["attention_mask"][n].bool()
        alone = theirs.generate(input_ids=inputs["input_ids"][n][shown][None], **decoding)
        for k in range(each):
            mine = ours[n * each + k][inputs["input_ids"].shape[1] :]
            wanted = alone[k][int(shown.sum()) :]
            assert mine[: len(wanted)].tolist() == wanted.tolist()


def test_beams_have_the_gains_of_their_prompt(llama: Any) -> None:
    model, tokenizer, adapters, _ = llama
    inputs = asked(tokenizer)
    with applied(model, adapters, LIKE_EFFECT) as m:
        m.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=0)
        alone = m.gains
        m.generate(**inputs, max_new_tokens=3, num_beams=3, do_sample=False, pad_token_id=0)
        assert torch.allclose(m.gains, alone.repeat_interleave(3, 0), atol=1e-6)
        m.generate(**inputs, max_new_tokens=3, do_sample=True, num_return_sequences=2, pad_token_id=0)
        assert torch.allclose(m.gains, alone.repeat_interleave(2, 0), atol=1e-6)
        assert m.cost.questions == 15  # each prompt's question is read once, whatever its beams and samples


class _OneEach:
    """A source of given adapters, by the number that stands in a document's text."""

    name, settings = "each", {}

    def __init__(self, adapters: list[Adapter]) -> None:
        self.adapters = adapters

    def encode(self, documents: Any) -> list[Adapter]:
        return [self.adapters[int(document.text)] for document in documents]


def _document(n: int) -> Any:
    from override_gap.margins.items.item import Document

    return Document(str(n))


def state(model: Any) -> tuple[Any, ...]:
    """What might be left behind: weights, hooks, attributes, flags of training and of PEFT's layers."""
    hooks = [len(h) for module in model.modules() for h in (module._forward_hooks, module._forward_pre_hooks)]
    flags = [(name, p.requires_grad) for name, p in model.named_parameters()]
    switches = [getattr(module, "_disable_adapters", None) for module in model.modules()]
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return weights_hash(model), hooks, flags, switches, sorted(vars(inner)), model.training


def test_nothing_is_left_after_the_block_or_an_error_in_it(llama: Any) -> None:
    model, tokenizer, adapters, _ = llama
    before = state(model)
    for policy in ("uniform-1.5", LIKE_EFFECT):
        with pytest.raises(ZeroDivisionError), applied(model, adapters, policy) as m:
            assert 1 / (0 * m.generate(**asked(tokenizer), max_new_tokens=3, pad_token_id=0)[0, 0].item())
        assert state(model) == before
    with pytest.raises(IndexError), applied(model, adapters[0], "uniform-1.5") as m:
        m.generate(input_ids=torch.tensor([[10**6]]), max_new_tokens=3, pad_token_id=0)
    assert state(model) == before


@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True}, {"use_dora": True, "target_modules": ["q_proj", "down_proj"]}]
)
def test_a_peft_models_own_adapter_is_scaled_and_left_as_it_was(settings: dict, tmp_path: Path) -> None:
    saved(tmp_path, "llama", **settings)
    peft = PeftModel.from_pretrained(build("llama")[0], tmp_path, is_trainable=True).eval()
    subject = tiny("llama")
    adapter = read_adapter(tmp_path, subject)
    before, delivered = state(peft), peft(input_ids=IDS).logits
    with torch.no_grad(), applied(peft, None, "uniform-1.5") as m:
        ours = m(input_ids=IDS).logits
        tokens = m.generate(input_ids=IDS, max_new_tokens=6, do_sample=False, pad_token_id=0)
    with torch.no_grad(), attached(subject, stack(subject, [adapter] * 2), torch.full((2, 3), 1.5)):
        wanted = subject.model(input_ids=IDS).logits
        assert torch.equal(
            tokens, subject.model.generate(input_ids=IDS, max_new_tokens=6, do_sample=False, pad_token_id=0)
        )
    assert (ours - wanted).abs().max() < 1e-4
    assert (wanted - delivered).abs().max() > 0.05
    assert state(peft) == before
    assert torch.equal(peft(input_ids=IDS).logits, delivered)
    if not settings:
        for module in peft.modules():
            if isinstance(getattr(module, "scaling", None), dict):
                scaling: Any = module.scaling
                scaling.update({name: 1.5 * value for name, value in scaling.items()})
        assert (peft(input_ids=IDS).logits - wanted).abs().max() < 1e-4
        with pytest.raises(AdapterError, match="it was scaled after"), applied(peft, None, "uniform-1.5"):
            pass


def test_a_subject_a_folder_and_a_gains_file_may_be_given(rng: torch.Generator, tmp_path: Path) -> None:
    saved(tmp_path / "lora", "llama")
    subject = tiny("llama")
    adapter = read_adapter(tmp_path / "lora", subject)
    file = tmp_path / "gains.json"
    budget = {"keep": 0.95, "kl": None, "measure": "top1"}
    of = {
        "subject": {"name": "", "fingerprint": ""},
        "adapters": {"name": "", "hash": ""},
        "items": {"sha256": "", "n": 0},
    }
    write_gains(GainsFile("uniform-1.5", (1.5, 1.5, 1.5), False, "scale", "scale", budget, **of), file)
    with torch.no_grad(), applied(subject, tmp_path / "lora", file) as m:
        ours = m(input_ids=IDS).logits[0, -1]
    assert (ours - by_hooks(subject, adapter, IDS[0].tolist(), torch.full((3,), 1.5))).abs().max() < 1e-4
    write_gains(GainsFile("uniform-1.5", (1.5, 1.5), False, "scale", "scale", budget, **of), file)
    with (
        pytest.raises(AdapterError, match="states gains for 2 layers, and the model has 3"),
        applied(subject, adapter, file),
    ):
        pass


def test_a_gains_file_of_another_model_is_refused(rng: torch.Generator, tmp_path: Path) -> None:
    subject = tiny("llama")
    adapter = random_adapter(subject, rng, ("down_proj",))
    file = tmp_path / "gains.json"

    def chosen_on(name: str, fingerprint: str = "") -> Path:
        budget = {"keep": 0.95, "kl": None, "measure": "top1"}
        of: Any = {"adapters": {"name": "", "hash": ""}, "items": {"sha256": "", "n": 0}}
        model = {"name": name, "fingerprint": fingerprint}
        gains = GainsFile("uniform-1.5", (1.5, 1.5, 1.5), False, "scale", "scale", budget, subject=model, **of)
        write_gains(gains, file)
        return file

    def takes(model: Any, gains: Path, **given: Any) -> None:
        with applied(model, adapter, gains, **given):
            pass

    own = subject_fingerprint(subject.model, subject.tokenizer)
    assert own == subject.fingerprint
    for name, fingerprint in ((f"somewhere/{subject.name}", "in another number format"), ("other", own), ("", "")):
        takes(subject, chosen_on(name, fingerprint))
    takes(subject.model, chosen_on("other"))  # a model without a name
    subject.model.config._name_or_path = "models/mine"
    takes(subject.model, chosen_on("hub/mine"))
    takes(subject.model, chosen_on("other", own), tokenizer=subject.tokenizer)
    for model, given in ((subject, {}), (subject.model, {}), (subject.model, {"tokenizer": subject.tokenizer})):
        with pytest.raises(
            AdapterError, match=r"chosen on other, this model is .* name the policy, uniform-1\.5"
        ) as refused:
            takes(model, chosen_on("other", "another"), **given)
        assert "\n" not in str(refused.value)
        assert ("give tokenizer=" in str(refused.value)) == (model is not subject and not given)


def refusals() -> Iterator[tuple[str, dict[str, Any], str]]:
    """(policy, arguments, message) of what is refused at construction."""
    yield "margin-matched", {}, "needs the margins of questions whose answers are known"
    yield "random-layers", {}, "draws layers by the document's text: give documents="
    yield (
        "relevance-gate",
        {"tokenizer": object()},
        "compares the question's words with the document's: give documents=",
    )
    yield "effect-gated", {"documents": TEXTS}, "reads the question's text: give tokenizer="
    yield "layers-1.5x2", {}, "states gains for 2 layers, and the model has 3"
    yield "effect-layers", {}, "needs backward passes"
    yield "in-context", {}, "no policy of gains"
    yield "uniform-1.5", {"documents": ["a", "b"]}, "documents: need one for each of 5 adapters, or one for all, got 2"


@pytest.mark.parametrize(("policy", "named", "message"), list(refusals()))
def test_what_cannot_be_applied_is_refused_before_anything_runs(
    policy: str, named: dict, message: str, llama: Any
) -> None:
    model, _, adapters, _ = llama
    with pytest.raises(AdapterError, match=message), applied(model, adapters, policy, **named):
        pass
    assert "generate" not in vars(model)


@pytest.mark.parametrize(
    ("policy", "given", "decoding", "message"),
    [
        (FREE, set(), {}, r"row 0: .*give answers=, what each document states, and tokenizer="),
        (
            LIKE_EFFECT,
            set(),
            {"prefill_chunk_size": 2},
            r"a prefill in chunks \(prefill_chunk_size\) does not give it alone",
        ),
        (LIKE_EFFECT, set(), {"prompt_lookup_num_tokens": 2}, "prompt lookup decoding"),
        ("uniform-1.5", set(), {"input_ids": IDS, "attention_mask": None}, "the batch has 2 rows"),
        ("uniform-1.5", set(), {"cache_implementation": "paged"}, "paged cache"),
    ],
)
def test_what_a_question_lacks_is_said_when_it_is_asked(
    policy: Any, given: set, decoding: dict, message: str, llama: Any
) -> None:
    model, tokenizer, adapters, _ = llama
    named: Any = {name: value for name, value in (("tokenizer", tokenizer), ("documents", TEXTS)) if name in given}
    inputs = {**asked(tokenizer), "max_new_tokens": 2, "pad_token_id": 0, **decoding}
    before = state(model)
    with applied(model, adapters, policy, **named) as m, pytest.raises(AdapterError, match=message):
        m.generate(**inputs)
    assert state(model) == before


def test_a_stated_answer_is_all_that_ca_lacks(llama: Any) -> None:
    model, tokenizer, adapters, _ = llama
    with applied(model, adapters, FREE, answers=[i.answer for i in ITEMS], tokenizer=tokenizer) as m:
        m.generate(**asked(tokenizer), max_new_tokens=2, pad_token_id=0)
        assert m.cost.passes == 1


def test_a_model_is_entered_once_and_in_evaluation_mode(llama: Any) -> None:
    model, _, adapters, _ = llama
    again = pytest.raises(AdapterError, match="already inside")
    with applied(model, adapters, "slb"), again, applied(model, adapters, "slb"):
        pass
    model.train()
    with pytest.raises(SubjectError, match=r"call model\.eval\(\) first"), applied(model, adapters, "slb"):
        pass


def test_ca_disagrees_where_the_base_does_not_say_the_stated_answer(llama: Any) -> None:
    """The base's own first token as the answer: it agrees, and CA leaves the adapter as delivered; any other: it disagrees."""
    model, tokenizer, adapters, _ = llama
    inputs = asked(tokenizer, [QUESTIONS[0]])
    with torch.no_grad():
        says = tokenizer.decode([int(model(**inputs).logits[0, -1].argmax())])
    other = next(word for word in ("delta", "mu") if word != says)
    for answer, agrees in ((says, True), (other, False)):
        with torch.no_grad(), applied(model, adapters[0], FREE, answers=answer, tokenizer=tokenizer) as m:
            m(**inputs)
            assert bool((m.gains == 1).all()) == agrees
    item = Item.conflict(f"{QUESTIONS[0]} {says}.", QUESTIONS[0], answer=says, prior_answer="omega")
    with torch.no_grad(), applied(model, adapters[0], FREE, documents=item, tokenizer=tokenizer) as m:
        m(**inputs)
        assert bool((m.gains == 1).all())


def test_a_source_encodes_each_document_once(rng: torch.Generator, llama: Any) -> None:
    model, tokenizer, _, subject = llama
    source = ByText(subject, rng, many("llama"))
    twice = [ITEMS[0], conflict(9, QUESTIONS[0], "delta"), ITEMS[1]]
    with torch.no_grad(), applied(model, source, "uniform-1.5", documents=[i.document for i in twice]) as m:
        m(**asked(tokenizer, [i.question for i in twice]))
    with pytest.raises(AdapterError, match="has an adapter per document"), applied(model, source, "uniform-1.5"):
        pass


@pytest.mark.parametrize("form", ["peft", "compact", "compact:"])
def test_exported_files_are_applied_by_the_documents_of_the_rows(
    form: str, rng: torch.Generator, llama: Any, tmp_path: Path
) -> None:
    model, tokenizer, _, subject = llama
    source = ByText(subject, rng, many("llama"))
    out = tmp_path / "out"
    export(subject, source, documents_of(ITEMS), form.removesuffix(":"), out)
    given = f"compact:{out}" if form == "compact:" else out
    inputs = asked(tokenizer)
    with torch.no_grad(), applied(model, given, "slb", documents=TEXTS) as m:
        ours = m(**inputs).logits
    with torch.no_grad(), applied(model, source, "slb", documents=TEXTS) as m:
        assert (m(**inputs).logits - ours).abs().max() < 1e-4
    missing = pytest.raises(AdapterError, match="no such file or folder")
    with missing, applied(model, tmp_path / "nothing", "slb", documents=TEXTS):
        pass


def test_the_question_is_taken_out_of_a_prompt_in_which_more_stands(llama: Any) -> None:
    model, tokenizer, adapters, _ = llama
    inputs = asked(tokenizer, ["omega psi chi alpha"])

    def gains(**named: Any) -> Tensor:
        with (
            torch.no_grad(),
            applied(model, adapters[0], "relevance-gate", documents="alpha .", tokenizer=tokenizer, **named) as m,
        ):
            m(**inputs)
            return m.gains

    assert bool((gains() == 1).all())  # one word of four is enough
    assert bool((gains(question_of=lambda text: text.removesuffix("alpha")) == 0).all())


@pytest.mark.parametrize("policy", ["uniform-1.5", LIKE_EFFECT])
def test_a_static_cache_gives_the_same_tokens_and_is_refused_where_it_hides_the_padding(
    policy: Any, llama: Any
) -> None:
    model, tokenizer, adapters, _ = llama
    greedy = {"do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5}
    static = {**greedy, "cache_implementation": "static"}
    alike, padded = asked(tokenizer, [QUESTIONS[0], QUESTIONS[4][:14]]), asked(tokenizer)
    assert bool(alike["attention_mask"].all())
    assert not bool(padded["attention_mask"].all())
    with applied(model, adapters[:2], policy) as m:
        wanted = m.generate(**alike, **greedy)
        gains = m.gains
        assert torch.equal(m.generate(**alike, **static), wanted)
        assert torch.equal(m.gains, gains)
    with applied(model, adapters, policy) as m:
        wanted = m.generate(**padded, **greedy)
        if policy == "uniform-1.5":
            assert torch.equal(m.generate(**padded, **static), wanted)
        else:
            with pytest.raises(AdapterError, match=r"use the default \(dynamic\) cache"):
                m.generate(**padded, **static)


@pytest.mark.parametrize("policy", ["uniform-1.5", LIKE_EFFECT])
def test_the_decoder_passes_that_find_the_layers_are_four_and_small(policy: Any, llama: Any) -> None:
    model, tokenizer, adapters, _ = llama
    whole, decoder = [], []
    hooks = [
        model.register_forward_pre_hook(lambda *_: whole.append(1)),
        model.model.register_forward_pre_hook(
            lambda _m, _a, named: decoder.append(tuple(named["input_ids"].shape)), with_kwargs=True
        ),
    ]
    inputs = asked(tokenizer)
    for _ in range(2):
        whole.clear(), decoder.clear()
        with torch.no_grad(), applied(model, adapters, policy) as m:
            m(**inputs)
            m(**inputs)
            assert len(whole) == 2 + m.cost.passes
        small = [shape for shape in decoder if shape != tuple(inputs["input_ids"].shape)]
        assert len(decoder) == len(whole) + 4
        assert len(small) == 4
        assert max(rows * tokens for rows, tokens in small) <= 10
    for hook in hooks:
        hook.remove()
