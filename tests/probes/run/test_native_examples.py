"""Native examples, live or from a kit's file: what is planted fails a named check, and only a strong adapter verifies a scale."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from override_gap.margins.adapter import Adapter, NativeExample
from override_gap.margins.items.item import Document, documents_of
from override_gap.margins.updates import LowRank
from override_gap.probes.export_kit import kit
from override_gap.probes.run import native
from override_gap.probes.run.checks import Handshake
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.sources.compact import read_compact
from override_gap.probes.subject.model import Subject, wrap
from tests.conftest import conflict, tiny
from tests.families import build

ITEMS = [conflict(1), conflict(2, "zeta eta theta")]
DOCUMENTS = documents_of(ITEMS)
SQUARE, WIDE = "model.layers.1.self_attn.o_proj", "model.layers.0.mlp.down_proj"
SCALE = 1.5
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]


def factors(subject: Subject, seed: int, size: float = 0.4) -> Factors:
    """A and B of two maps, one of them square."""
    draw = torch.Generator().manual_seed(seed)
    made = {}
    for path in (SQUARE, WIDE):
        site = subject.sites[path]
        A, B = torch.randn(2, site.d_in, generator=draw), torch.randn(site.d_out, 2, generator=draw)
        made[path] = (size * A, size * B)
    return made


def own_logits(parts: list[Factors], ids: list[int], family: str = "llama") -> torch.Tensor:
    """The method's own adapted model: SCALE * B A of each part added to the weights of a copy, its own forward."""
    model, _ = build(family)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for part in parts:
            for path, (A, B) in part.items():
                changed.get_parameter(f"{path}.weight").add_(SCALE * (B @ A))
        return changed(input_ids=torch.tensor([ids])).logits[0]


@dataclass
class Exporter:
    """A method beside the kit. Its logits are always right; what it writes as factors may not be."""

    subject: Subject
    size: float = 0.4
    shared_size: float = 0.2

    def __post_init__(self) -> None:
        self.own = {d.key: factors(self.subject, n + 1, self.size) for n, d in enumerate(DOCUMENTS)}
        self.shared = factors(self.subject, 99, self.shared_size)

    def native(self) -> list[tuple[str, str, list[int], torch.Tensor]]:
        rows = []
        for item, document in zip(ITEMS, DOCUMENTS, strict=True):
            ids = self.subject.tokenize(item.question)
            rows.append((document.key, item.question, ids, own_logits([self.own[document.key], self.shared], ids)))
        return rows

    def write(self, path: Path, **changed: Any) -> Path:
        rows = [{"document": d.text, "ids": list(d.ids), "points": list(d.points)} for d in DOCUMENTS]
        right = {"scale": SCALE, "shared": self.shared, "native": self.native()}
        made = changed.pop("factors", [self.own[d.key] for d in DOCUMENTS])
        kit.write(path, rows, made, method="exported", **(right | changed))
        return path


def shaken(subject: Subject, file: Path) -> Handshake:
    return check_adapters(subject, read_compact(file), ITEMS)


def failed(result: Handshake) -> list[str]:
    return [check.name for check in result.failed]


def test_a_sound_file_of_the_kit_verifies_its_scale(tmp_path: Path) -> None:
    subject = tiny("llama")
    result = shaken(subject, Exporter(subject).write(tmp_path / "a.safetensors"))
    assert failed(result) == []
    assert result.scale.verified is True
    assert result.scale.gap_nats is not None
    assert result.scale.gap_nats < 1e-4
    assert result.scale.says.startswith("verified to ")
    assert "against the method's own logits" in result.scale.says
    assert {check.name: check.passed for check in result.checks}["tokens"] is True


def transposed(part: Factors) -> Factors:
    """The square map's B A as A^T B^T, of the same shape."""
    A, B = part[SQUARE]
    return part | {SQUARE: (B.T.contiguous(), A.T.contiguous())}


PLANTS: dict[str, Callable[[Exporter], dict[str, Any]]] = {
    "8 times": lambda e: {"scale": SCALE * 8},
    "16 times": lambda e: {"scale": SCALE * 16},
    "an eighth": lambda e: {"scale": SCALE / 8},
    "transposed": lambda e: {"factors": [transposed(e.own[d.key]) for d in DOCUMENTS]},
    "shared part forgotten": lambda e: {"shared": None},
    "documents exchanged": lambda e: {"factors": [e.own[d.key] for d in reversed(DOCUMENTS)]},
    "one scale per module wrong": lambda e: {"scale": {SQUARE: SCALE, WIDE: SCALE * 2}},
}


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_in_a_kits_file_is_caught(plant: str, tmp_path: Path) -> None:
    subject = tiny("llama")
    exporter = Exporter(subject)
    result = shaken(subject, exporter.write(tmp_path / "a.safetensors", **PLANTS[plant](exporter)))
    assert failed(result) == ["native"]
    assert result.scale.verified is False
    assert result.scale.says.startswith("not verified: logits differ by")


def test_another_base_is_caught_with_and_without_its_fingerprint(tmp_path: Path) -> None:
    """Of the same shapes, so that every update fits: without a fingerprint only the logits tell."""
    subject = tiny("llama")
    model, tokenizer = build("llama")
    with torch.no_grad():
        model.get_parameter("model.layers.0.self_attn.v_proj.weight").mul_(1.01)
    other = wrap(model, tokenizer, "other")
    exporter = Exporter(subject)
    plain = exporter.write(tmp_path / "a.safetensors")
    stated = exporter.write(tmp_path / "b.safetensors", base_fingerprint=subject.fingerprint)
    assert failed(shaken(other, plain)) == ["native"]
    assert failed(shaken(other, stated)) == ["base", "native"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (PLANTS["8 times"], "at gain 0.125 they agree: the scale is 8 times too large"),
        (PLANTS["an eighth"], "at gain 8 they agree: the scale is 8 times too small"),
        (PLANTS["documents exchanged"], "with the two documents' adapters exchanged they agree"),
        (PLANTS["transposed"], ""),
    ],
)
def test_what_would_make_the_logits_agree_is_said(change: Any, words: str, tmp_path: Path) -> None:
    subject = tiny("llama")
    exporter = Exporter(subject)
    exporter.shared = {}
    [check] = shaken(subject, exporter.write(tmp_path / "a.safetensors", **change(exporter))).failed
    assert check.says.partition("; ")[2].partition("; ")[2] == words


def test_a_failing_check_names_the_document_and_counts_the_texts_that_agree(tmp_path: Path) -> None:
    subject = tiny("llama")
    exporter = Exporter(subject)
    sound, spoilt = (exporter.own[document.key] for document in DOCUMENTS)
    one_wrong = [sound, {path: (A, 3 * B) for path, (A, B) in spoilt.items()}]
    [check] = shaken(subject, exporter.write(tmp_path / "a.safetensors", factors=one_wrong)).failed
    said = f"(1 of 2 texts agree, the largest difference is on document 'exported:{DOCUMENTS[1].key}', text "
    assert said + repr(ITEMS[1].question[:40]) in check.says
    first_wrong = [{path: (A, 3 * B) for path, (A, B) in sound.items()}, spoilt]
    [check] = shaken(subject, exporter.write(tmp_path / "b.safetensors", factors=first_wrong)).failed
    assert f"(1 of 2 texts agree, the largest difference is on document 'exported:{DOCUMENTS[0].key}'" in check.says
    [check] = shaken(subject, exporter.write(tmp_path / "c.safetensors", scale=SCALE * 8)).failed
    assert "(0 of 2 texts agree, " in check.says


def test_logits_of_a_model_without_its_adapter_are_told_as_such(tmp_path: Path) -> None:
    subject = tiny("llama")
    exporter = Exporter(subject)
    unadapted = [(key, text, ids, own_logits([], ids)) for key, text, ids, _ in exporter.native()]
    [check] = shaken(subject, exporter.write(tmp_path / "a.safetensors", native=unadapted)).failed
    assert check.says.endswith("those of the base: its adapter was not active when they were computed")


def test_a_shared_part_that_the_method_does_not_add_is_told(tmp_path: Path) -> None:
    subject = tiny("llama")
    exporter = Exporter(subject)
    bare = [(key, text, ids, own_logits([exporter.own[key]], ids)) for key, text, ids, _ in exporter.native()]
    [check] = shaken(subject, exporter.write(tmp_path / "a.safetensors", native=bare)).failed
    assert check.says.endswith("without the shared part they agree")


@pytest.mark.parametrize("factor", [1.0, 8.0, 0.125])
def test_a_weak_adapter_does_not_verify_a_scale(factor: float, tmp_path: Path) -> None:
    """The only logits are of a document whose adapter is nearly zero: right or wrong, they agree, and verify nothing."""
    subject = tiny("llama")
    exporter = Exporter(subject)
    _strong, weak = DOCUMENTS
    exporter.own[weak.key] = {path: (A, 2e-5 * B) for path, (A, B) in exporter.own[weak.key].items()}
    exporter.shared = {}
    [row] = [row for row in exporter.native() if row[0] == weak.key]
    file = exporter.write(tmp_path / "a.safetensors", native=[row], scale=SCALE * factor)
    result = check_adapters(subject, read_compact(file), ITEMS[:1])

    def gap(times: float) -> float:
        """Between the method's model and one with the update times so much, both by edited weights."""
        part = {path: (A, times * B) for path, (A, B) in exporter.own[weak.key].items()}
        return (own_logits([part], row[2])[-1] - row[3][-1]).abs().max().item()

    assert failed(result) == []
    assert result.scale.verified is False
    assert gap(factor / 8) < 1e-3
    shown = float(result.scale.says.partition("a scale wrong by 1/8 would differ by ")[2].split()[0])
    assert shown == pytest.approx(gap(factor / 8), rel=0.2, abs=1e-6)


@pytest.mark.parametrize("part", ["document", "shared"])
def test_each_parts_scale_must_be_seen(part: str, tmp_path: Path) -> None:
    """A strong shared part says nothing of the scale of a document's part that is nearly zero, and the reverse."""
    subject = tiny("llama")
    exporter = Exporter(subject)
    weak = lambda own: {p: (A, 1e-5 * B) for p, (A, B) in own.items()}  # noqa: E731
    if part == "document":
        exporter.own = {key: weak(own) for key, own in exporter.own.items()}
    else:
        exporter.shared = weak(exporter.shared)
    result = shaken(subject, exporter.write(tmp_path / "a.safetensors"))
    assert result.scale.verified is False
    assert f"the {part} part's scale wrong by 1/8" in result.scale.says


@dataclass
class Offered:
    """A source whose stored texts are what the test says."""

    subject: Subject
    texts: list[tuple[str, tuple[int, ...]]]
    dtype: torch.dtype = torch.float32
    size: float = 1.0
    name: str = "offered"
    settings: Any = None

    def __post_init__(self) -> None:
        self.settings = {}

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        made = [factors(self.subject, sum(d.text.encode())) for d in documents]
        return [
            Adapter(d.key, {p: LowRank(A, B, SCALE * self.size) for p, (A, B) in m.items()})
            for d, m in zip(documents, made, strict=True)
        ]

    def native_examples(self) -> list[NativeExample]:
        document = DOCUMENTS[0]
        own = factors(self.subject, sum(document.text.encode()))
        [adapter] = self.encode([document])
        size = len(self.subject.unembedding)
        examples = []
        for text, ids in self.texts:
            known = [token if 0 <= token < size else 0 for token in ids]
            logits = own_logits([own], known)[-1].to(self.dtype).float()
            examples.append(NativeExample(adapter, ids, text, logits))
        return examples


def test_a_methods_tokens_are_compared_with_the_subjects() -> None:
    """The same tokens pass, a template of the method's own is told and compared, ids of another model fail."""
    subject = tiny("llama")
    text = ITEMS[0].question
    ids = tuple(subject.tokenize(text))
    same = check_adapters(subject, Offered(subject, [(text, ids)]), ITEMS)
    other = check_adapters(subject, Offered(subject, [(text, ids), (text, (*ids, ids[1], ids[0]))]), ITEMS)
    outside = check_adapters(subject, Offered(subject, [(text, (*ids, 10**6))]), ITEMS)
    found = [{c.name: c for c in result.checks}.get("tokens") for result in (same, other, outside)]
    assert [check.passed for check in found if check] == [True, None, False]
    assert found[1] is not None
    assert f"{len(ids) + 2} there and {len(ids)} here, from position {len(ids)} on" in found[1].says
    assert same.scale.verified is True
    assert other.scale.verified is True
    assert failed(outside) == ["tokens"]
    assert outside.scale.verified is False


@pytest.mark.parametrize(("size", "verified"), [(1.0, True), (2.0, False), (0.125, False)])
def test_logits_of_a_method_in_bfloat16_are_compared_with_its_rounding(size: float, verified: bool) -> None:
    """Rounded to bfloat16 they are further away than float32 allows; a wrong scale is further still."""
    subject = tiny("llama")
    text = ITEMS[0].question
    source = Offered(subject, [(text, tuple(subject.tokenize(text)))], torch.bfloat16, size)
    result = check_adapters(subject, source, ITEMS)
    assert result.scale.verified is verified
    assert result.scale.gap_nats is not None
    assert result.scale.gap_nats > subject.parity_tolerance()
    assert failed(result) == ([] if verified else ["native"])


@pytest.mark.parametrize(("dtype", "said"), [(torch.bfloat16, True), (torch.float32, False)])
def test_where_the_digits_do_not_tell_a_scale_wrong_by_a_quarter_the_line_says_so(
    dtype: torch.dtype, said: bool, monkeypatch
) -> None:
    """As on a model with large logits, whose rounding in bfloat16 is as large as what a quarter of the scale changes."""
    if said:
        monkeypatch.setattr(native, "two_routes_tolerance", lambda *_: 0.8)
    subject = tiny("llama")
    text = ITEMS[0].question
    examples = [(text, tuple(subject.tokenize(text)))]
    right = check_adapters(subject, Offered(subject, examples, dtype, 1.0), ITEMS)
    slightly = check_adapters(subject, Offered(subject, examples, dtype, 1.2), ITEMS)
    assert right.scale.verified is True
    assert ("one wrong by a quarter could not be told in bfloat16" in right.scale.says) is said
    assert failed(slightly) == ([] if said else ["native"])


def test_a_source_that_fails_is_a_failed_check_with_its_reason() -> None:
    subject = tiny("llama")
    source = Offered(subject, [])
    source.native_examples = lambda: 1 / 0  # type: ignore[method-assign, assignment]
    [check] = check_adapters(subject, source, ITEMS).failed
    assert (check.name, check.says) == (
        "native",
        "source offered: native_examples failed: ZeroDivisionError: division by zero",
    )


def test_a_file_without_native_logits_says_that_its_scale_is_not_verified(tmp_path: Path) -> None:
    subject = tiny("llama")
    result = shaken(subject, Exporter(subject).write(tmp_path / "a.safetensors", native=None))
    assert failed(result) == []
    assert (result.scale.verified, result.scale.gap_nats) == (None, None)
    assert result.scale.says == (
        "not verified: the source offers no logits of its method's own model: a wrong scale cannot be noticed"
    )
    wrong = shaken(subject, Exporter(subject).write(tmp_path / "b.safetensors", native=None, scale=SCALE * 8))
    assert failed(wrong) == []
    assert wrong.scale == result.scale


def test_the_record_is_plain_and_complete(tmp_path: Path) -> None:
    subject = tiny("llama")
    result = shaken(subject, Exporter(subject).write(tmp_path / "a.safetensors"))
    record = result.as_json()
    assert set(record) == {"checks", "scale"}
    assert set(record["scale"]) == {"verified", "gap_nats", "says"}
    assert [check["name"] for check in record["checks"]] == [check.name for check in result.checks]
    assert replace(result, norms=()).as_json() == record
