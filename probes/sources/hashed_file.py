"""A safetensors file whose tensors are hashed when it is opened, so that what is read later is what the run's identity names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from override_gap.probes.errors import AdapterChanged, AdapterError
from override_gap.probes.sources.tensor_file import TensorFile, open_tensor_file
from override_gap.probes.subject.file_checks import LARGEST_HEADER

CHUNK = 2**22


@dataclass(frozen=True, eq=False)
class HashedFile:
    """A file that was hashed whole once, `sha256`, and every tensor of it by itself; tensors are read when they are asked for."""

    file: TensorFile
    sha256: str
    digests: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def metadata(self) -> Mapping[str, str]:
        """What its header says beside the tensors."""
        return self.file.metadata

    @property
    def names(self) -> Iterable[str]:
        """The names of its tensors."""
        return self.digests

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """These tensors. Raises AdapterChanged where one is no longer what was hashed."""
        tensors = self.file.read(names)
        for name, tensor in tensors.items():
            if _hash(tensor) != self.digests[name]:
                raise AdapterChanged(f"{self.path} has changed since it was opened: its tensor {name!r} is another")
        return tensors


def open_hashed(path: Path) -> HashedFile:
    """Open a safetensors file and hash it, in one pass. Raises AdapterError for any other file."""
    file = open_tensor_file(path)
    whole, digests = hashlib.sha256(), {}
    try:
        with path.open("rb") as stream:
            header = stream.read(8)
            header += stream.read(min(int.from_bytes(header, "little"), LARGEST_HEADER))
            if hashlib.sha256(header[8:]).hexdigest() != file.sha256:
                raise AdapterChanged(f"{path} has changed while it was opened; give the same command again")
            whole.update(header)
            for name, place in sorted(file.places.items(), key=lambda entry: (entry[1].start, entry[1].size)):
                before = place.start - stream.tell()
                if before < 0:
                    raise AdapterError(
                        f"{path}: not a safetensors file, or damaged: tensor {name[:80]!r} lies in another"
                    )
                whole.update(stream.read(before))
                own, left = hashlib.sha256(), place.size
                while left and (chunk := stream.read(min(CHUNK, left))):
                    whole.update(chunk)
                    own.update(chunk)
                    left -= len(chunk)
                digests[name] = own.hexdigest()
            while chunk := stream.read(CHUNK):
                whole.update(chunk)
    except OSError as fault:
        raise AdapterError(f"{path}: cannot be read: {fault.strerror}") from fault
    return HashedFile(file, whole.hexdigest(), digests)


def _hash(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
