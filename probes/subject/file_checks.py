"""Checks of the sizes that a file claims, against the file itself and this machine, before anything is allocated."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from math import prod
from pathlib import Path
from typing import Any, Literal

from override_gap.margins.strict_json import LARGEST, read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""
MOST_TENSORS = 100_000
"""Tensors of one adapter. One with factors for each of 128 experts in 94 layers has 72,000."""
LONGEST_NAME = 1000
"""Characters of a tensor's name; it is searched with patterns."""
Shapes = Mapping[str, tuple[int, ...]]


class FileSizeError(ValueError):
    """A file that claims sizes which cannot be true, or which this machine's memory cannot hold."""


def total_memory() -> int | None:
    """Bytes of memory in this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def require_memory(file: Path) -> None:
    """Raise FileSizeError where a file that is read whole is larger than this machine's memory.

    A sparse file takes little of the disk, and as much memory as it claims.
    """
    size, memory = file.stat().st_size, total_memory()
    if memory is not None and size > memory:
        raise FileSizeError(f"{file}: {size:,} bytes, and this machine's memory has {memory:,}; it cannot be read here")


def shapes_of(file: Path, most: int | None = None) -> Shapes:
    """Names and shapes of a safetensors file's tensors from its header alone. Raises FileSizeError for a damaged header.

    `most`: tensors that it may claim, which are counted before the header is read as JSON.
    Whether the shapes fit the bytes that follow is checked by safetensors itself when it opens the file.
    """
    with file.open("rb") as stream:
        return shapes_in(stream, file.stat().st_size, file, most)


def shapes_in(stream: BufferedIOBase, size: int, file: Path, most: int | None = None) -> Shapes:
    """As `shapes_of`, from the content of `file`, of `size` bytes, where it has been read already."""
    length = int.from_bytes(stream.read(8), "little")
    if not 2 <= length <= min(LARGEST_HEADER, size - 8):
        raise FileSizeError(f"{file}: not a safetensors file, or damaged: it claims a header of {length:,} bytes")
    raw = stream.read(length)
    claimed = raw.count(b'"data_offsets"')
    if most is not None and claimed > most:
        raise FileSizeError(f"{file}: it claims {claimed:,} tensors; one adapter has at most {most:,}: save one by one")
    try:
        header = json.loads(raw)
        return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as fault:
        raise FileSizeError(
            f"{file}: not a safetensors file, or damaged: its header is not a table of tensors"
        ) from fault


def require_short_names(shapes: Shapes, file: Path) -> None:
    """Raise FileSizeError where a tensor's name is longer than any module's path."""
    longest = max(shapes, key=len, default="")
    if len(longest) > LONGEST_NAME:
        raise FileSizeError(
            f"{file}: a tensor's name has {len(longest):,} characters ({longest[:40]!r}...); need at most {LONGEST_NAME:,}"
        )


def model_files(folder: Path) -> list[Path]:
    """The safetensors files that a model's folder is read from; empty where there are none.

    Raises FileSizeError for an index that names a file elsewhere.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    names = indexed_files(folder)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileSizeError(f"{folder / INDEX}: it names {missing[0]!r}, which is not there")
    return [folder / name for name in names]


def indexed_files(folder: Path) -> list[str]:
    """The names of the weight files that a folder's index names, whether they are there or not; empty without an index.

    Raises FileSizeError for an index that names a file elsewhere, or one that is no safetensors file.
    """
    if not (folder / INDEX).is_file():
        return []
    index = read_json(folder / INDEX)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise FileSizeError(f"{folder / INDEX}: needs a weight_map from tensors to files")
    for name in weight_map.values():
        if Path(name).name != name:
            raise FileSizeError(f"{folder / INDEX}: it names {name!r}, which is not in this folder")
        if not name.endswith(".safetensors"):
            raise FileSizeError(f"{folder / INDEX}: it names {name!r}; weights are read from .safetensors files alone")
    return sorted(set(weight_map.values()))


def check_claimed_sizes(folder: Path) -> None:
    """Raise FileSizeError where a model folder's configuration claims more than its weight files hold.

    Each layer needs at least one tensor and each token one embedding row, so the weight files limit how many layers and
    tokens a configuration can claim. Unchecked, a configuration of one kilobyte could make us build a model of any size
    before its weights are looked at. Folders without
    safetensors, and quantised ones, whose tensors are packed, have no such bound. The configuration is not read as strict
    JSON: published ones hold Infinity.
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
    shapes = [shape for path in files for shape in shapes_of(path).values()]
    tensors, stored = len(shapes), sum(prod(shape) for shape in shapes)
    for section in (config, *(value for value in config.values() if isinstance(value, dict))):
        layers, width = _number(section, LAYERS), _number(section, WIDTHS)
        if not 0 <= layers <= tensors:
            raise FileSizeError(f"{file}: it claims {layers:,} layers, and the weights are {tensors} tensors")
        for count in (_number(section, ("vocab_size",)), _number(section, INNER)):
            if count < 0 or width < 0 or count * width > stored:
                raise FileSizeError(
                    f"{file}: it claims a map of {count:,} x {width:,}, and the weights hold {stored:,} numbers"
                )


LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
WIDTHS = ("hidden_size", "n_embd", "d_model")
INNER = ("intermediate_size", "n_inner", "ffn_dim")


def _number(config: Mapping[str, Any], names: Sequence[str]) -> int:
    """The configuration's value under the first of these names that it has (families differ); 0 where it has none."""
    return next((config[name] for name in names if isinstance(config.get(name), int)), 0)


BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of each scalar type of the GGUF format, by the type's number."""
STRING, ARRAY = 8, 9
BLOCKS = b".block_count"
MOST_ELEMENTS, MOST_GGUF_TENSORS, MOST_VALUES = 2**23, 200_000, 65_536
"""Of a GGUF file's header: elements of all arrays, tensors, values. A vocabulary of 262,144 tokens has 1.3 million elements."""


@dataclass
class _GGUFHeader:
    """A GGUF file's header, read value by value; raises FileSizeError where a length exceeds the file."""

    stream: BufferedReader
    file: Path
    size: int
    order: Literal["little", "big"] = "little"
    elements: int = 0
    """Elements of arrays so far."""

    def number(self, width: int) -> int:
        raw = self.stream.read(width)
        if len(raw) < width:
            raise FileSizeError(f"{self.file}: damaged GGUF: it ends within its header")
        return int.from_bytes(raw, self.order)

    def skip(self, count: int, width: int, what: str) -> None:
        if count * width > self.size - self.stream.tell():
            raise FileSizeError(
                f"{self.file}: damaged GGUF: it claims {what} of length {count:,}, and has {self.size:,} bytes"
            )
        self.stream.seek(count * width, 1)

    def text(self) -> bytes:
        start, length = self.stream.tell() + 8, self.number(8)
        self.skip(length, 1, "a text")
        self.stream.seek(start)
        return self.stream.read(length)

    def value(self, kind: int) -> int | None:
        """Read past a value; return it where it is a number."""
        if kind in BYTES:
            return self.number(BYTES[kind])
        if kind == STRING:
            self.text()
            return None
        inner = self.number(4) if kind == ARRAY else None
        if inner not in BYTES and inner != STRING:
            raise FileSizeError(
                f"{self.file}: damaged GGUF: a value has type {kind if inner is None else inner}, which the format does not know"
            )
        count = self.number(8)
        if inner != STRING:
            self.skip(count, BYTES[inner], "an array")
            self.count(count)
            return None
        if 8 * count > self.size - self.stream.tell():
            raise FileSizeError(
                f"{self.file}: damaged GGUF: it claims an array of length {count:,}, and has {self.size:,} bytes"
            )
        self.count(count)
        for _ in range(count):
            self.text()
        return None

    def count(self, elements: int) -> None:
        """Add an array's elements to the header's; raise where they are more than any model needs."""
        self.elements += elements
        if self.elements > MOST_ELEMENTS:
            raise FileSizeError(
                f"{self.file}: its header has arrays of {self.elements:,} elements; a model's vocabulary needs at most "
                f"{MOST_ELEMENTS:,}"
            )


def check_gguf_sizes(file: Path) -> None:
    """Raise FileSizeError where a GGUF file claims more values, tensors, layers or numbers than its bytes can hold.

    A length in the header that is too large would keep the library counting, and so would a file of many gigabytes that is all
    header. Tensors that lie over one another, which a small file could hold without number, are found by the sum of their sizes.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        header = _GGUFHeader(stream, file, size)
        if stream.read(4) != b"GGUF":
            raise FileSizeError(f"{file}: not a GGUF file")
        version = header.number(4)
        if version and version & 0xFFFF == 0:
            header.order = "big"
            version = int.from_bytes(version.to_bytes(4, "little"), "big")
        if not 2 <= version <= 3:
            raise FileSizeError(f"{file}: GGUF of version {version}; need 2 or 3")
        tensors, values = header.number(8), header.number(8)
        if 12 * (tensors + values) > size:
            raise FileSizeError(
                f"{file}: damaged GGUF: it claims {tensors:,} tensors and {values:,} values in {size:,} bytes"
            )
        if tensors > MOST_GGUF_TENSORS or values > MOST_VALUES:
            raise FileSizeError(
                f"{file}: {tensors:,} tensors, {values:,} values; a model has at most {MOST_GGUF_TENSORS:,} and {MOST_VALUES:,}"
            )
        for _ in range(values):
            name, kind = header.text(), header.number(4)
            value = header.value(kind)
            if name.endswith(BLOCKS) and value is not None and value > tensors:
                raise FileSizeError(f"{file}: it claims {value:,} layers, and the weights are {tensors} tensors")
        numbers, names = 0, set[bytes]()
        for _ in range(tensors):
            name = header.text()
            if name in names:
                raise FileSizeError(
                    f"{file}: damaged GGUF: it has the tensor {name.decode(errors='replace')[:80]} twice"
                )
            names.add(name)
            dimensions = header.number(4)
            shape = [header.number(8) for _ in range(min(dimensions, 9))]
            header.number(4)
            offset, count = header.number(8), prod(shape)
            numbers += count
            # no quantisation takes less than one bit per number
            if dimensions > 8 or offset + count // 8 > size:
                raise FileSizeError(
                    f"{file}: damaged GGUF: it claims a tensor of {shape} at {offset:,}, and has {size:,} bytes"
                )
        if numbers > 8 * size:
            raise FileSizeError(f"{file}: damaged GGUF: it claims {numbers:,} numbers in {size:,} bytes")
