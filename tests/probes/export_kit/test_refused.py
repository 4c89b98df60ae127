"""What the export kit refuses, in one line and before any work: arguments, factors, native logits and lines of documents."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from override_gap.probes.export_kit import kit
from tests.probes.export_kit.test_kit import DOWN, KIT, ROWS, factors


@pytest.fixture(scope="module")
def copied() -> ModuleType:
    """The kit as it is where it was copied to: its annotations are not checked there."""
    spec = importlib.util.spec_from_file_location("copied_kit", KIT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


UNUSABLE = [
    ({"method": None}, "need method as a str that is not empty, got NoneType"),
    ({"method": ""}, "need method as a str that is not empty, got ''"),
    ({"base": Path("b")}, "need base as a str"),
    ({"template": 3}, "need template as a str"),
    ({"template": "Learn this:"}, "need a template with {document} in it"),
    ({"base_fingerprint": b"f"}, "need base_fingerprint as a str"),
    ({"settings": {"loss": float("nan")}}, "need settings as a dict of plain JSON"),
    ({"settings": {"file": Path("f")}}, "need settings as a dict of plain JSON"),
    ({"settings": 5}, "need settings as a dict of plain JSON"),
    ({"reads_questions": "yes"}, "reads_questions as True or False"),
    ({"reads_questions": 1}, "reads_questions as True or False"),
    ({"documents": []}, "need a list of at least one document"),
    ({"documents": iter(ROWS)}, "need a list of at least one document"),
    ({"documents": ["a text"] * 3}, "a document needs its key or its text"),
    ({"documents": [ROWS[0], ROWS[1], ROWS[1]]}, f"document {ROWS[1]['key']} is there twice"),
]


@pytest.mark.parametrize(("changed", "message"), UNUSABLE, ids=lambda value: str(value)[:40])
def test_unusable_arguments_are_refused_in_one_line_before_a_document_is_encoded(
    changed: dict[str, Any], message: str, copied: ModuleType, tmp_path: Path
) -> None:
    encoded = []
    made = (encoded.append(n) or factors(n) for n in range(3))
    arguments = {"documents": ROWS, "factors": made, "method": "m", "scale": 1.0} | changed
    with pytest.raises(ValueError, match=re.escape(message)) as fault:
        copied.write(tmp_path / "k.safetensors", **arguments)
    assert "\n" not in str(fault.value)
    assert encoded == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("k", "q", [1], torch.ones(3)), "none of the documents' keys"),
        (([ROWS[0]["key"]], "q", [1], torch.ones(3)), "none of the documents' keys"),
        ((ROWS[0]["key"], None, [1], torch.ones(3)), "need its text as a str"),
        ((ROWS[0]["key"], "q", [4, -1], torch.ones(3)), "all of them 0 or more"),
        ((ROWS[0]["key"], "q", torch.tensor([[4, -100]]), torch.ones(3)), "all of them 0 or more"),
        ((ROWS[0]["key"], "q", [1.5], torch.ones(3)), "token id"),
        ((ROWS[0]["key"], "q", [], torch.ones(3)), "at least one token id"),
        ((ROWS[0]["key"], "q", 7, torch.ones(3)), "at least one token id"),
        ((ROWS[0]["key"], "q", [1], [0.5]), "need a torch tensor [..., vocab], got list"),
        ((ROWS[0]["key"], "q", [1], torch.ones(())), "need a torch tensor [..., vocab]"),
        ((ROWS[0]["key"], "q", [1], torch.ones(3) / 0), "need finite"),
    ],
)
def test_unusable_native_logits_are_one_line(row: tuple, message: str, copied: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as fault:
        copied.write(tmp_path / "k", ROWS[:1], [factors(0)], method="m", scale=1.0, native=[row])
    assert "\n" not in str(fault.value)
    assert not list(tmp_path.iterdir())


ONES = (torch.ones(2, 5), torch.ones(7, 2))
NEED = "need (A, B), (A, B, scale) of torch tensors, a matrix or a vector, got "


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.ones((7, 5)), "ndarray"),
        ((np.ones((2, 5)), np.ones((7, 2))), "tuple of ndarray, ndarray"),
        ([[1.0, 2.0], [3.0, 4.0]], "list of list, list"),
        ({"A": ONES[0], "B": ONES[1]}, "dict"),
        ((ONES[0],), "tuple of Tensor"),
        ((*ONES, 1.0, 2.0), "tuple of Tensor, Tensor, float"),
        (None, "NoneType"),
    ],
)
def test_factors_of_a_wrong_kind_are_one_line_with_document_and_module(
    value: Any, got: str, copied: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"^document {ROWS[0]['key']}, {DOWN}: ") as fault:
        copied.write(tmp_path / "k", ROWS[:1], [{DOWN: value}], method="m", scale=1.0)
    assert str(fault.value) == f"document {ROWS[0]['key']}, {DOWN}: {NEED}{got}"
    with pytest.raises(ValueError, match=f"document {ROWS[0]['key']}: need its factors as a mapping from module paths"):
        copied.write(tmp_path / "k", ROWS[:1], [[ONES]], method="m", scale=1.0)
    with pytest.raises(ValueError, match="the scale is x"):
        copied.write(tmp_path / "k", ROWS[:1], [{DOWN: (*ONES, "x")}], method="m", scale=1.0)


def lines(*rows: Any) -> bytes:
    return "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows).encode()


def test_documents_are_read_behind_a_byte_order_mark_and_with_other_line_ends(
    copied: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "d.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + lines(*ROWS, "\n").replace(b"\n", b"\r\n"))
    assert copied.read_documents(file) == ROWS


A, B = ROWS[:2]
EDITED = {**B, "document": B["document"] + " "}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lines(A, "\n", EDITED),
            "line 3: the text was changed after the file was written; run `override-gap items doc",
        ),
        (lines(A, "{broken\n"), "line 2: need an object with key and document"),
        (lines(A, [1]), "line 2: need an object with key and document"),
        (lines({"key": "a", "document": 3}), "line 1: need an object with key and document"),
        (lines(A, B, "\n", A), f"lines 1 and 4: the same document ({A['key']})"),
        (lines(A) + b"\xff\n", "line 2: need an object with key and document"),
        (json.dumps(A).encode("utf-16"), "line 1: need an object with key and document"),
        (lines(A, "[" * 100_000 + "\n"), "line 2: need an object with key and document"),
    ],
)
def test_a_bad_line_of_documents_is_named_with_its_file(
    content: bytes, message: str, copied: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "d.jsonl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="^" + re.escape(f"{file}, {message}")) as fault:
        copied.read_documents(file)
    assert "\n" not in str(fault.value)


def test_write_says_what_native_logits_of_two_documents_cannot_show() -> None:
    told = " ".join((kit.write.__doc__ or "").split())
    assert "Two documents suffice" not in told
    assert "Two documents show the convention of scale and orientation; only more" in told
