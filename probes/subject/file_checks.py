"""Claims: what a file says of its own size, checked against the file and this machine before anything is allocated."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any

from override_gap.margins.strict_json import LARGEST, read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""
Shapes = Mapping[str, tuple[int, ...]]


class FileSizeError(ValueError):
    """A file that says of itself what cannot be true, or what this machine cannot hold."""


def memory() -> int | None:
    """Bytes of this machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def require_memory(file: Path) -> None:
    """Raise ClaimError where a file that is read whole is larger than the memory; a file may have holes and be no trouble
    for a disk, and still ask for all that it claims."""
    size, held = file.stat().st_size, memory()
    if held is not None and size > held:
        raise FileSizeError(f"{file}: {size:,} bytes, and this machine's memory has {held:,}; it cannot be read here")


def shapes_of(file: Path) -> Shapes:
    """Names and shapes of a safetensors file's tensors from its header alone. Raises ClaimError for a header that is none.

    Whether the shapes fit the bytes that follow is checked by safetensors itself when it opens the file.
    """
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(LARGEST_HEADER, file.stat().st_size - 8):
            raise FileSizeError(f"{file}: no safetensors, or damaged: it claims a header of {length:,} bytes")
        raw = stream.read(length)
    try:
        header = json.loads(raw)
        return {name: tuple(own["shape"]) for name, own in header.items() if name != "__metadata__"}
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as fault:
        raise FileSizeError(f"{file}: no safetensors, or damaged: its header is no table of tensors") from fault


def model_files(folder: Path) -> list[Path]:
    """The safetensors files that a model's folder is read from; empty where it is no folder or has none.

    Raises ClaimError for an index that names a file elsewhere.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        return []
    index = read_json(folder / INDEX)
    held = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(held, dict) or not all(isinstance(name, str) for name in held.values()):
        raise FileSizeError(f"{folder / INDEX}: no weight_map from tensors to files")
    for name in held.values():
        if Path(name).name != name:
            raise FileSizeError(f"{folder / INDEX}: it names {name!r}, which is not in this folder")
    missing = [name for name in held.values() if not (folder / name).is_file()]
    if missing:
        raise FileSizeError(f"{folder / INDEX}: it names {missing[0]!r}, which is not there")
    return [folder / name for name in sorted(set(held.values()))]


def check_claimed_sizes(folder: Path) -> None:
    """Raise ClaimError where a model folder's configuration claims more than its weight files hold.

    A layer has at least one tensor and the embedding a row for every token, so both counts have a bound in the files;
    without it a configuration of a kilobyte has a model of any size built before anyone looks at its weights. Folders
    without safetensors, and quantised ones, whose tensors are packed, have no such bound. Not the strict reader's JSON:
    published configurations hold Infinity.
    """
    file, files = folder / "config.json", model_files(folder)
    if file.is_file() and file.stat().st_size > LARGEST:
        raise FileSizeError(f"{file}: {file.stat().st_size:,} bytes; a configuration has at most {LARGEST:,}")
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return  # what reads it next says what is wrong with it
    if not isinstance(config, dict) or not files or "quantization_config" in config:
        return
    shapes = [shape for each in files for shape in shapes_of(each).values()]
    tensors, stored = len(shapes), sum(prod(shape) for shape in shapes)
    for own in (config, *(part for part in config.values() if isinstance(part, dict))):
        if not 0 <= _number(own, LAYERS) <= tensors:
            raise FileSizeError(
                f"{file}: it claims {_number(own, LAYERS):,} layers, and the weights are {tensors} tensors"
            )
        width = _number(own, WIDTHS)
        for count in (_number(own, ("vocab_size",)), _number(own, INNER)):
            if count < 0 or width < 0 or count * width > stored:
                raise FileSizeError(
                    f"{file}: it claims a map of {count:,} x {width:,}, and the weights hold {stored:,} numbers"
                )


LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
WIDTHS = ("hidden_size", "n_embd", "d_model")
INNER = ("intermediate_size", "n_inner", "ffn_dim")


def _number(config: Mapping[str, Any], names: Sequence[str]) -> int:
    """What a configuration says of one of these, under whichever name its family has for it; 0 where it says nothing."""
    found = [config[name] for name in names if isinstance(config.get(name), int)]
    return found[0] if found else 0


BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Of each scalar type of the format, by its number."""
STRING, ARRAY = 8, 9
BLOCKS = b".block_count"


@dataclass
class _Walk:
    stream: BufferedReader
    file: Path
    size: int

    def number(self, width: int) -> int:
        raw = self.stream.read(width)
        if len(raw) < width:
            raise FileSizeError(f"{self.file}: damaged GGUF: it ends within its header")
        return int.from_bytes(raw, "little")

    def skip(self, count: int, width: int, what: str) -> None:
        if count * width > self.size - self.stream.tell():
            raise FileSizeError(
                f"{self.file}: damaged GGUF: it claims {what} of {count:,}, and has {self.size:,} bytes"
            )
        self.stream.seek(count * width, 1)

    def text(self) -> bytes:
        start, length = self.stream.tell() + 8, self.number(8)
        self.skip(length, 1, "a text")
        self.stream.seek(start)
        return self.stream.read(length)

    def value(self, kind: int) -> int | None:
        """Passes over a value; returns it where it is a number."""
        if kind in BYTES:
            return self.number(BYTES[kind])
        if kind == STRING:
            self.text()
            return None
        inner = self.number(4) if kind == ARRAY else None
        if inner not in BYTES and inner != STRING:
            raise FileSizeError(
                f"{self.file}: damaged GGUF: a value of type {kind if inner is None else inner} is none it can hold"
            )
        count = self.number(8)
        if inner != STRING:
            self.skip(count, BYTES[inner], "an array")
            return None
        if 8 * count > self.size - self.stream.tell():
            raise FileSizeError(
                f"{self.file}: damaged GGUF: it claims an array of {count:,}, and has {self.size:,} bytes"
            )
        for _ in range(count):
            self.text()
        return None


def check_gguf_sizes(file: Path) -> None:
    """Raise ClaimError where a GGUF file claims more values, tensors, layers or numbers than its bytes can hold.

    A length of the header that is too large has the library count to it. The format in big-endian order is left to it.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        walk = _Walk(stream, file, size)
        if stream.read(4) != b"GGUF":
            raise FileSizeError(f"{file}: no GGUF file")
        version = walk.number(4)
        if not 2 <= version <= 3:
            if version and version & 0xFFFF == 0:
                return
            raise FileSizeError(f"{file}: GGUF of version {version}; need 2 or 3")
        tensors, values = walk.number(8), walk.number(8)
        if 12 * (tensors + values) > size:
            raise FileSizeError(
                f"{file}: damaged GGUF: it claims {tensors:,} tensors and {values:,} values in {size:,} bytes"
            )
        for _ in range(values):
            name, kind = walk.text(), walk.number(4)
            found = walk.value(kind)
            if name.endswith(BLOCKS) and found is not None and found > tensors:
                raise FileSizeError(f"{file}: it claims {found:,} layers, and the weights are {tensors} tensors")
        for _ in range(tensors):
            walk.text()
            dimensions = walk.number(4)
            shape = [walk.number(8) for _ in range(min(dimensions, 9))]
            walk.skip(12, 1, "a tensor")
            # no quantisation takes less than a bit a number
            if dimensions > 8 or prod(shape) > 8 * size:
                raise FileSizeError(f"{file}: damaged GGUF: it claims a tensor of {shape}, and has {size:,} bytes")
