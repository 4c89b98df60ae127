"""Methods that are not weight updates: against the plain model called by hand, at gain 0 and 1 and no other."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import DynamicCache

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import Item, documents_of
from override_gap.margins.runtime import Prefix
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.runtime import runtime_batch
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.plan import Plan
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.generation import generate
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.run.loop import run
from override_gap.probes.sources.export import export
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, random_adapter, tiny
from tests.families import FAMILIES, build, down

# of different lengths, so that rows are padded on both sides; two answers share their first token
ITEMS = [
    conflict(1, "alpha beta gamma"),
    conflict(2, "zeta eta theta iota kappa", "two red", "two blue"),
    conflict(3, "lambda mu"),
    Item("r", "p1", "retention", "alpha beta gamma delta .", "nine ten", "red"),
]
LENGTHS = {"alpha": 5, "zeta": 2, "lambda": 7}
PLAN = Plan(
    subject="tiny",
    adapters="own",
    items="own",
    policies="as-delivered,uniform,slb,ca,margin-matched,relevance-gate,logit-fusion,in-context,stated-2,joined-2,contested",
    probes=("margins", "layers", "causal", "critical", "answers"),
    answers=2,
    batch_size=3,
)


def prefix(subject: Subject, text: str) -> Prefix:
    """Random keys and values, as many positions as the document's first word says."""
    draw, config = torch.Generator().manual_seed(sum(text.encode())), subject.model.config
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    shape = (heads, LENGTHS[text.split()[0]], getattr(config, "head_dim", None) or 8)
    drawn = [torch.randn(shape, generator=draw) for _ in range(2 * subject.n_layers)]
    return Prefix(text, drawn[::2], drawn[1::2])


@dataclass
class Cartridges:
    """A source of prefixes."""

    subject: Subject
    name: str = "cartridges"
    settings: Any = field(default_factory=dict)
    static: bool = False

    def encode(self, documents):
        return [prefix(self.subject, document.text) for document in documents]


@dataclass
class Routed:
    """An adapter that acts on questions that begin with one word."""

    adapter: Adapter
    first: int

    @property
    def name(self) -> str:
        return self.adapter.name

    @contextmanager
    def acting(self, subject, question):
        assert question.ndim == 1
        if int(question[0]) != self.first:
            yield
            return
        with attached(subject, stack(subject, [self.adapter]), torch.ones(1, subject.n_layers)):
            yield


@dataclass
class Router(Cartridges):
    """Routes to the document's random adapter where the question begins with `words`."""

    name: str = "router"
    words: str = "alpha"

    def encode(self, documents):
        first = self.subject.tokenize(self.words)[0]
        return [Routed(_lora(self.subject, document.text), first) for document in documents]


def _lora(subject: Subject, text: str) -> Adapter:
    draw = torch.Generator().manual_seed(len(text))
    return random_adapter(subject, draw, down(subject.name.removeprefix("tiny-")))


def by_hand(family: str, divergence, prefix: Prefix | None) -> torch.Tensor:
    """The plain model's logits where an item is read, behind a prefix in its own cache: positions and mask written out."""
    model, _ = build(family)
    tokens = torch.tensor([divergence.prefix])
    if prefix is None:
        return model(input_ids=tokens).logits[0, -1]
    cache, before = DynamicCache(config=model.config), prefix.positions
    for layer, (keys, values) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
        cache.update(keys[None].clone(), values[None].clone(), layer)
    positions = torch.arange(before, before + tokens.shape[1])[None]
    mask = torch.ones(1, before + tokens.shape[1], dtype=torch.long)
    return model(input_ids=tokens, past_key_values=cache, position_ids=positions, attention_mask=mask).logits[0, -1]


@pytest.mark.parametrize("family", sorted(FAMILIES))
@torch.no_grad()
def test_a_prefix_is_the_plain_models_own_cache(family: str) -> None:
    subject = tiny(family)
    divergences = [locate(subject, item) for item in ITEMS]
    prior = read_prior(subject, ITEMS, divergences)
    prefixes = [prefix(subject, item.document) for item in ITEMS]
    together = runtime_batch(subject, prefixes, [divergence.n_question_tokens for divergence in divergences])
    read = read_adapted(subject, prior, together, torch.ones(len(ITEMS), subject.n_layers))
    for n, divergence in enumerate(divergences):
        wanted, base = by_hand(family, divergence, prefixes[n]), by_hand(family, divergence, None)
        assert (wanted - base).abs().max() > 0.1, "the prefix must matter for this test to mean anything"
        assert (read.logits[n] - wanted).abs().max() < 1e-4
        moved = (wanted - base)[prior.doc[n]] - (wanted - base)[prior.pre[n]]
        assert abs(read.margins.adapter[n] - moved) < 1e-4
    at_zero = read_adapted(subject, prior, together, torch.zeros(len(ITEMS), subject.n_layers))
    assert torch.equal(at_zero.logits, prior.logits)
    assert bool((at_zero.margins.adapter == 0).all())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@torch.no_grad()
def test_greedy_answers_behind_a_prefix_are_those_of_a_loop_by_hand(family: str) -> None:
    subject = tiny(family)
    prefixes = [prefix(subject, item.document) for item in ITEMS[:3]]
    together = runtime_batch(subject, prefixes, [1, 1, 1])
    gains = torch.tensor([1.0, 1.0, 0.0])[:, None].expand(-1, subject.n_layers)
    answers = generate(subject, ITEMS[:3], together, gains, new_tokens=6)
    for n, item in enumerate(ITEMS[:3]):
        tokens: list[int] = []
        question = subject.tokenize(item.question)
        for _ in range(6):
            divergence = replace(locate(subject, item), tokens=(*question, *tokens), at=len(question) + len(tokens) - 1)
            tokens.append(int(by_hand(family, divergence, prefixes[n] if n < 2 else None).argmax()))
            if tokens[-1] == subject.tokenizer.eos_token_id:
                break
        assert answers[n] == subject.tokenizer.decode(tokens, skip_special_tokens=True)


@torch.no_grad()
def test_a_router_acts_where_its_rule_says_and_nowhere_else() -> None:
    subject = tiny("llama")
    divergences = [locate(subject, item) for item in ITEMS]
    prior = read_prior(subject, ITEMS, divergences)
    adapters = Router(subject).encode(documents_of(ITEMS))
    by_text = {document.text: adapter for document, adapter in zip(documents_of(ITEMS), adapters, strict=True)}
    together = runtime_batch(subject, [by_text[i.document] for i in ITEMS], [p.n_question_tokens for p in divergences])
    read = read_adapted(subject, prior, together, torch.ones(len(ITEMS), subject.n_layers))
    for n, (item, divergence) in enumerate(zip(ITEMS, divergences, strict=True)):
        model, _ = build("llama")
        if item.question.startswith("alpha"):
            for path, update in by_text[item.document].adapter.updates.items():
                model.get_parameter(f"{path}.weight").add_(update.dense())
        wanted = model(input_ids=torch.tensor([divergence.prefix])).logits[0, -1]
        assert (read.logits[n] - wanted).abs().max() < 1e-4
    assert abs(read.margins.adapter[0]) > 0.01
    assert read.margins.adapter[1:].abs().max() < 1e-5


def test_a_method_sees_one_question_without_padding_and_no_answer() -> None:
    subject, seen = tiny("llama"), []

    class Watcher:
        name = "watcher"

        @contextmanager
        def acting(self, subject, question):
            hook = subject.model.get_input_embeddings().register_forward_hook(
                lambda _module, args, _out: seen.append((question.tolist(), args[0].tolist()))
            )
            yield
            hook.remove()

    divergences = [locate(subject, item) for item in ITEMS]
    prior = read_prior(subject, ITEMS, divergences)
    together = runtime_batch(
        subject, [Watcher()] * len(ITEMS), [divergence.n_question_tokens for divergence in divergences]
    )
    read_adapted(subject, prior, together, torch.ones(len(ITEMS), subject.n_layers))
    questions = [subject.tokenize(item.question) for item in ITEMS]
    assert [question for question, _ in seen] == questions
    shared = [subject.tokenize("two") if n == 1 else [] for n in range(len(ITEMS))]
    assert [fed for _, fed in seen] == [[q + more] for q, more in zip(questions, shared, strict=True)]


def test_a_method_that_leaves_a_trace_or_fails_is_named() -> None:
    subject = tiny("llama")
    prior = read_prior(subject, ITEMS[:1], [locate(subject, ITEMS[0])])

    class Stays(Routed):
        @contextmanager
        def acting(self, subject, question):
            subject.model.get_submodule("model.layers.0.mlp").register_forward_hook(lambda _m, _a, out: out * 2)
            yield

    class Breaks(Routed):
        @contextmanager
        def acting(self, subject, question):
            raise KeyError("codebook")
            yield

    for kind, message in ((Breaks, "KeyError: 'codebook'"), (Stays, "left a trace")):
        together = runtime_batch(subject, [kind(_lora(subject, "x"), 0)], [1])
        with pytest.raises(AdapterError, match=message):
            read_adapted(subject, prior, together, torch.ones(1, subject.n_layers))


@pytest.mark.parametrize("gain", [0.5, 1.5, -1.0])
def test_gains_other_than_zero_and_one_are_refused(gain: float) -> None:
    subject = tiny("llama")
    prior = read_prior(subject, ITEMS[:1], [locate(subject, ITEMS[0])])
    together = runtime_batch(subject, [prefix(subject, "alpha")], [3])
    with pytest.raises(AdapterError, match="not a weight update"):
        read_adapted(subject, prior, together, torch.full((1, subject.n_layers), gain))
    mixed = torch.tensor([[1.0] * (subject.n_layers - 1) + [0.0]])
    with pytest.raises(AdapterError, match="the same at all layers"):
        read_adapted(subject, prior, together, mixed)


def test_prefixes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    subject, other = tiny("llama"), tiny("gpt2")
    with pytest.raises(AdapterError, match="made for another model"):
        runtime_batch(subject, [prefix(other, "alpha")], [1])
    whole = prefix(subject, "alpha")
    with pytest.raises(ValueError, match="keys and values"):
        replace(whole, values=whole.values[1:])
    with pytest.raises(ValueError, match="not finite"):
        replace(whole, values=[*whole.values[1:], whole.values[0] * float("nan")])
    with pytest.raises(AdapterError, match="no adapters that can be scaled or written"):
        export(subject, Cartridges(subject), documents_of(ITEMS[:1]), "compact", tmp_path / "c.safetensors")
    source = Cartridges(subject, static=True)
    with pytest.raises(AdapterError, match=r"Adapter, since static is True.*Prefix among them"):
        run(PLAN, subject, source, ITEMS, tmp_path / "run")


@pytest.mark.parametrize("kind", [Cartridges, Router])
def test_a_run_measures_what_needs_no_gain_and_lists_what_it_refused(kind: type, tmp_path: Path) -> None:
    from override_gap.analyses.readings import load
    from override_gap.analyses.summary import summarise

    subject = tiny("llama")
    run(PLAN, subject, kind(subject), ITEMS, tmp_path / "run")
    frame = load(tmp_path / "run")
    assert frame.manifest["conditions"] == [
        "base",
        "as-delivered",
        "relevance-gate",
        "logit-fusion-1.5",
        "in-context",
        "stated-2",
    ]
    refused = frame.manifest["refused"]
    assert {row.get("condition") for row in refused} > {"uniform-1.5", "uniform-3", "slb", "ca", "margin-matched"}
    assert [row["probe"] for row in refused if "probe" in row] == ["layers", "causal", "critical"]
    by_name = {row.get("condition") or row["probe"]: row["reason"] for row in refused}
    assert {name for name, reason in by_name.items() if "the method has none" in reason} == {"joined-2", "contested"}
    assert all("not a weight update" in by_name[name] for name in set(by_name) - {"joined-2", "contested"})
    rows = frame.readings.set_index(["item", "condition"])
    assert (rows.status == "ok").all()
    assert rows.adapter_norm.isna().all()
    assert (rows.xs("base", level="condition").adapter_margin == 0).all()
    assert rows.loc[("c1", "as-delivered"), "adapter_margin"] != 0
    gated, whole = rows.xs("relevance-gate", level="condition"), rows.xs("as-delivered", level="condition")
    assert gated.loc["r", "adapter_margin"] == 0, "the document does not touch that question"
    # fewer rows in one pass: sdpa attention takes another kernel where no row is padded, which rounds otherwise
    assert np.allclose(gated.drop("r").adapter_margin, whole.drop("r").adapter_margin, atol=1e-5)
    fused = rows.xs("logit-fusion-1.5", level="condition")
    assert (fused.adapter_margin - 1.5 * whole.adapter_margin).abs().max() < 1e-4
    stated = rows.xs("stated-2", level="condition").adapter_margin
    assert (stated != whole.adapter_margin)["c1"], "another text, another adapter"
    assert rows.answer_text.notna().sum() == 2 * 5, "two items in words under all but the fusion"
    summary = summarise(frame)
    assert summary["refused"] == refused
    assert summary["verdict"]["label"] == "inconclusive"
    assert summary["layers"] is None
    assert summary["dose"] is None


def test_an_item_too_long_for_its_prefix_is_an_error_row(tmp_path: Path) -> None:
    subject = tiny("gpt2")
    long = conflict(9, " ".join(["alpha"] * 60), document="alpha beta .")
    run(
        replace(PLAN, policies="as-delivered", probes=("margins",)),
        subject,
        Cartridges(subject),
        [ITEMS[0], long],
        tmp_path,
    )
    rows = pd.read_parquet(tmp_path / "readings").set_index("item")
    assert rows.loc["c9", "error"].str.contains("61 tokens behind a prefix of 5, more than the model's 64").all()
    assert (rows.loc["c1", "status"] == "ok").all()


def test_the_handshake_of_methods_that_are_no_weight_update() -> None:
    subject = tiny("llama")

    def checks(source) -> dict[str, bool | None]:
        return {check.name: check.passed for check in check_adapters(subject, source, ITEMS).checks}

    passed = {"base": None, "fits": True, "gain-zero": True, "effect": True, "native": None, "batch": True}
    assert checks(Cartridges(subject)) == passed | {"documents": True}
    assert checks(Router(subject)) == passed | {"documents": None}
    assert checks(Router(subject, words="ten"))["effect"] is None, "it acts on none of the questions, as it may"


@dataclass
class Lookup:
    """Adds a fixed vector to what the last MLP writes at one token of the question: the last one, or number `at`."""

    subject: Subject
    at: int | None = None
    name: str = "lookup"
    settings: dict[str, Any] = field(default_factory=dict)
    static = False

    def encode(self, documents):
        return [replace(self, name=document.key) for document in documents]

    @contextmanager
    def acting(self, subject, question):
        place = len(question) - 1 if self.at is None else min(self.at, len(question) - 1)
        with added(subject.blocks[-1].mlp, place):
            yield

    @torch.no_grad()
    def native_logits(self, document, text):
        model, _ = build("llama")
        ids = self.subject.tokenize(text)
        with added(model.model.layers[-1].mlp, len(ids) - 1):
            return model(input_ids=torch.tensor([ids])).logits[0]


@contextmanager
def added(module: torch.nn.Module, place: int):
    def add(_, args, out):
        return out + torch.linspace(-3, 3, out.shape[-1]) * (torch.arange(out.shape[1]) == place)[:, None]

    hook = module.register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


def test_a_method_that_looks_at_its_input_is_compared_on_a_second_question() -> None:
    """One that looks where its first question ended is right on that question alone."""
    subject = tiny("llama")
    text = "alpha beta gamma red ."
    first, same, longer = (
        conflict(n, question, document=text)
        for n, question in enumerate(("alpha beta", "gamma delta", "zeta eta theta iota"), 1)
    )

    def native(source, items):
        return next(c for c in check_adapters(subject, source, items).checks if c.name == "native").passed

    for items in ([first, same, longer], [first, longer]):
        assert native(Lookup(subject), items) is True
        assert native(Lookup(subject, at=1), items) is False
    assert native(Lookup(subject, at=1), [first]) is True, "on the question that it was made for it is right"
