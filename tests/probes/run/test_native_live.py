"""What is planted between a source and its own live logits fails a named check, on every way that has such logits."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from override_gap.margins.adapter import Adapter, AdapterSource, traits_of
from override_gap.margins.items.item import Document, Item, documents_of
from override_gap.margins.updates import Dense, LowRank, Update
from override_gap.probes.errors import AdapterError
from override_gap.probes.items import open_items
from override_gap.probes.run.checks import Handshake
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.sources import open_source
from override_gap.probes.sources.export import export
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject, wrap
from tests.conftest import conflict, tiny
from tests.families import build

TINY = [conflict(1), conflict(2, "zeta eta theta")]
WAYS = {
    "fitted:modules=o_proj,steps=8,lr=3e-2": "native",
    "rank-one:modules=o_proj,position=surprise": "native",
    "native_method:source": "native",
    "hypernetwork": "fits",
}
"""Each way with what finds a transposed weight: its map is square, so that only the logits tell, or it does not fit."""
METHOD = """
import copy

import torch

from override_gap.margins.adapter import Adapter, LowRank

PATH, SHARED = "model.layers.1.self_attn.o_proj", "model.layers.0.self_attn.o_proj"


class Method:
    name, settings = "method", {}

    def __init__(self, subject):
        self.subject = subject

    def factors(self, seed):
        draw = torch.Generator().manual_seed(seed)
        return torch.randn(2, 32, generator=draw) * 0.4, torch.randn(32, 2, generator=draw) * 0.4

    def encode(self, documents):
        shared = {SHARED: LowRank(*self.factors(0), scale=1.5)}
        return [Adapter(d.key, {PATH: LowRank(*self.factors(sum(d.text.encode())), scale=1.5)}, shared) for d in documents]

    def native_logits(self, document, text):
        model = copy.deepcopy(self.subject.model)
        with torch.no_grad():
            for path, seed in ((PATH, sum(document.text.encode())), (SHARED, 0)):
                A, B = self.factors(seed)
                model.get_parameter(path + ".weight").add_(1.5 * B @ A)
            return model(input_ids=torch.tensor([self.subject.tokenize(text)])).logits[0]


def source(subject):
    return Method(subject)
"""


@dataclass
class Planted:
    """A source whose adapters are changed on the way; its own logits are not."""

    source: Any
    change: Callable[[list[Adapter]], list[Adapter]]
    name: str = "planted"
    settings: Any = None

    def __post_init__(self) -> None:
        self.settings = {}

    @property
    def native_logits(self) -> Any:
        return getattr(self.source, "native_logits", None)

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        return self.change(self.source.encode(documents))


@dataclass
class Returning(Planted):
    """A source whose `native_logits` returns something of its own."""

    returned: Any = None

    @property
    def native_logits(self) -> Any:
        return lambda _document, _text: self.returned


def each(change: Callable[[Update], Update]) -> Callable[[list[Adapter]], list[Adapter]]:
    def changed(adapters: list[Adapter]) -> list[Adapter]:
        return [
            replace(
                a,
                updates={p: change(u) for p, u in a.updates.items()},
                shared={p: change(u) for p, u in a.shared.items()},
            )
            for a in adapters
        ]

    return changed


def times(factor: float) -> Callable[[list[Adapter]], list[Adapter]]:
    def louder(update: Update) -> Update:
        assert isinstance(update, LowRank)
        return replace(update, scale=update.scale * factor)

    return each(louder)


PLANTS: dict[str, Callable[[list[Adapter]], list[Adapter]]] = {
    "right": each(lambda update: update),
    "8 times": times(8.0),
    "16 times": times(16.0),
    "an eighth": times(0.125),
    "transposed": each(lambda update: Dense(update.dense().T.contiguous())),
    "exchanged": lambda adapters: adapters[::-1],
    "shared part forgotten": lambda adapters: [replace(a, shared={}) for a in adapters],
}


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(name, subject, items, source) of each way in which this toolkit gets live logits."""
    monkeypatch.chdir(tmp_path)
    Path("native_method.py").write_text(METHOD, encoding="utf-8")
    importlib.invalidate_caches()
    subject = open_subject("organism") if request.param == "hypernetwork" else tiny("llama")
    items = open_items("organism")[:40] if request.param == "hypernetwork" else TINY
    return request.param, subject, items, open_source(request.param, subject)


def test_every_plant_is_caught_on_every_way_with_live_logits(
    way: tuple[str, Subject, list[Item], AdapterSource],
) -> None:
    name, subject, items, source = way
    assert traits_of(source).native_logits is not None
    found: dict[str, list[str]] = {}
    scales: dict[str, bool | None] = {}
    for plant, change in PLANTS.items():
        result = check_adapters(subject, Planted(source, change), items)
        found[plant] = [check.name for check in result.failed]
        scales[plant] = result.scale.verified
    has_shared = name == "native_method:source"
    assert found == {
        "right": [],
        "8 times": ["native"],
        "16 times": ["native"],
        "an eighth": ["native"],
        "transposed": [WAYS[name]],
        "exchanged": ["native"],
        "shared part forgotten": ["native"] if has_shared else [],
    }
    unsaid = {"right"} if has_shared else {"right", "shared part forgotten"}
    assert {plant for plant, verified in scales.items() if verified} == unsaid


@pytest.mark.parametrize(
    ("returned", "came"),
    [
        (None, "None"),
        ([1.0], "list"),
        (torch.tensor(1.0), r"float32 \[\]"),
        (torch.zeros(0, 3), r"float32 \[0, 3\]"),
        (torch.zeros(3, dtype=torch.int64), r"int64 \[3\]"),
    ],
)
def test_native_logits_that_are_no_logits_are_told_in_one_line(returned: Any, came: str, tmp_path: Path) -> None:
    subject = tiny("llama")
    source = Returning(open_source("fitted:modules=o_proj,steps=1,lr=3e-2", subject), list, returned=returned)
    [check] = check_adapters(subject, source, TINY).failed
    message = rf"source planted: native_logits needs a tensor \[vocab\] or \[pos, vocab\], got {came}"
    assert check.name == "native"
    assert re.fullmatch(message, check.says)
    with pytest.raises(AdapterError, match=message):
        export(subject, source, documents_of(TINY), "compact", tmp_path / "a")


def test_a_live_check_that_fails_names_the_documents_first_words() -> None:
    subject = tiny("llama")
    honest = open_source("fitted:modules=o_proj,steps=8,lr=3e-2", subject)
    second = Planted(honest, lambda adapters: [adapters[0], *times(8.0)(adapters[1:])])
    [check] = check_adapters(subject, second, TINY).failed
    assert f"(1 of 2 texts agree, the largest difference is on document {TINY[1].document[:40]!r}, text " in check.says


def other_base(subject: Subject) -> Subject:
    """The same shapes and tokenizer, one matrix 1% larger."""
    model, tokenizer = build("llama")
    with torch.no_grad():
        model.get_parameter("model.layers.0.self_attn.v_proj.weight").mul_(1.01)
    return wrap(model, tokenizer, f"{subject.name}-other")


@pytest.mark.parametrize("spec", ["fitted:modules=o_proj,steps=8,lr=3e-2", "rank-one:modules=o_proj,position=surprise"])
def test_adapters_of_another_base_are_caught_by_their_logits(spec: str) -> None:
    subject = tiny("llama")
    source = Planted(open_source(spec, subject), lambda adapters: adapters)

    def failed(on: Subject) -> list[str]:
        result: Handshake = check_adapters(on, source, TINY)
        return [check.name for check in result.failed]

    assert failed(subject) == []
    assert failed(other_base(subject)) == ["native"]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_merging_leaves_the_weights_as_they_were(family: str) -> None:
    """Also where the model stores its weights transposed; and merged logits are those of an edited copy's own forward."""
    subject = tiny(family)
    source: Any = open_source("fitted:steps=10,lr=3e-2", subject)
    document = Document("alpha beta gamma delta .")
    before = {name: weight.clone() for name, weight in subject.model.named_parameters()}
    merged = source.native_logits(document, "alpha beta gamma")
    assert all(torch.equal(weight, before[name]) for name, weight in subject.model.named_parameters())
    model, _ = build(family)
    [adapter] = source.encode([document])
    with torch.no_grad():
        for path, update in adapter.updates.items():
            change = update.dense().T if subject.sites[path].transposed else update.dense()
            model.get_parameter(f"{path}.weight").add_(change)
        right = model(input_ids=torch.tensor([subject.tokenize("alpha beta gamma")])).logits[0, -1]
    assert torch.allclose(merged, right, atol=1e-5)


def test_a_fault_is_no_own_model_of_the_hypernetworks() -> None:
    subject = open_subject("organism")
    result = check_adapters(subject, open_source("hypernetwork:fault=clipped", subject), open_items("organism")[:40])
    assert (result.scale.verified, result.scale.says.partition(":")[0]) == (None, "not verified")


def test_a_compact_file_carries_the_live_logits_of_its_source(tmp_path: Path) -> None:
    """The adapters of the file, turned up, disagree with the logits that the file holds."""
    subject = tiny("llama")
    documents = documents_of(TINY)
    assert export(subject, open_source("fitted:steps=8,lr=3e-2", subject), documents, "compact", tmp_path / "a") == 2
    read: Any = open_source(f"compact:{tmp_path / 'a'}", subject)
    assert len(read.native_examples()) == 2
    assert check_adapters(subject, read, TINY).scale.verified is True
    wrong = [replace(e, adapter=times(8.0)([e.adapter])[0]) for e in read.native_examples()]
    louder = Planted(read, times(8.0))
    louder.native_examples = lambda: wrong  # type: ignore[attr-defined]
    assert [check.name for check in check_adapters(subject, louder, TINY).failed] == ["native"]
