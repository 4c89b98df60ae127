"""A user's own source: the example of docs/your-method.md as written, entry points, and what is refused."""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import torch

from override_gap.margins.adapter import AdapterSource, LowRank, traits_of
from override_gap.margins.items.item import Document, Item, documents_of
from override_gap.probes import catalogue
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.stack import stack
from override_gap.probes.errors import AdapterError
from override_gap.probes.run.handshake import Check, check_adapters
from override_gap.probes.sources import open_source
from override_gap.probes.sources.custom import encode_checked, load_object, require_source
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, tiny

GUIDE = (Path(__file__).parents[3] / "docs" / "your-method.md").read_text()
IDS = torch.tensor([[3, 4, 5, 6]])


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The guide's example in a file of the current folder."""
    code = re.search(r"```python\n(.*?)```", GUIDE, re.S)
    assert code is not None
    (tmp_path / "my_method.py").write_text(code[1] + "\nnumber = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_method", raising=False)
    return tmp_path / "my_method.py"


def test_the_guides_example_runs(module: Path) -> None:
    subject = tiny("llama")
    source = open_source("my_method:source", subject)
    assert traits_of(source).base_fingerprint == subject.fingerprint
    adapters = source.encode([Document("alpha beta"), Document("gamma")])
    assert adapters[0].hash() != adapters[1].hash()
    update = adapters[0].updates["model.layers.1.mlp.down_proj"]
    weight = subject.model.get_submodule("model.layers.1.mlp.down_proj").weight
    assert update.shape == tuple(weight.shape)
    with torch.no_grad():
        base = subject.model(input_ids=IDS).logits
        with attached(subject, stack(subject, adapters[:1]), torch.ones(1, subject.n_layers)):
            assert (subject.model(input_ids=IDS).logits - base).abs().max() > 1e-3


def native_check(subject: Subject, source: AdapterSource, items: Sequence[Item] | None = None) -> Check:
    asked = items or [conflict(1, "alpha beta", "red", "blue"), conflict(2, "gamma delta", "one", "two")]
    return next(check for check in check_adapters(subject, source, asked).checks if check.name == "native")


def test_the_guides_native_logits_verify_its_scale_and_notice_another(module: Path, monkeypatch) -> None:
    subject = tiny("llama")
    source = open_source("my_method:source", subject)
    before = subject.probe_logits()
    assert native_check(subject, source).passed is True
    wrong = lambda text: {p: LowRank(A, B, scale=0.8) for p, (A, B) in source.factors(text).items()}  # noqa: E731
    monkeypatch.setattr(source, "updates", wrong)
    assert native_check(subject, source).passed is False
    assert torch.equal(subject.probe_logits(), before)


def test_the_guides_editor_edits_what_it_is_told_and_its_scale_is_verified(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "my_editor.py").write_text(re.findall(r"```python\n(.*?)```", GUIDE, re.S)[2])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_editor", raising=False)
    subject = tiny("llama")
    source = open_source("my_editor:editor", subject)
    assert traits_of(source).reads_questions
    items = [conflict(1, "alpha beta", "red", "blue"), conflict(2, "gamma delta", "one", "two")]
    told = [replace(item, document=item.document + " mu") for item in items] + [
        Item("kept", "p", "retention", items[0].document + " mu", "one two", "alpha")
    ]
    first, second = documents_of(told)
    adapters = source.encode([first, second])
    for document, adapter in zip((first, second), adapters, strict=True):
        model = copy.deepcopy(subject.model)
        [(path, update)] = adapter.updates.items()
        with torch.no_grad():
            ids = torch.tensor([subject.tokenize(document.questions[0].prompt)])
            before = subject.model(input_ids=ids).logits[0, -1]
            model.get_submodule(path).weight += update.dense()
            after = model(input_ids=ids).logits[0, -1]
        target = subject.tokenize(" " + document.questions[0].target, special=False)[0]
        assert (after - before)[target] == (after - before).max()
    assert native_check(subject, source, told).passed is True
    monkeypatch.setattr(source, "edit", lambda document: replace(type(source).edit(source, document), scale=8.0))
    assert native_check(subject, source, told).passed is False
    other = replace(first, questions=(replace(first.questions[0], target="three"),))
    assert adapters[0].hash() != type(source)(subject).encode([other])[0].hash()
    with pytest.raises(AdapterError, match="answers none of its questions"):
        encode_checked(source, [replace(first, questions=first.questions[1:])])


def test_an_entry_point_is_a_name(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("my-method", "my_method:source", catalogue.SOURCES_GROUP)])
    monkeypatch.setattr(catalogue, "entry_points", lambda group: points.select(group=group))
    assert open_source("my-method", tiny("llama")).name == "my-method"
    assert "my-method" not in catalogue.ADAPTERS


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "no_such_module_here:x",
            r"neither an installed module nor a file no_such_module_here\.py .*; run this in the",
        ),
        ("my_methd:source", r"did you mean my_method:source\?"),
        ("my_method.py:source", r"did you mean my_method:source\?"),
        ("my_method", "write --adapters my_method:OBJECT"),
        ("my_method:nothing", "my_method has no 'nothing'"),
        ("my_method:sorce", r"did you mean 'source'\?"),
        ("my_method:number", "got int"),
        ("my_method:MyMethod.__name__", "got str"),
    ],
)
def test_what_is_no_source_is_refused(spec: str, message: str, module: Path) -> None:
    with pytest.raises(AdapterError, match=message):
        open_source(spec, tiny("llama"))


@pytest.mark.parametrize(
    ("settings", "where", "kind"),
    [
        ("{'seed': torch.tensor(3)}", "seed", "of type Tensor"),
        ("{'a': {'b': [1, torch.tensor(3)]}}", r"a\.b\[1\]", "of type Tensor"),
        ("{'a': {1: 'x'}}", r"a\.1", "of type int"),
        ("{'lr': float('nan')}", "lr", "nan"),
        ("{3: 'x'}", "3", "of type int"),
    ],
)
def test_settings_that_are_no_json_are_refused_where_a_source_is_opened(
    settings: str, where: str, kind: str, module: Path
) -> None:
    module.write_text(
        module.read_text()
        + f"\n\ndef other(subject):\n    made = source(subject)\n    made.settings = {settings}\n    return made\n"
    )
    subject, message = tiny("llama"), rf"source my-method: setting '{where}' is {kind}; need plain JSON"
    with pytest.raises(AdapterError, match=rf"^--adapters my_method:other: {message}"):
        open_source("my_method:other", subject)
    source = load_object("my_method:other")(subject)
    with pytest.raises(AdapterError, match=f"^adapters: {message}"):
        require_source(source, "adapters")
    [fits] = check_adapters(subject, source, [conflict(1)]).failed
    assert fits.name == "fits"
    assert re.search(message, fits.says)


def test_settings_of_plain_json_are_taken(module: Path) -> None:
    plain = {"a": [1, 2.5, None, True], "b": {"c": ("x", {"d": []})}}
    module.write_text(
        module.read_text()
        + f"\n\ndef other(subject):\n    made = source(subject)\n    made.settings = {plain!r}\n    return made\n"
    )
    assert json.loads(json.dumps(open_source("my_method:other", tiny("llama")).settings))["b"] == {
        "c": ["x", {"d": []}]
    }


def test_a_source_that_is_not_static_must_not_hand_over_updates(module: Path) -> None:
    module.write_text(module.read_text() + "\nMyMethod.static = False\n")
    source = open_source("my_method:source", tiny("llama"))
    with pytest.raises(AdapterError, match=r"Prefix or RuntimeAdapter, since static is False.*Adapter among them"):
        encode_checked(source, [Document("alpha beta")])


@pytest.mark.parametrize(("name", "value"), [("scope", "universe"), ("template", "no place"), ("native_logits", 3)])
def test_traits_that_make_no_sense_are_refused(name: str, value: object, module: Path) -> None:
    source = open_source("my_method:source", tiny("llama"))
    setattr(source, name, value)
    with pytest.raises(ValueError, match=name):
        traits_of(source)
