"""What a GGUF file says of its own size, walked through before the library believes it."""

from __future__ import annotations

from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path

from probes.claims import ClaimError

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
            raise ClaimError(f"{self.file}: damaged GGUF: it ends within its header")
        return int.from_bytes(raw, "little")

    def skip(self, count: int, width: int, what: str) -> None:
        if count * width > self.size - self.stream.tell():
            raise ClaimError(f"{self.file}: damaged GGUF: it claims {what} of {count:,}, and has {self.size:,} bytes")
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
            raise ClaimError(
                f"{self.file}: damaged GGUF: a value of type {kind if inner is None else inner} is none it can hold"
            )
        count = self.number(8)
        if inner != STRING:
            self.skip(count, BYTES[inner], "an array")
            return None
        if 8 * count > self.size - self.stream.tell():
            raise ClaimError(f"{self.file}: damaged GGUF: it claims an array of {count:,}, and has {self.size:,} bytes")
        for _ in range(count):
            self.text()
        return None


def gguf_claims(file: Path) -> None:
    """Raise ClaimError where a GGUF file claims more values, tensors, layers or numbers than its bytes can hold.

    A length of the header that is too large has the library count to it. The format in big-endian order is left to it.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        walk = _Walk(stream, file, size)
        if stream.read(4) != b"GGUF":
            raise ClaimError(f"{file}: no GGUF file")
        version = walk.number(4)
        if not 2 <= version <= 3:
            if version and version & 0xFFFF == 0:
                return
            raise ClaimError(f"{file}: GGUF of version {version}; need 2 or 3")
        tensors, values = walk.number(8), walk.number(8)
        if 12 * (tensors + values) > size:
            raise ClaimError(
                f"{file}: damaged GGUF: it claims {tensors:,} tensors and {values:,} values in {size:,} bytes"
            )
        for _ in range(values):
            name, kind = walk.text(), walk.number(4)
            found = walk.value(kind)
            if name.endswith(BLOCKS) and found is not None and found > tensors:
                raise ClaimError(f"{file}: it claims {found:,} layers, and the weights are {tensors} tensors")
        for _ in range(tensors):
            walk.text()
            dimensions = walk.number(4)
            shape = [walk.number(8) for _ in range(min(dimensions, 9))]
            walk.skip(12, 1, "a tensor")
            # no quantisation takes less than a bit a number
            if dimensions > 8 or prod(shape) > 8 * size:
                raise ClaimError(f"{file}: damaged GGUF: it claims a tensor of {shape}, and has {size:,} bytes")
