"""Bad model folders, weights and GGUF files."""

from __future__ import annotations

import json
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tests.cli.bad_inputs.cases import CASES, DEEP, Case, case, tensors, write_file
from tests.families import build


@cache
def shipped() -> dict[str, bytes]:
    """A tiny model in the folder form that save_pretrained writes, as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = build("llama")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def model(folder: Path, **changed: Any) -> Case:
    """A tiny model's folder with other settings in its config.json; the words that audit it, and no message yet."""
    for name, raw in shipped().items():
        write_file(folder, f"model/{name}", raw)
    config = json.loads(shipped()["config.json"])
    write_file(folder, "model/config.json", {**config, **changed})
    return ["audit", "--subject", "model", "--adapters", "fitted", "--items", "starter", "--quiet", "--out", "run"], ""


MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "a billion layers": ({"num_hidden_layers": 10**9}, "claims 1,000,000,000 layers"),
    "layers below zero": ({"num_hidden_layers": -1}, "claims -1 layers"),
    "a vocabulary of a trillion": ({"vocab_size": 10**12}, "claims a map of 1,000,000,000,000 x 32"),
    "a width below zero": ({"hidden_size": -32}, "claims a map of 64 x -32"),
    "another architecture": ({"architectures": ["BertForMaskedLM"]}, "not a causal language model"),
}
for title, (changed, message) in MODELS.items():
    CASES[f"model: {title}"] = lambda folder, changed=changed, message=message: (model(folder, **changed)[0], message)


@case("model: its own Python code")
def _(folder: Path) -> Case:
    words, _ = model(folder, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnLM"})
    write_file(folder, "model/own.py", "from pathlib import Path\nPath('ran').write_text('x')\n")
    return words, "give --trust-remote-code"


WEIGHTS: dict[str, tuple[bytes, str]] = {
    "a header of terabytes": ((2**42).to_bytes(8, "little") + b"{}", "claims a header of 4,398,046,511,104 bytes"),
    "offsets that overlap": (
        tensors({"a": ("F32", [4], [0, 16]), "b": ("F32", [4], [8, 24])}, 24),
        "cannot be loaded",
    ),
    "a header that is not a table": ((4).to_bytes(8, "little") + b"[1] ", "its header is not a table of tensors"),
    "nothing at all": (b"", "cannot be loaded"),
}
for title, (raw, message) in WEIGHTS.items():

    def builder(folder: Path, raw: bytes = raw, message: str = message) -> Case:
        words = model(folder)[0]
        write_file(folder, "model/model.safetensors", raw)
        return words, message

    CASES[f"model: {title}"] = builder


@case("model: an index that names a file outside")
def _(folder: Path) -> Case:
    words = model(folder)[0]
    (folder / "model" / "model.safetensors").rename(folder / "other.safetensors")
    write_file(folder, "model/model.safetensors.index.json", {"weight_map": {"lm_head.weight": "../other.safetensors"}})
    return words, "'../other.safetensors', which is not in this folder"


@case("model: a pickle alone")
def _(folder: Path) -> Case:
    words = model(folder)[0]
    (folder / "model" / "model.safetensors").unlink()
    torch.save({"lm_head.weight": torch.ones(2)}, folder / "model" / "pytorch_model.bin")
    return words, "a pickle, which is not opened because it can run code"


@case("model: a configuration nested deeply")
def _(folder: Path) -> Case:
    words = model(folder)[0]
    write_file(folder, "model/config.json", DEEP)
    return words, "cannot be loaded as a causal language model"


def gguf(*values: bytes, tensors: int = 0, count: int | None = None) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(values) if count is None else count) + b"".join(values)


def key(name: bytes, kind: int, rest: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + rest


def tensor(name: bytes, numbers: int, offset: int) -> bytes:
    """The entry of a tensor of one dimension, in the header."""
    return struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, numbers, 0, offset)


GGUF: dict[str, tuple[bytes, str]] = {
    "an array without end": (gguf(key(b"a", 9, struct.pack("<IQ", 0, 2**60))), "claims an array of"),
    "a text without end": (gguf(key(b"a", 8, struct.pack("<Q", 2**60))), "claims a text of"),
    "values without end": (gguf(count=2**60), "claims 0 tensors and 1,152,921,504,606,846,976 values"),
    "tensors without end": (gguf(tensors=2**60), "tensors and 0 values in 24 bytes"),
    "a billion layers": (gguf(key(b"llama.block_count", 4, struct.pack("<I", 10**9))), "claims 1,000,000,000 layers"),
    "an array of arrays": (gguf(key(b"a", 9, struct.pack("<IQIQ", 9, 1, 9, 2**60))), "a value has type 9"),
    "an array without end, big-endian": (
        b"GGUF" + struct.pack(">IQQ", 3, 0, 1) + struct.pack(">Q", 1) + b"a" + struct.pack(">IIQ", 9, 0, 2**60),
        "claims an array of",
    ),
    "a text of 2^63": (gguf(key(b"a", 8, struct.pack("<Q", 2**63))), "claims a text of"),
    "a tensor behind the file's end": (
        gguf(tensor(b"t", 1, 2**40), tensors=1, count=0),
        "a tensor of [1] at 1,099,511,627,776",
    ),
    "a tensor twice": (gguf(tensor(b"t", 1, 0), tensor(b"t", 1, 0), tensors=2, count=0), "has the tensor t twice"),
    "tensors over one another": (
        gguf(*(tensor(b"%d" % n, 4000, 0) for n in range(64)), tensors=64, count=0) + bytes(4000),
        "numbers in",
    ),
    "tensors over one another by 2^64": (
        gguf(tensor(b"t", 2**64 - 1, 2**64 - 1), tensors=1, count=0),
        "it claims a tensor of",
    ),
    "a value of no type": (gguf(key(b"a", 77, b"")), "a value has type 77"),
    "no GGUF": (b"GGML" + bytes(64), "not a GGUF file"),
}
for title, (raw, message) in GGUF.items():
    CASES[f"gguf: {title}"] = lambda folder, raw=raw, message=message: (
        [
            "audit",
            "--subject",
            write_file(folder, "m.gguf", raw),
            "--adapters",
            "fitted",
            "--items",
            "starter",
            "--quiet",
        ],
        message,
    )
