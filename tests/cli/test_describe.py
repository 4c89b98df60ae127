"""`adapters describe`: what it prints of sets of adapters whose truth is known, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from override_gap.margins.adapter import Adapter
from override_gap.margins.items.files import write_items
from override_gap.margins.items.item import Document
from override_gap.margins.updates import LowRank
from override_gap.probes.errors import AdapterError
from override_gap.probes.run.adapter_sample import encoded_sample
from override_gap.probes.sources.compact_index import write_compact
from override_gap.probes.subject.load import open_subject
from override_gap.reports.cli.main import main
from tests.conftest import conflict

UP, DOWN = "model.layers.2.mlp.up_proj", "model.layers.5.mlp.down_proj"
ITEMS = [
    conflict(n, f"question {n}", answer=f"word{n}", document=f"Text {n}: word{n}.", meta={"relation": f"r{n % 6}"})
    for n in range(12)
]


def adapter(text: str, alike: float) -> Adapter:
    """A part that all documents have, of squared norm `alike`, and one of the document's own, of 1 - `alike`, in each layer."""
    updates = {}
    for number, (path, d_out, d_in) in enumerate(((UP, 192, 64), (DOWN, 64, 192))):
        parts = []
        for seed, squared in ((number, alike), (int.from_bytes(text.encode()[-12:]) % 2**31, 1 - alike)):
            draw = torch.Generator().manual_seed(seed)
            left, right = torch.randn(d_out, generator=draw), torch.randn(d_in, generator=draw)
            parts.append((squared**0.5 * left / left.norm(), right / right.norm()))
        updates[path] = LowRank(torch.stack([r for _, r in parts]), torch.stack([left for left, _ in parts], dim=1))
    return Adapter(text, updates)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_items(ITEMS, tmp_path / "items.jsonl")
    documents = [Document(item.document, (item.id,), (item.point,)) for item in ITEMS]
    for name, alike in (("own", 0.25), ("one", 1.0)):
        made = [adapter(document.text, alike) for document in documents]
        write_compact(tmp_path / f"{name}.safetensors", documents, made, method=name)
    return tmp_path


def test_how_much_is_each_documents_own_and_what_the_weight_says_of_it(files: Path, capsys) -> None:
    words = ["--items", str(files / "items.jsonl"), "--seed", "3", "--json"]
    assert main(["adapters", "describe", "--adapters", f"compact:{files / 'own.safetensors'}", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    # chance cosines of single directions in 64 dimensions are about 1/8 each, and a product of two of them multiplies
    assert told["own_share"]["value"] == pytest.approx(0.75, abs=0.03)
    assert told["own_share"]["points"] == 6
    assert [row["layer"] for row in told["layers"]] == [2, 5]
    assert told["layers"][0]["norm"] == pytest.approx(1.0, abs=0.1)
    assert told["spectra"]["adapters"] == 2
    assert [row["looked_at"] for row in told["spectra"]["layers"]] == [20, 20]
    assert told["one_adapter"] is False


def test_one_adapter_for_all_is_named_in_words(files: Path, capsys) -> None:
    words = ["--adapters", f"compact:{files / 'one.safetensors'}", "--items", str(files / "items.jsonl")]
    assert main(["adapters", "describe", *words, "--spectra", "0", "--documents", "9"]) == 0
    said = capsys.readouterr().out
    assert "adapters of 9 documents" in said
    assert "share one adapter" in said
    assert "intruders" not in said
    assert max(map(len, said.split("layer ")[1].splitlines())) <= 90


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--documents", "1"], "--documents needs 2 or more"),
        (["--spectra", "-1"], "--spectra 0 or more"),
        (["--documents", "x"], "invalid int"),
        (["--policies", "slb"], "unknown argument"),
    ],
)
def test_impossible_numbers_are_refused_in_one_line(words: list[str], message: str, capsys) -> None:
    assert main(["adapters", "describe", *words]) == 2
    assert message in capsys.readouterr().err


@dataclass(frozen=True)
class Source:
    """A source whose adapters are all that a test needs of it."""

    scope: str = "document"
    static: bool = True
    broken: bool = False
    width: int = 64
    name: str = "source"

    @property
    def settings(self) -> dict:
        return {}

    def encode(self, documents: Sequence[Document]) -> list[Adapter]:
        scale = float("nan") if self.broken else float(len(documents))
        return [
            Adapter(d.text, {UP: LowRank(torch.ones(1, self.width), torch.full((192, 1), scale))}) for d in documents
        ]


def test_the_sample_is_drawn_by_the_seed_and_encoded_as_the_method_needs() -> None:
    subject = open_subject("organism")
    first, again, other = (encoded_sample(subject, Source(), ITEMS, 5, seed) for seed in (0, 0, 1))
    assert first.documents == again.documents != other.documents
    by_text = {item.document: item.meta["relation"] for item in ITEMS}
    assert list(first.relations) == [by_text[document.text] for document in first.documents]
    # a method that encodes a batch together sees all documents, not the sample alone
    for scope, seen in (("document", 5.0), ("batch", 12.0)):
        update = encoded_sample(subject, Source(scope), ITEMS, 5, 0).adapters[0].updates[UP]
        assert isinstance(update, LowRank)
        assert update.B[0, 0].item() == seen


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source("nothing"), "one adapter for every document"),
        (Source(static=False), "not a weight update"),
        (Source(broken=True), "not finite"),
        (Source(width=63), r"needs an update of shape \[192, 64\]"),
    ],
)
def test_what_has_no_adapters_to_compare_is_refused(source: Source, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        encoded_sample(open_subject("organism"), source, ITEMS, 5, 0)
