"""Each input of a run changed by itself: what decides a number changes the run's identity, what decides none does not."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import normalizers
from torch import nn

from override_gap.margins.items.item import Item, questions_hash
from override_gap.margins.published import Reference
from override_gap.probes.plan import Plan
from override_gap.probes.run import manifest
from override_gap.probes.run.loop import run
from override_gap.probes.run.manifest import MEASURING, RunFacts, run_facts, run_identity
from override_gap.probes.run.resolve import resolve
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.folder import RunError
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject, wrap
from tests.conftest import conflict
from tests.families import build

ITEMS = tuple(
    replace(conflict(n, f"{word} mu", "red", "blue", tier="deep"), meta={"relation": "colour", "other": "x"})
    for n, word in enumerate(("alpha", "beta", "gamma"))
)
PLAN = Plan(subject="tiny", adapters="own", items="own", policies="as-delivered,slb", probes=("margins",), chat=True)
TEMPLATE = "{% for message in messages %}alpha {{ message['content'] }} beta {% endfor %}"


@dataclass
class Inputs:
    """What a run is made of, before anything is opened: `around` is in force while it is opened and asked."""

    plan: Plan = PLAN
    items: tuple[Item, ...] = ITEMS
    model: Callable[[Any], Any] = lambda model: None
    tokenizer: Callable[[Any], Any] = lambda tokenizer: None
    source: Callable[[Any], Any] = lambda subject: FittedAdapters(subject, steps=1)
    facts: dict[str, Any] = field(default_factory=dict)
    name: str = "tiny"
    around: Callable[[], AbstractContextManager] = nullcontext


def opened(inputs: Inputs) -> Subject:
    model, tokenizer = build("llama")
    tokenizer.chat_template = TEMPLATE
    inputs.model(model)
    inputs.tokenizer(tokenizer)
    return wrap(model, tokenizer, inputs.name)


@cache
def unchanged() -> Subject:
    """The model of inputs that change nothing of it, opened once."""
    return opened(Inputs())


def identity(inputs: Inputs) -> str:
    """The identity of the run that these inputs begin."""
    plain = Inputs()
    same = all(getattr(inputs, name) is getattr(plain, name) for name in ("model", "tokenizer", "name", "around"))
    with inputs.around():
        subject = unchanged() if same else opened(inputs)
        resolved = resolve(inputs.plan, inputs.items).on_day("2026-01-01")
        facts = run_facts(
            subject,
            inputs.source(subject),
            resolved.chat,
            resolved.chat_sample,
            questions=questions_hash(resolved.items.documents),
            read=resolved.items.items,
        )
        resolved = resolved.for_source(static=facts.static, unread=facts.unread, scope=facts.scope)
        return run_identity(replace(facts, **inputs.facts), resolved, resolved.nulls)


def plan(**changed: Any) -> Inputs:
    return Inputs(plan=replace(PLAN, **changed))


def nudge(model: Any) -> None:
    with torch.no_grad():
        model.get_input_embeddings().weight[60, 0] += 1e-6  # of a token that no item holds


def setting(name: str, value: Any) -> Callable[[Any], None]:
    """A change of one setting of a model's configuration or generation settings, by its dotted name."""

    def change(model: Any) -> None:
        *owners, last = name.split(".")
        for owner in owners:
            model = getattr(model, owner)
        setattr(model, last, value) if not isinstance(model, dict) else model.__setitem__(last, value)

    return change


class Halved(nn.SiLU):
    """An activation of a user's own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) / 2


def own_class(model: Any) -> None:
    model.model.layers[0].mlp.act_fn = Halved()


def own_forward(model: Any) -> None:
    act = model.model.layers[0].mlp.act_fn
    act.forward = types.MethodType(lambda self, x: torch.relu(x), act)


def own_hook(model: Any) -> None:
    model.model.layers[0].register_forward_hook(lambda module, args, output: output)


class Named(FittedAdapters):
    """A source of a user's own: its code is hashed; its adapters depend on a package."""

    packages = ("numpy",)


@contextmanager
def swapped(get: Callable[[], Any], put: Callable[[Any], Any], value: Any) -> Iterator[None]:
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


def flag(owner: Any, name: str, value: Any) -> Inputs:
    return Inputs(around=lambda: swapped(lambda: getattr(owner, name), lambda new: setattr(owner, name, new), value))


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        yield


@contextmanager
def version_of(package: str) -> Iterator[None]:
    true = manifest.installed_version
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "installed_version", lambda name: "0.0.1" if name == package else true(name))
        yield


def other_tokens(tokenizer: Any) -> None:
    """A tokenizer whose own Python makes other tokens of a word, with the same backend and vocabulary."""

    class Own(type(tokenizer)):
        def __call__(self, *args: Any, **settings: Any) -> Any:
            made = super().__call__(*args, **settings)
            rows = made["input_ids"]
            made["input_ids"] = [[3 if n == 4 else n for n in row] if isinstance(row, list) else row for row in rows]
            return made

    tokenizer.__class__ = Own


#: Every setting of a plan, changed so that something else is measured.
OF_THE_PLAN: dict[str, Any] = {
    "policies": "as-delivered,uniform-1.2",
    "probes": ("margins", "layers"),
    "answers": 3,
    "seed": 1,
    "system_prompt": "gamma",
    "template_args": {"other": True},
    "prior": "from-base",
    "cluster": "other",
    "reference": True,
    "chat": False,
}
#: Settings that count with others, or by what they name.
WITH_OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dose_items": ({"probes": ("margins", "prior-dose")}, {"dose_items": 61}),
    "temperatures": ({"probes": ("margins", "sampled")}, {"temperatures": (0.5,)}),
    "draws": ({"probes": ("margins", "sampled")}, {"draws": 5}),
}
#: Words for what is hashed by its content (what each names is changed below), how the work is cut, and what only a page shows.
BY_CONTENT: dict[str, Any] = {
    "subject": "other",
    "adapters": "other",
    "items": "other",
    "device": "cpu",
    "dtype": "float32",
    "adapter_map": "map.json",
    "shared_adapter": "folder",
    "limit": 2,
    "batch_size": 7,
    "references": (Reference("conflict", "as-delivered", "top1", 0.5, "a paper"),),
}
#: What belongs to a plan's file and is tested by itself.
ELSEWHERE = {"chat_template"}

MUTATIONS: dict[str, Inputs] = {
    "the weights of the model": Inputs(model=nudge),
    "a setting of the model's architecture": Inputs(model=setting("config.rms_norm_eps", 1e-3)),
    "rope": Inputs(model=setting("config.rope_parameters.rope_theta", 5000.0)),
    "the implementation of attention": Inputs(model=setting("config._attn_implementation", "eager")),
    "the tokens that end an answer": Inputs(model=setting("generation_config.eos_token_id", [2, 3])),
    "another setting of generation": Inputs(model=setting("generation_config.repetition_penalty", 1.3)),
    "the number format": Inputs(model=lambda model: model.to(torch.bfloat16)),
    "a class of the user's own in the model": Inputs(model=own_class),
    "a forward of the user's own on a module": Inputs(model=own_forward),
    "a hook of the user's own": Inputs(model=own_hook),
    "the tokenizer's vocabulary": Inputs(tokenizer=lambda t: t.add_tokens(["sigmatau"])),
    "the tokenizer's normaliser": Inputs(
        tokenizer=lambda t: setattr(t.backend_tokenizer, "normalizer", normalizers.Lowercase())
    ),
    "the tokenizer's special tokens": Inputs(tokenizer=lambda t: setattr(t, "eos_token", "red")),
    "the tokenizer's own code": Inputs(tokenizer=other_tokens),
    "how text is put together from tokens": Inputs(
        tokenizer=lambda t: setattr(t, "clean_up_tokenization_spaces", True)
    ),
    "the chat template": Inputs(tokenizer=lambda t: setattr(t, "chat_template", TEMPLATE.replace("beta", "gamma"))),
    "TF32 in products": flag(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "TF32 in oneDNN's products": flag(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision", "tf32"),
    "sums of bfloat16": flag(torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False),
    "sums of float16": flag(torch.backends.cuda.matmul, "allow_fp16_accumulation", True),
    "deterministic algorithms": Inputs(
        around=lambda: swapped(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True)
    ),
    "a variable that turns TF32 on": Inputs(around=lambda: variable("NVIDIA_TF32_OVERRIDE", "1")),
    "a variable of oneDNN": Inputs(around=lambda: variable("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")),
    "the name of the source": Inputs(facts={"source": "other"}),
    "a setting of the source": Inputs(source=lambda subject: FittedAdapters(subject, steps=2)),
    "the code of the source": Inputs(source=lambda subject: Named(subject, steps=1)),
    "two settings of one condition": plan(policies="as-delivered,logit-fusion-1.2345678"),
    **{f"the version of {name}": Inputs(around=lambda name=name: version_of(name)) for name in MEASURING},
    **{f"--{name}": plan(**{name: value}) for name, value in OF_THE_PLAN.items()},
    "an item fewer": Inputs(items=ITEMS[:2]),
}
NEUTRAL: dict[str, Inputs] = {
    "nothing": Inputs(),
    "the name of the subject": Inputs(name="other"),
    "a variable that decides nothing": Inputs(around=lambda: variable("OVERRIDE_GAP_OTHER", "1")),
    "a variable at its default": Inputs(around=lambda: variable("ONEDNN_DEFAULT_FPMATH_MODE", "strict")),
    "a package that measures nothing": Inputs(around=lambda: version_of("pandas")),
    "where the configuration was read from": Inputs(model=setting("config._name_or_path", "/elsewhere")),
    "precision that is set to what it was": flag(torch.backends.cuda.matmul, "fp32_precision", "ieee"),
    "threads": Inputs(around=lambda: swapped(torch.get_num_threads, torch.set_num_threads, 2)),
    **{f"--{name}": plan(**{name: value}) for name, value in BY_CONTENT.items()},
}


@pytest.fixture(scope="module")
def before() -> str:
    return identity(Inputs())


@pytest.mark.parametrize("what", MUTATIONS)
def test_what_decides_a_number_changes_the_identity(what: str, before: str) -> None:
    assert identity(MUTATIONS[what]) != before


@pytest.mark.parametrize("what", NEUTRAL)
def test_what_decides_no_number_changes_nothing(what: str, before: str) -> None:
    assert identity(NEUTRAL[what]) == before


def test_conditions_that_share_a_name_are_told_apart() -> None:
    two = [identity(plan(policies=f"as-delivered,logit-fusion-1.2345{end}")) for end in ("678", "679")]
    assert two[0] != two[1]


def test_the_version_of_a_package_that_a_source_names() -> None:
    own, other = Inputs(source=lambda subject: Named(subject, steps=1)), lambda: version_of("numpy")
    assert identity(own) != identity(replace(own, around=other))
    assert identity(Inputs()) == identity(Inputs(around=other))


@pytest.mark.parametrize("name", WITH_OTHERS)
def test_a_setting_that_counts_with_others(name: str) -> None:
    beside, changed = WITH_OTHERS[name]
    assert identity(plan(**beside)) != identity(plan(**beside, **changed))
    assert identity(plan()) == identity(plan(**changed)), "and by itself it measures nothing else"


def test_the_content_of_a_templates_file(tmp_path: Path, before: str) -> None:
    file = tmp_path / "template.jinja"
    file.write_text(TEMPLATE.replace("beta", "delta"))
    first = identity(plan(chat_template=str(file)))
    file.write_text(TEMPLATE.replace("beta", "epsilon"))
    assert len({before, first, identity(plan(chat_template=str(file)))}) == 3


def test_no_setting_of_a_plan_is_left_out() -> None:
    """A new setting is put into one of these: it changes what is measured, or it does not."""
    known = [*OF_THE_PLAN, *WITH_OTHERS, *BY_CONTENT, *ELSEWHERE]
    assert sorted(known) == sorted(f.name for f in fields(Plan))


#: Of a run's facts, those that follow from others or are compared by other means (`basis`, `witness`).
FOLLOWS = {
    *("static", "scope", "parity", "parity_tolerance", "attribution_tolerance", "unread"),
    *("basis", "witness", "own_code"),
}
DECIDES: dict[str, Any] = {
    "subject": {"fingerprint": "other"},
    "device": "cuda",
    "dtype": "torch.float16",
    "source": "other",
    "settings": {"other": 1},
    "chat": None,
    "computing": {},
}


@pytest.mark.parametrize("name", DECIDES)
def test_each_fact_that_decides_is_in_the_identity(name: str, before: str) -> None:
    assert identity(Inputs(facts={name: DECIDES[name]})) != before


def test_no_fact_is_left_out() -> None:
    assert sorted([*DECIDES, *FOLLOWS]) == sorted(f.name for f in fields(RunFacts))


CHANGED_ITEM: dict[str, Any] = {
    "split": "novel",
    "meta": {"relation": "other"},
    "aliases": ("rose",),
    "prior_aliases": ("navy",),
    "chat": True,
    "separator": " ",
}


@pytest.mark.parametrize("name", [f.name for f in fields(Item)])
def test_each_field_of_an_item_is_in_the_identity(name: str) -> None:
    value = getattr(ITEMS[0], name)
    changed = CHANGED_ITEM[name] if name in CHANGED_ITEM else f"{value} nu" if isinstance(value, str) else "nu"
    plain = replace(PLAN, chat=False, limit=None)
    one, other = (
        identity(Inputs(plan=plain, items=rows)) for rows in (ITEMS, (replace(ITEMS[0], **{name: changed}), *ITEMS[1:]))
    )
    assert one != other


CODE = """
from torch import nn
from transformers import LlamaForCausalLM
from .scale import SCALE

class Scaled(nn.Module):
    def forward(self, x):
        return nn.functional.silu(x) * SCALE

class OwnForCausalLM(LlamaForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        for layer in self.model.layers:
            layer.mlp.act_fn = Scaled()
"""


def test_a_models_own_code_edited_between_two_halves_of_a_run(tmp_path: Path, monkeypatch) -> None:
    """In a module that its module imports; the weights and the configuration stay, and a margin would differ by 0.5 nats."""
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 1)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    folder = tmp_path / "own"
    model, tokenizer = build("llama")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    own = {"auto_map": {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}, "architectures": ["OwnForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config | own))
    (folder / "modeling_own.py").write_text(CODE)
    audited = replace(PLAN, subject=str(folder), policies="as-delivered", chat=False)

    def stopped(done: int, total: int, what: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    halves = []
    for scale in (1.0, 1.5):
        (folder / "scale.py").write_text(f"SCALE = {scale}\n")
        halves.append(open_subject(str(folder), device="cpu", dtype="float32", trust=True))
    first, second = halves
    assert first.fingerprint == second.fingerprint
    assert (first.reference - second.reference).abs().max() > 0.1
    assert list(first.computing["code"]) == ["modeling_own"]
    with pytest.raises(KeyboardInterrupt):
        run(audited, first, FittedAdapters(first, steps=1), ITEMS, tmp_path / "run", stopped)
    with pytest.raises(
        RunError, match=r"holds another audit \(what differs: the model's own code, modeling_own: there"
    ):
        run(audited, second, FittedAdapters(second, steps=1), ITEMS, tmp_path / "run")
    same = open_subject(str(folder), device="cpu", dtype="float32", trust=True)
    assert same.computing == second.computing


def test_a_model_that_answers_otherwise_is_not_measured_further(tmp_path: Path, monkeypatch) -> None:
    """Whatever decides logits and is hashed nowhere: here a function of a library, put in its place by another."""
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 1)
    audited = replace(PLAN, policies="as-delivered", chat=False)

    def stopped(done: int, total: int, what: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    subject = wrap(*build("llama"), "tiny")
    with pytest.raises(KeyboardInterrupt):
        run(audited, subject, FittedAdapters(subject, steps=1), ITEMS, tmp_path / "run", stopped)
    with monkeypatch.context() as patch:
        silu = nn.functional.silu
        patch.setattr(nn.functional, "silu", lambda x, inplace=False: 1.01 * silu(x))
        other = wrap(*build("llama"), "tiny")
        with pytest.raises(
            RunError, match=r"its logits on the same tokens differ by 0\.\d+ nats from when the run began"
        ):
            run(audited, other, FittedAdapters(other, steps=1), ITEMS, tmp_path / "run")
    again = wrap(*build("llama"), "tiny")
    run(audited, again, FittedAdapters(again, steps=1), ITEMS, tmp_path / "run")
