"""The register of bad inputs: each case writes its files into a folder and gives the command and the message to expect."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ITEM = {
    "id": "a",
    "point": "p",
    "split": "conflict",
    "document": "alpha beta red .",
    "question": "alpha beta",
    "answer": "red",
    "prior_answer": "blue",
}
Case = tuple[list[str], str]
CaseBuilder = Callable[[Path], Case]
CASES: dict[str, CaseBuilder] = {}


def case(name: str) -> Callable[[CaseBuilder], CaseBuilder]:
    def register(builder: CaseBuilder) -> CaseBuilder:
        assert name not in CASES
        CASES[name] = builder
        return builder

    return register


def write_file(folder: Path, name: str, content: bytes | str | Any) -> str:
    """A file in the folder; JSON where it is neither text nor bytes."""
    text = content if isinstance(content, bytes | str) else json.dumps(content)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return name


DEEP = "[" * 100_000


def tensors(shapes: dict[str, tuple[str, list[int], list[int]]], body: int) -> bytes:
    """A safetensors file with a header of one's own."""
    header = {n: {"dtype": d, "shape": s, "data_offsets": o} for n, (d, s, o) in shapes.items()}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(body)
