"""Write a method's adapters to one file that override-gap audits as `--adapters compact:FILE`.

Copy this file into the environment of your method: it needs torch, safetensors and Python 3.9, and nothing of override-gap.

    import kit
    documents = kit.read_documents("documents.jsonl")  # from `override-gap items documents ITEMS --out documents.jsonl`
    kit.write("adapters.safetensors", documents, (factors_of(d["document"]) for d in documents), method="mine", scale=2.0)
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import importlib
import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

FORMAT = "override-gap compact 1"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LARGEST_HEADER = 100_000_000  # bytes; the limit of safetensors
DTYPES: dict[Any, str] = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
DTYPES.update({getattr(torch, f"float8_{n}", None): f"F8_{n[:4].upper()}" for n in ("e4m3fn", "e5m2")})


def read_documents(file: Any) -> list[dict[str, Any]]:
    """The lines of documents.jsonl: `key`, `document` (its text) and `questions`, of each text once. Raises ValueError."""
    documents: dict[str, dict[str, Any]] = {}
    places: dict[str, int] = {}
    need = "need an object with key and document (a text) in UTF-8, as `override-gap items documents` writes it"
    lines = enumerate(Path(file).read_bytes().split(b"\n"), 1)
    for n, line in [(n, line) for n, line in lines if line.strip()]:
        try:
            row = json.loads(line.decode("utf-8-sig"))
            key = text_key(row["document"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            raise ValueError(f"{file}, line {n}: {need}; {type(fault).__name__}: {fault}") from fault
        if row.setdefault("key", key) != key:
            changed = "the text was changed after the file was written; run `override-gap items documents` again"
            raise ValueError(f"{file}, line {n}: {changed}")
        if key in places:
            raise ValueError(f"{file}, lines {places[key]} and {n}: the same document ({key}); remove one of them")
        places[key], documents[key] = n, row
    return list(documents.values())


def text_key(text: str) -> str:
    """The key of a document: a hash of its text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write(
    path: Any,
    documents: Sequence[Mapping[str, Any]],
    factors: Iterable[Mapping[str, Any]],
    *,
    method: str,
    scale: Any,
    shared: Mapping[str, Any] | None = None,
    native: Iterable[tuple[str, str, Any, torch.Tensor]] | None = None,
    base_fingerprint: str | None = None,
    base: str | None = None,
    template: str | None = None,
    settings: Mapping[str, Any] | None = None,
    reads_questions: bool = False,
    gains: Any = None,
    progress: bool = False,
) -> None:
    """Write the adapters of `documents` to `path`; `factors` may be a generator, of which one document is held at a time.

    documents: as `read_documents` returns them; a `key` (or the text as `document`) is enough.
    factors: per document a mapping from module path (as `model.named_modules()` of the plain base) to (A [rank, d_in],
      B [d_out, rank]): scale * B A is added to the weight [d_out, d_in]. Also (A, B, scale of its own); a matrix, which is
      added as it is; or a vector, under the path of the bias or norm weight that it is added to.
    scale: what B A is multiplied by where the method adds it (lora_alpha / rank for PEFT's LoRA, raw lora_alpha for others,
      1 where it is folded in): a number, or one per module path. It is never guessed.
    shared: factors that the method adds for every document; they are kept apart and act beside the document's own.
    native: (document key, text, token ids, logits) of a question that the method's own adapted model was run on: its logits at
      the last of these ids. Two documents show the convention of scale and orientation; only more (one question of every
      document costs one forward pass each) show adapters that were exchanged or went wrong later in the file. Without any,
      nobody can tell whether the scale is right. Read after `factors`, so that a list may be filled while these are made.
    base_fingerprint, base, template, settings: the base's fingerprint in override-gap and its name; the text that the method
      puts around a document, with {document}; what the exporter was told, as plain JSON without NaN.
    gains: the adapters at other gains (gains.py beside this file): a number, one per layer, or the path of a gains.json. The
      factors stay as they are and each scale is multiplied. Without native logits, which are of the method as delivered.
    reads_questions: True if the factors depend on the documents' `questions` too, as those of editors do; reports then say so.

    Raises ValueError, before any factors are made, for arguments that could not be stored or read back and where `path` exists;
    then for what does not fit together, for numbers that are not finite, and where the file's header would be larger than the
    100 MB that safetensors can read (it has some 250 bytes per tensor): this is said at the second document, from the size of
    the first two. Then, and when the process is killed, no file `path` exists. Tensors are first written to a file beside it,
    so twice the space is needed on the disk.
    """
    told = {"method": method, "base_fingerprint": base_fingerprint, "base": base, "template": template}
    index = _checked(path, documents, {**told, "settings": settings, "reads_questions": reads_questions or None})
    name, gain, beside = None, None, None
    if gains is not None:
        if native is not None:
            raise ValueError(f"{path}: native logits are of the method as delivered; with gains, leave them out")
        try:
            beside = importlib.import_module(f"{__package__}.gains" if __package__ else "gains")
        except ModuleNotFoundError as fault:
            raise ValueError(f"gains need the kit's gains.py beside {__file__}; copy it there") from fault
        name, gain = beside.read_gains(gains)
        shared = beside.at_gains(shared or {}, scale, gain)
    with Writer(path, len(documents), progress=progress) as writer:
        ours = iter(factors)
        for document in documents:
            updates = next(ours, None)
            if updates is None:
                raise ValueError(f"{path}: {len(documents)} documents, and factors for {len(writer.keys)} of them")
            if beside is not None and isinstance(updates, Mapping):
                updates = beside.at_gains(updates, scale, gain)
            writer.add(document, updates, shared or {}, scale)
        if next(ours, None) is not None:
            raise ValueError(f"{path}: factors for more than the {len(documents)} documents")
        for row in native or ():
            writer.add_native(*row)
        writer.finish({**index, "policy": name})


def _checked(path: Any, documents: Any, index: dict[str, Any]) -> dict[str, Any]:
    """`index`, its settings a dict. Raises ValueError for what cannot be stored or what override-gap would not read back."""
    keys = [_key(document) for document in documents] if hasattr(documents, "__len__") else []
    if not keys:
        raise ValueError(f"{path}: need a list of at least one document, got {_kind(documents)}")
    if len(set(keys)) < len(keys):
        raise ValueError(f"{path}: document {max(keys, key=keys.count)} is there twice; each text is encoded once")
    for name in ("method", "base_fingerprint", "base", "template"):
        if not isinstance(index[name], str if name == "method" else (str, type(None))) or index[name] == "":
            raise ValueError(f"{path}: need {name} as a str that is not empty, got {_kind(index[name])}")
    reads, template = index["reads_questions"] or False, index["template"] or "{document}"
    if "{document}" not in template or not isinstance(reads, bool):
        raise ValueError(f"{path}: need a template with {{document}} in it, and reads_questions as True or False")
    try:
        settings = None if index["settings"] is None else dict(index["settings"])
        json.dumps(settings, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as fault:
        raise ValueError(f"{path}: need settings as a dict of plain JSON without NaN or infinity: {fault}") from fault
    return {**index, "settings": settings}


class TensorFile:
    """A safetensors file written tensor by tensor into a folder beside it; `close` puts the header before them.

    The folder is named `.NAME.PID.tmp` and removed at the end of the `with` block, however it ends; the file is there once
    `close` was reached. Raises OSError, which names the file, where the disk does not take it.
    """

    def __init__(self, path: Any, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        if self.path.exists() and not overwrite:
            raise ValueError(f"{self.path} exists; name a new file, so that old and new adapters do not mix")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rest = f".{os.getpid()}.tmp"
        self.scratch = self.path.with_name(f".{self.path.name[: 250 - len(rest)]}{rest}")
        self.whole, self.spool = self.scratch / "whole", self.scratch / "data"
        self.places: dict[str, str] = {}
        self.size = self.header = 0

    def __enter__(self) -> Any:
        for name in os.listdir(self.path.parent):
            if name.startswith(f".{self.path.name}.") and name.endswith(".tmp") and _has_ended(name.split(".")[-2]):
                shutil.rmtree(self.path.parent / name, ignore_errors=True)  # of an export that was killed
        self.scratch.mkdir()
        self._data = open(self.spool, "wb")
        return self

    def __exit__(self, kind: Any, fault: Any, trace: Any) -> None:
        with contextlib.suppress(OSError):  # bytes that the full disk did not take
            self._data.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
        if isinstance(fault, OSError) and fault.errno in DISK_FULL:
            reason = f"{self.path}: cannot be written: {os.strerror(fault.errno)}; make room, or write to another disk"
            raise OSError(reason) from fault

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Write a contiguous tensor on the CPU under a name of its own."""
        gap = -self.size % tensor.element_size()
        if gap:  # formats of several widths in one file: the format allows no holes, so bytes between are a tensor
            self._place(f"padding-{self.size}", "U8", [gap], bytes(gap))
        self._place(name, DTYPES[tensor.dtype], list(tensor.shape), tensor_bytes(tensor))

    def close(self, metadata: Mapping[str, str]) -> None:
        """Write the header and the tensors behind it, and give the file its name."""
        header = ("{" + ",".join([f'"__metadata__":{json.dumps(metadata)}', *self.places.values()]) + "}").encode()
        header += b" " * (-len(header) % 8)
        if len(header) > LARGEST_HEADER:
            raise ValueError(f"{self.path}: its header has {len(header):,} bytes, safetensors reads {LARGEST_HEADER:,}")
        self._data.close()
        with open(self.whole, "wb") as out, open(self.spool, "rb") as data:
            out.write(len(header).to_bytes(8, "little") + header)
            shutil.copyfileobj(data, out, 2**24)
            out.flush()
            os.fsync(out.fileno())
        with safe_open(str(self.whole), framework="pt") as stream:  # what safetensors cannot read gets no name
            assert len(list(stream.keys())) == len(self.places)
        os.replace(self.whole, self.path)
        if os.name == "posix":  # the new name is on disk too
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            except OSError as fault:
                if fault.errno != errno.EINVAL:  # a disk that flushes no folders
                    raise
            finally:
                os.close(folder)

    def _place(self, name: str, dtype: str, shape: Sequence[int], data: Any) -> None:
        self._data.write(data)
        end = self.size + len(data)
        entry = {"dtype": dtype, "shape": shape, "data_offsets": [self.size, end]}
        self.places[name] = f'"{name}":{json.dumps(entry, separators=(",", ":"))}'
        self.header += len(self.places[name]) + 1
        self.size = end


class Writer(TensorFile):
    """A compact file, written document by document; `write` says what goes in."""

    def __init__(self, path: Any, count: int, *, progress: bool = False, overwrite: bool = False) -> None:
        super().__init__(path, overwrite=overwrite)
        self.count, self.progress, self._first = count, progress, 0
        self.keys: dict[str, None] = {}
        self._entries: list[str] = []
        self._native: list[dict[str, Any]] = []

    def add(self, document: Mapping[str, Any], updates: Any, shared: Any, scale: Any) -> None:
        """Write a document's own factors and the shared ones (see `write`). Raises ValueError."""
        key = _key(document)
        if key in self.keys:
            raise ValueError(f"document {key} is there twice; each text is encoded once")
        self.keys[key] = None
        digest = hashlib.sha256()  # over both parts, as override-gap hashes an adapter
        entry: dict[str, Any] = {"key": key, **{name: list(document.get(name) or ()) for name in ("ids", "points")}}
        if document.get("gains") is not None:
            entry["gains"] = list(document["gains"])
        for name, part in (("updates", updates), ("shared", shared)):
            if not isinstance(part, Mapping) or not all(isinstance(module, str) for module in part):
                raise ValueError(f"document {key}: need its factors as a mapping from module paths, got {_kind(part)}")
            entry[name] = {path: self._row(f"document {key}, {path}", path, part[path], scale, digest) for path in part}
        entry["sha256"] = digest.hexdigest()
        self._entries.append(json.dumps(entry))
        self.header += len(json.dumps(self._entries[-1]))
        if self.progress:
            print(f"document {len(self.keys)} of {self.count}", file=sys.stderr, flush=True)
        self._first, expected = self._first or self.header, self.header
        if len(self.keys) == 2:  # what the second has added is what each of the others will add
            expected += (self.header - self._first) * (self.count - 2)
        if expected > LARGEST_HEADER:
            fit = LARGEST_HEADER * len(self.keys) // self.header
            limit = f"its header would be larger than the {LARGEST_HEADER:,} bytes that safetensors can read"
            several = "split documents.jsonl, write a file per part into one folder and audit compact:FOLDER"
            raise ValueError(f"{self.path}: {limit}; about {fit} such documents fit: {several}")

    def add_native(self, key: str, text: str, ids: Any, logits: torch.Tensor) -> None:
        """Write the method's own logits at the last of `ids`: [vocab], or [..., pos, vocab] of which the last is taken."""
        if not isinstance(key, str) or key not in self.keys:
            raise ValueError(f"native logits of {key!r}, which is none of the documents' keys")
        what = f"native logits of {key}"
        tokens = ids.flatten().tolist() if torch.is_tensor(ids) else list(ids) if isinstance(ids, Iterable) else []
        if not isinstance(text, str) or not tokens or not all(hasattr(t, "__index__") and t >= 0 for t in tokens):
            raise ValueError(f"{what}: need its text as a str, and at least one token id, all of them 0 or more")
        if not torch.is_tensor(logits) or not logits.ndim or not logits.numel():
            raise ValueError(f"{what}: need a torch tensor [..., vocab], got {_kind(logits)}")
        name = self._store(logits.detach().reshape(-1, logits.shape[-1])[-1].float(), None, what)
        self._native.append({"document": key, "text": text, "ids": [int(token) for token in tokens], "logits": name})

    def finish(self, told: Mapping[str, Any]) -> None:
        """Write the index, and give the file its name."""
        rest = {name: value for name, value in told.items() if value is not None or name == "base_fingerprint"}
        if self._native:
            rest["native"] = self._native
        text = f'{json.dumps(rest)[:-1]}, "documents": [{", ".join(self._entries)}]}}'
        self.close({"format": FORMAT, "index": text})

    def _row(self, what: str, module: str, value: Any, scale: Any, digest: Any) -> dict[str, Any]:
        """An update's row in the index; its tensors are written and it is added to the hash of the adapter."""
        digest.update(module.encode())
        if isinstance(value, torch.Tensor):
            if value.ndim not in (1, 2):
                raise ValueError(f"{what}: need a matrix [d_out, d_in] or a vector, got {list(value.shape)}")
            digest.update(repr(1.0).encode())
            return {"kind": "dense" if value.ndim == 2 else "vector", "tensors": [self._store(value, digest, what)]}
        if not isinstance(value, (tuple, list)) or len(value) not in (2, 3) or not all(map(torch.is_tensor, value[:2])):
            kinds = f" of {', '.join(map(_kind, value[:3]))}" if isinstance(value, (tuple, list)) else ""
            need = "need (A, B), (A, B, scale) of torch tensors, a matrix or a vector"
            raise ValueError(f"{what}: {need}, got {_kind(value)}{kinds}")
        A, B = value[:2]
        own: Any = value[2] if len(value) == 3 else scale.get(module) if isinstance(scale, Mapping) else scale
        if not hasattr(own, "__float__") or not math.isfinite(float(own)):
            raise ValueError(f"{what}: the scale is {own}, so the update's size is unknown; state it as a number")
        if A.ndim != 2 or B.ndim != 2 or A.shape[0] != B.shape[1]:
            need = f"need A [rank, d_in] and B [d_out, rank], got {list(A.shape)} and {list(B.shape)}"
            raise ValueError(f"{what}: {need}; a B that is kept rank first has to be transposed")
        digest.update(repr(float(own)).encode())
        tensors = [self._store(A, digest, what), self._store(B, digest, what)]
        return {"kind": "low-rank", "scale": float(own), "tensors": tensors}

    def _store(self, tensor: torch.Tensor, digest: Any, what: str) -> str:
        """Write a tensor unless one of the same content is there; its name."""
        tensor = tensor.detach().cpu().contiguous()
        if tensor.dtype not in DTYPES or not bool(torch.isfinite(tensor.float()).all()):
            raise ValueError(f"{what}: need finite floating-point numbers; these are {tensor.dtype}, or not all finite")
        if digest is not None:
            digest.update(_shape_and_dtype(tensor))
            digest.update(tensor_bytes(tensor))
        name = tensor_name(tensor)
        if name not in self.places:
            self.put(name, tensor)
        return name


def tensor_name(tensor: torch.Tensor) -> str:
    """The name of a tensor in the file: a hash of its shape, number format and bytes."""
    digest = hashlib.sha256(_shape_and_dtype(tensor))
    digest.update(tensor_bytes(tensor))
    return digest.hexdigest()[:24]


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor on the CPU, as they stand in memory (no numpy is needed)."""
    size = tensor.numel() * tensor.element_size()
    return memoryview((ctypes.c_char * size).from_address(tensor.data_ptr())).cast("B") if size else memoryview(b"")


def _shape_and_dtype(tensor: torch.Tensor) -> bytes:
    return repr((tuple(tensor.shape), str(tensor.dtype))).encode()


def _has_ended(pid: str) -> bool:
    """Whether the process of a temporary's name is gone, or is this one; on Windows, where asking would end it, no."""
    if not pid.isdecimal() or int(pid) == os.getpid():
        return pid.isdecimal()
    try:
        if os.name == "posix":
            os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _key(document: Mapping[str, Any]) -> str:
    """A document's key: as stated, or the hash of its text. Raises ValueError where the two differ or both are missing."""
    text, key = (document.get(name) if isinstance(document, Mapping) else None for name in ("document", "key"))
    ours = text_key(text) if isinstance(text, str) else key if text is None else None
    if not isinstance(ours, str) or (key is not None and key != ours):
        raise ValueError(f"a document needs its key or its text (or both, which then agree), got key {key!r}")
    return ours


def _kind(value: Any) -> str:
    return repr(value[:40]) if isinstance(value, str) else type(value).__name__
