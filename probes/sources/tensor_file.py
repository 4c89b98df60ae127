"""A safetensors file read tensor by tensor: its header once when it is opened, then only the bytes of what is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from override_gap.probes.errors import AdapterChanged, AdapterError
from override_gap.probes.sources.files import require_tensor_file
from override_gap.probes.subject.file_checks import LARGEST_HEADER, total_memory

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in its file: number format, shape, first byte, bytes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True, eq=False)
class TensorFile:
    """A safetensors file of which no tensor has been read yet.

    `sha256` is that of its header, which lists every tensor and holds the metadata. The file is opened for every `read` and
    not mapped into memory, so that a file cut short while a run is at work is an error and does not end the process.
    """

    path: Path
    sha256: str
    metadata: Mapping[str, str]
    places: Mapping[str, Place]

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """These tensors, by name. Raises KeyError for one that the file has not, AdapterError where it has been cut short."""
        places = {name: self.places[name] for name in names}
        memory, wanted = total_memory(), sum(place.size for place in places.values())
        if memory is not None and wanted > memory:
            raise AdapterError(f"{self.path}: {wanted:,} bytes are asked for, and this machine's memory has {memory:,}")
        tensors = {}
        try:
            with self.path.open("rb", buffering=0) as stream:
                for name, place in places.items():
                    buffer = bytearray(place.size)
                    stream.seek(place.start)
                    got, view = 0, memoryview(buffer)
                    while got < place.size and (count := stream.readinto(view[got:])):
                        got += count
                    if got < place.size:
                        raise AdapterChanged(f"{self.path}: it has become shorter since it was opened")
                    flat = (
                        torch.frombuffer(buffer, dtype=place.dtype) if place.size else torch.empty(0, dtype=place.dtype)
                    )
                    tensors[name] = flat.reshape(place.shape)
        except OSError as fault:
            raise AdapterChanged(f"{self.path}: cannot be read any more: {fault.strerror}") from fault
        return tensors

    def is_as_opened(self) -> bool:
        """Whether the file has the header that it had when it was opened."""
        try:
            return open_tensor_file(self.path).sha256 == self.sha256
        except (AdapterError, OSError):
            return False


def open_tensor_file(path: Path) -> TensorFile:
    """Open a safetensors file and check that every tensor that its header claims lies within it. Raises AdapterError."""
    require_tensor_file(path)
    size = path.stat().st_size
    with path.open("rb", buffering=0) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(LARGEST_HEADER, size - 8):
            raise AdapterError(f"{path}: not a safetensors file, or damaged: it claims a header of {length:,} bytes")
        raw = bytearray(length)
        if stream.readinto(raw) != length:
            raise AdapterError(f"{path}: not a safetensors file, or damaged: it ends within its header")
    try:
        header = json.loads(raw)
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("metadata that is no text")
        places = {name: _place(entry, 8 + length, size) for name, entry in header.items()}
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as fault:
        raise AdapterError(f"{path}: not a safetensors file, or damaged: {str(fault)[:80]}") from fault
    return TensorFile(path, hashlib.sha256(raw).hexdigest(), metadata, places)


def _place(entry: Mapping[str, Any], data: int, size: int) -> Place:
    """An entry of a header, checked. Raises ValueError, KeyError or TypeError for one that cannot be true."""
    dtype, shape, (begin, end) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError("a shape or an offset is no number from 0")
    if prod(shape) * dtype.itemsize != end - begin or data + end > size:
        raise ValueError("a tensor's shape, its offsets and the file's size do not agree")
    return Place(dtype, tuple(shape), data + begin, end - begin)
