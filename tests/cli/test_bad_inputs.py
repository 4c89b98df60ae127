"""Inputs that nobody should have to fear: each ends in one clear line and exit code 2, and nothing is written anywhere."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

import override_gap.probes.subject.load
from override_gap.probes.sources import peft_config
from override_gap.probes.store.schema import REQUIRED
from override_gap.probes.subject import file_checks as claims
from override_gap.reports.cli.main import main
from tests.families import build

ITEM = {
    "id": "a",
    "point": "p",
    "split": "conflict",
    "document": "alpha beta red .",
    "question": "alpha beta",
    "answer": "red",
    "prior_answer": "blue",
}
DOWN = "model.layers.1.mlp.down_proj"
PEFT = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}
Case = tuple[list[str], str]
Made = Callable[[Path], Case]
CASES: dict[str, Made] = {}


def case(name: str) -> Callable[[Made], Made]:
    def keep(made: Made) -> Made:
        assert name not in CASES
        CASES[name] = made
        return made

    return keep


def written(place: Path, name: str, content: bytes | str | Any) -> str:
    """A file in the place; JSON where it is neither text nor bytes."""
    text = content if isinstance(content, bytes | str) else json.dumps(content)
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return name


# Item files: (name, content, what is said)
DEEP = "[" * 100_000
ITEMS: dict[str, tuple[str, Any, str]] = {
    "an empty file": ("i.jsonl", "", "no items in it"),
    "white space": ("i.jsonl", " \n\t\n", "no items in it"),
    "broken JSON": ("i.jsonl", json.dumps(ITEM)[:-3], "i.jsonl:1: not JSON"),
    "a number": ("i.jsonl", "3", "need a JSON object"),
    "deep nesting": ("i.jsonl", '{"id": ' + DEEP, "not JSON: nested too deeply"),
    "nesting in meta": ("i.jsonl", {**ITEM, "meta": {"a": json.loads("[" * 150 + "]" * 150)}}, "nested too deeply"),
    "deep nesting in an array": ("i.json", DEEP, "nested too deeply"),
    "a giant line": ("i.jsonl", b'{"id": "' + b"a" * (16 * 2**20), "i.jsonl:1: a line of more than 16,777,216 bytes"),
    "NUL bytes": ("i.jsonl", b'{"id": "a\0"}', "NUL at byte 9"),
    "NUL escaped": ("i.jsonl", {**ITEM, "id": "a\0"}, "holds the character NUL"),
    "UTF-16": ("i.jsonl", json.dumps(ITEM).encode("utf-16"), "not UTF-8 text"),
    "UTF-16 without its mark": ("i.jsonl", json.dumps(ITEM).encode("utf-16-le"), "as in UTF-16"),
    "Latin-1": ("i.jsonl", json.dumps({**ITEM, "answer": "é"}, ensure_ascii=False).encode("latin-1"), "not UTF-8 text"),
    "half a surrogate pair": ("i.jsonl", {**ITEM, "answer": "\ud800"}, "half of a surrogate pair"),
    "half a pair in raw bytes": ("i.jsonl", b'{"id": "\xed\xa0\x80"}', "not UTF-8 text"),
    "a key twice": ("i.jsonl", '{"id": "a", "id": "b"}', "key 'id' is given twice"),
    "an id twice": ("i.jsonl", json.dumps(ITEM) + "\n" + json.dumps(ITEM), "i.jsonl:2: id 'a' is already used in line 1"),
    "not a number": ("i.jsonl", json.dumps({**ITEM, "meta": {"x": float("nan")}}), "NaN is no JSON number"),
    "infinity": ("i.jsonl", json.dumps({**ITEM, "meta": {"x": float("inf")}}), "Infinity is no JSON number"),
    "a number too large": ("i.jsonl", '{"meta": 1e999}', "is too large for a floating-point number"),
    "a number of 5000 digits": ("i.jsonl", '{"meta": ' + "9" * 5000 + "}", "a number that cannot be read"),
    "an unknown field": ("i.jsonl", {**ITEM, "anser": "x"}, "unknown field 'anser'"),
    "a number for an id": ("i.jsonl", {**ITEM, "id": 3}, "need id as text"),
    "an unknown split": ("i.jsonl", {**ITEM, "split": "conflicts"}, "split 'conflicts' is none of"),
    "text for a list": ("i.jsonl", {**ITEM, "aliases": "x"}, "need aliases as a list"),
    "a list for meta": ("i.jsonl", {**ITEM, "meta": [1]}, "meta cannot be"),
    "a mark within": ("i.jsonl", json.dumps(ITEM) + "\n\ufeff" + json.dumps({**ITEM, "id": "b"}), "i.jsonl:2: not JSON"),
    "an array cut off": ("i.json", "[" + json.dumps(ITEM), "not JSON"),
    "text after an array": ("i.json", json.dumps([ITEM]) + " and more", "text after the end of the array"),
    "a terminal's escapes": ("i.jsonl", {**ITEM, "split": "\x1b[2J\x1b]0;x\x07"}, "split"),
    "an open quote": ("i.csv", 'id,point\n"a,b\n', "i.csv:2: not CSV"),
    "cells too many": ("i.csv", "id,point\na,b,c\n", "3 cells under 2 columns"),
    "a column twice": ("i.csv", "id,id\na,b\n", "two columns are called 'id'"),
    "NUL in a table": ("i.csv", b"id,point\na\0,b\n", "NUL at byte 10"),
    "meta that is no JSON": ("i.csv", "id,meta\na,{no\n", "meta is no JSON"),
    "deep meta in a table": ("i.csv", "id,meta\na," + "[" * 5000 + "\n", "nested too deeply"),
    "no Parquet": ("i.parquet", b"PAR1 and nothing more", "not a Parquet file"),
    "half a record": ("i.json", [{"case_id": 1, "requested_rewrite": {}}], "lacks what its form needs"),
    "a converter's list": ("i.json", [{"prompt": "A", "target_new": [], "subject": "A", "ground_truth": "c"}], "need answer"),
}  # fmt: skip
for title, (file, content, message) in ITEMS.items():
    CASES[f"items: {title}"] = lambda place, file=file, content=content, message=message: (
        ["items", "convert", written(place, file, content)],
        message,
    )


@case("items: a link to itself")
def _(place: Path) -> Case:
    (place / "loop.jsonl").symlink_to("loop.jsonl")
    return ["items", "describe", "loop.jsonl"], "no such file"


@case("items: a device that never ends")
def _(place: Path) -> Case:
    return ["items", "describe", "/dev/zero"], "no such item file"


@case("items: a folder by the hub's word")
def _(place: Path) -> Case:
    return ["items", "describe", "hf:../../etc"], "names no data set"


@case("items: written beneath a file")
def _(place: Path) -> Case:
    return [
        "items",
        "convert",
        written(place, "i.jsonl", ITEM),
        "--out",
        "i.jsonl/out.jsonl",
    ], "i.jsonl is not a folder"


@case("items: written over a folder")
def _(place: Path) -> Case:
    (place / "out").mkdir()
    return ["items", "convert", written(place, "i.jsonl", ITEM), "--out", "out"], "is a folder; --out needs a file"


REFERENCE = '[[references]]\nsplit = "conflict"\nmeasure = "top1"\nvalue = 0.5\nsource = "a paper"\n'
PLANS: dict[str, tuple[Any, str]] = {
    "an unknown key": ('subjct = "x"', "unknown key 'subjct'; did you mean 'subject'"),
    "no TOML": ("subject = ", "cannot be read as a TOML plan"),
    "deep nesting": ("probes = " + "[" * 50_000, "cannot be read as a TOML plan"),
    "Latin-1": ('subject = "é"'.encode("latin-1"), "cannot be read as a TOML plan"),
    "NUL": (b'subject = "\0"', "cannot be read as a TOML plan"),
    "text for a number": ('limit = "ten"', "limit needs a int"),
    "a truth value for a number": ("seed = true", "seed needs a int"),
    "a number of 5000 digits": ("seed = " + "9" * 5000, "cannot be read as a TOML plan"),
    "a key twice": ("seed = 1\nseed = 2", "cannot be read as a TOML plan"),
    "a seed too large": ("seed = 99999999999999999999", "below 2^63"),
    "a billion draws": ('probes = ["margins", "sampled"]\ndraws = 1000000000', "--draws needs a whole number from 1 to"),
    "a temperature of no number": ("temperatures = [nan]", "--temperatures needs numbers"),
    "a batch of none": ("batch_size = 0", "--batch-size needs"),
    "an unknown probe": ('probes = ["layer"]', "did you mean 'layers'"),
    "an unknown policy": ('policies = "uniforn"', "did you mean 'uniform'"),
    "a gain of 400 digits": (f'policies = "logit-fusion-{"9" * 40}"', "no setting of a policy is above 100"),
    "a reference to nothing": (REFERENCE + 'condition = "slb-2.0-50"', "references, number 1: condition 'slb-2.0-50' is not"),
    "a reference with an unknown key": (REFERENCE + 'condition = "slb"\nlayer = 3', "unknown key 'layer'"),
    "more than a plan": ("#" + " " * 2**20, "a plan has at most"),
}  # fmt: skip
for title, (content, message) in PLANS.items():
    CASES[f"plan: {title}"] = lambda place, content=content, message=message: (
        ["audit", "--config", written(place, "plan.toml", content), "--out", "run"],
        message,
    )


@case("plan: a folder")
def _(place: Path) -> Case:
    return ["audit", "--config", str(place)], "cannot be read as a TOML plan"


def tensors(shapes: dict[str, tuple[str, list[int], list[int]]], body: int) -> bytes:
    """A safetensors file with a header of one's own."""
    header = {n: {"dtype": d, "shape": s, "data_offsets": o} for n, (d, s, o) in shapes.items()}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(body)


@cache
def shipped() -> dict[str, bytes]:
    """A tiny model in the folder form that save_pretrained writes, as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = build("llama")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def model(place: Path, **changed: Any) -> Case:
    """A tiny model's folder with other settings in its config.json; the words that audit it, and no message yet."""
    for name, raw in shipped().items():
        written(place, f"model/{name}", raw)
    config = json.loads(shipped()["config.json"])
    written(place, "model/config.json", {**config, **changed})
    return ["audit", "--subject", "model", "--adapters", "fitted", "--items", "starter", "--quiet", "--out", "run"], ""


MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "a billion layers": ({"num_hidden_layers": 10**9}, "claims 1,000,000,000 layers"),
    "layers below zero": ({"num_hidden_layers": -1}, "claims -1 layers"),
    "a vocabulary of a trillion": ({"vocab_size": 10**12}, "claims a map of 1,000,000,000,000 x 32"),
    "a width below zero": ({"hidden_size": -32}, "claims a map of 64 x -32"),
    "another architecture": ({"architectures": ["BertForMaskedLM"]}, "not a causal language model"),
}
for title, (changed, message) in MODELS.items():
    CASES[f"model: {title}"] = lambda place, changed=changed, message=message: (model(place, **changed)[0], message)


@case("model: code of its own")
def _(place: Path) -> Case:
    words, _ = model(place, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnLM"})
    written(place, "model/own.py", "from pathlib import Path\nPath('ran').write_text('x')\n")
    return words, "give --trust-remote-code"


WEIGHTS: dict[str, tuple[bytes, str]] = {
    "a header of terabytes": ((2**42).to_bytes(8, "little") + b"{}", "claims a header of 4,398,046,511,104 bytes"),
    "offsets that overlap": (
        tensors({"a": ("F32", [4], [0, 16]), "b": ("F32", [4], [8, 24])}, 24),
        "cannot be loaded",
    ),
    "a header that is none": ((4).to_bytes(8, "little") + b"[1] ", "its header is not a table of tensors"),
    "nothing at all": (b"", "cannot be loaded"),
}
for title, (raw, message) in WEIGHTS.items():

    def made(place: Path, raw: bytes = raw, message: str = message) -> Case:
        words = model(place)[0]
        written(place, "model/model.safetensors", raw)
        return words, message

    CASES[f"model: {title}"] = made


@case("model: an index that leads elsewhere")
def _(place: Path) -> Case:
    words = model(place)[0]
    (place / "model" / "model.safetensors").rename(place / "other.safetensors")
    written(place, "model/model.safetensors.index.json", {"weight_map": {"lm_head.weight": "../other.safetensors"}})
    return words, "'../other.safetensors', which is not in this folder"


@case("model: a pickle alone")
def _(place: Path) -> Case:
    words = model(place)[0]
    (place / "model" / "model.safetensors").unlink()
    torch.save({"lm_head.weight": torch.ones(2)}, place / "model" / "pytorch_model.bin")
    return words, "cannot be loaded as a causal language model"


@case("model: a configuration nested deeply")
def _(place: Path) -> Case:
    words = model(place)[0]
    written(place, "model/config.json", DEEP)
    return words, "cannot be loaded as a causal language model"


def gguf(*values: bytes, tensors: int = 0, count: int | None = None) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(values) if count is None else count) + b"".join(values)


def key(name: bytes, kind: int, rest: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + rest


GGUF: dict[str, tuple[bytes, str]] = {
    "an array without end": (gguf(key(b"a", 9, struct.pack("<IQ", 0, 2**60))), "claims an array of"),
    "a text without end": (gguf(key(b"a", 8, struct.pack("<Q", 2**60))), "claims a text of"),
    "values without end": (gguf(count=2**60), "claims 0 tensors and 1,152,921,504,606,846,976 values"),
    "tensors without end": (gguf(tensors=2**60), "tensors and 0 values in 24 bytes"),
    "a billion layers": (gguf(key(b"llama.block_count", 4, struct.pack("<I", 10**9))), "claims 1,000,000,000 layers"),
    "a value of no type": (gguf(key(b"a", 77, b"")), "a value has type 77"),
    "no GGUF": (b"GGML" + bytes(64), "not a GGUF file"),
}
for title, (raw, message) in GGUF.items():
    CASES[f"gguf: {title}"] = lambda place, raw=raw, message=message: (
        ["audit", "--subject", written(place, "m.gguf", raw), "--adapters", "fitted", "--items", "starter", "--quiet"],
        message,
    )


def peft(
    place: Path, config: Any = PEFT, A: tuple[int, ...] = (2, 48), B: tuple[int, ...] = (32, 2), path: str = DOWN
) -> str:
    """A LoRA folder for the tiny model, or one that is wrong in one thing."""
    written(place, "lora/adapter_config.json", config)
    held = {f"base_model.model.{path}.lora_{n}.weight": torch.ones(s) for n, s in (("A", A), ("B", B))}
    save_file(held, place / "lora" / "adapter_model.safetensors")
    return "lora"


def raw_peft(place: Path, raw: bytes) -> str:
    peft(place)
    written(place, "lora/adapter_model.safetensors", raw)
    return "lora"


def saved(place: Path, form: str, held: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> str:
    save_file(held, place / "t.safetensors", metadata=metadata)
    return f"{form}:t.safetensors"


def recipe(place: Path, content: Any) -> str:
    written(place, "hyper/recipe.json", content)
    written(place, "hyper/hypernetwork.safetensors", tensors({}, 0))
    return "hypernetwork:folder=hyper"


def pickled(place: Path, name: str) -> str:
    (place / name).parent.mkdir(exist_ok=True)
    torch.save({"x": torch.ones(2)}, place / name)
    return name


A = f"base_model.model.{DOWN}.lora_A.weight"
COMPACT = "override-gap compact 1"
ONE = torch.ones(32, 48)
ADAPTERS: dict[str, tuple[Callable[[Path], str], str]] = {
    "no such thing": (lambda p: "nowhere", "neither a source nor a folder"),
    "nothing after the colon": (lambda p: "dense:", "names nothing after the colon"),
    "a pickle": (lambda p: "dense:" + pickled(p, "x.bin"), "pickle files are not opened because they can run code"),
    "a PEFT folder of a pickle": (
        lambda p: (peft(p), (p / "lora/adapter_model.safetensors").unlink(), pickled(p, "lora/adapter_model.bin"))[0],
        "adapter_model.bin is a pickle, which can run code and is not opened",
    ),
    "a checkpoint, not allowed": (lambda p: "doc-to-lora:" + pickled(p, "x.pt"), "add --allow-pickle"),
    "a header of terabytes": (lambda p: raw_peft(p, (2**42).to_bytes(8, "little") + b"{}"), "claims a header of"),
    "a tensor of terabytes": (lambda p: raw_peft(p, tensors({A: ("F32", [2**40, 1], [0, 2**42])}, 16)), "damaged"),
    "offsets that overlap": (
        lambda p: raw_peft(p, tensors({A: ("F32", [4], [0, 16]), "b": ("F32", [4], [8, 24])}, 24)),
        "damaged",
    ),
    "a shape below zero": (lambda p: raw_peft(p, tensors({A: ("F32", [-2, -2], [0, 16])}, 16)), "damaged"),
    "a shape that wraps round": (lambda p: raw_peft(p, tensors({A: ("F32", [2**62, 8], [0, 0])}, 0)), "damaged"),
    "a file with a hole": (lambda p: (peft(p), _grown(p / "lora/adapter_model.safetensors"))[0], "this machine's memory has"),
    "integers for weights": (lambda p: saved(p, "dense", {f"{DOWN}.weight": ONE.long()}), "floating-point"),
    "integers for factors": (
        lambda p: saved(p, "dense", {f"{DOWN}.A": torch.ones(2, 48).int(), f"{DOWN}.B": torch.ones(32, 2).int()}),
        "floating-point",
    ),
    "another model's shape": (lambda p: peft(p, A=(2, 40)), "made for another model"),
    "factors of two ranks": (lambda p: peft(p, B=(32, 3)), "of one rank"),
    "a rank of none": (lambda p: peft(p, A=(0, 48), B=(32, 0)), "has rank 0"),
    "a rank that is not declared": (lambda p: peft(p, {**PEFT, "r": 8}), "the scale would be wrong"),
    "no scale": (lambda p: peft(p, {k: v for k, v in PEFT.items() if k != "lora_alpha"}), "no lora_alpha"),
    "a scale of no number": (lambda p: peft(p, json.dumps({**PEFT, "lora_alpha": float("nan")})), "NaN is no JSON number"),
    "a scale of 400 digits": (lambda p: peft(p, '{"peft_type": "LORA", "lora_alpha": ' + "9" * 400 + "}"), "no lora_alpha"),
    "a configuration nested deeply": (lambda p: peft(p, DEEP), "nested too deeply"),
    "a key twice": (lambda p: peft(p, '{"r": 1, "r": 2}'), "key 'r' is given twice"),
    "a pattern that never ends": (
        lambda p: peft(p, {**PEFT, "alpha_pattern": {r"(.*?,?){25}\d": 3}}, path=DOWN + "down_proj" * 5),
        "to match",
    ),
    "weights of no number": (lambda p: saved(p, "dense", {f"{DOWN}.weight": ONE * float("nan")}), "not finite"),
    "weights of nothing": (lambda p: saved(p, "dense", {f"{DOWN}.weight": ONE * 0}), "changes nothing"),
    "a map that is not there": (lambda p: saved(p, "dense", {"model.layers.9.mlp.down_proj.weight": ONE}), "no linear map"),
    "a compact file of another format": (lambda p: saved(p, "compact", {"x": ONE}), "need a file with format"),
    "a compact index nested deeply": (
        lambda p: saved(p, "compact", {"x": ONE}, {"format": COMPACT, "index": DEEP}),
        "index is missing or damaged",
    ),
    "a compact index of numbers": (
        lambda p: saved(p, "compact", {"x": ONE}, {"format": COMPACT, "index": _index(key=3)}),
        "a key and a sha256 as strings",
    ),
    "a compact row without tensors": (
        lambda p: saved(p, "compact", {"x": ONE}, {"format": COMPACT, "index": _index(updates={DOWN: {"kind": "dense"}})}),
        "updates as rows of kind, tensors",
    ),
    "layers that are no list": (
        lambda p: saved(p, "doc-to-lora", {"shared/down_proj/A": torch.ones(1, 2, 48)}, {"lora_alpha": "1", "layers": "{}"}),
        "needs a JSON list of numbers",
    ),
    "a factor of one dimension": (
        lambda p: saved(p, "shine", {f"documents/a/down_proj/{n}": torch.ones(3) for n in "AB"}),
        "needs [layer, rank, d]",
    ),
    "a recipe of nothing": (lambda p: recipe(p, {}), "the weights' sha256, the base's name"),
    "a recipe nested deeply": (lambda p: recipe(p, DEEP), "nested too deeply"),
}  # fmt: skip


def _index(**changed: Any) -> str:
    row = {"key": "k", "ids": ["a"], "points": ["p"], "updates": {}, "shared": {}, "sha256": "0", **changed}
    return json.dumps({"method": "m", "documents": [row]})


def _grown(file: Path) -> None:
    with file.open("rb+") as opened:
        opened.truncate(2**27)


for title, (adapters, message) in ADAPTERS.items():
    CASES[f"adapters: {title}"] = lambda place, adapters=adapters, message=message: (
        [
            *("audit", "--subject", "tiny", "--adapters", adapters(place), "--quiet"),
            *("--items", written(place, "i.jsonl", ITEM), "--out", "run"),
        ],
        message,
    )


@case("export: beneath a file")
def _(place: Path) -> Case:
    return ["adapters", "export", "--out", f"{written(place, 'file', '')}/x", "--form", "peft"], "file is not a folder"


@case("export: over what is there")
def _(place: Path) -> Case:
    spec = ["--subject", "tiny", "--adapters", peft(place), "--items", written(place, "i.jsonl", ITEM)]
    return ["adapters", "export", *spec, "--quiet", "--out", written(place, "file", "")], "file exists; name a new file"


RUNS: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "cannot be read as JSON"),
    "a list": ("[]", "needs a JSON object"),
    "nested deeply": (DEEP, "nested too deeply"),
    "without readings": ("{}", "no readings/*.parquet"),
}
for title, (content, message) in RUNS.items():
    CASES[f"run: {title}"] = lambda place, content=content, message=message: (
        ["report", str(Path(written(place, "r/manifest.json", content)).parent)],
        message,
    )


@case("run: readings that are none")
def _(place: Path) -> Case:
    written(place, "r/readings/a.parquet", b"PAR1 and nothing more")
    return ["report", str(Path(written(place, "r/manifest.json", "{}")).parent)], "not readable as Parquet"


TABLES: dict[str, tuple[str, dict[str, list[Any]], str]] = {
    "readings without items": ("readings", {"point": ["p"]}, "r/readings/a.parquet: lacks the columns item, split"),
    "readings of no rows": ("readings", {"item": []}, "r/readings: its files hold no rows"),
    "numbers for items": ("readings", {name: [1] for name in REQUIRED}, "column item needs text, got numbers"),
    "a layer without a number": (
        "layers",
        {"item": ["a"], "condition": ["base"], "layer": [None]},
        "r/layers/a.parquet: column layer needs a value in every row",
    ),
    "an infinite share of a layer": (
        "layers",
        {"item": ["a"], "condition": ["base"], "layer": [0], "lens": [float("inf")]},
        "column lens needs finite numbers, at most 3.4e+38 in size, got inf for item 'a'",
    ),
    "draws without a temperature": ("drawn", {"item": ["a"]}, "r/drawn/a.parquet: lacks the columns point"),
}
SOUND = {**dict.fromkeys(REQUIRED), "item": "a", "point": "p", "split": "conflict", "condition": "base", "status": "ok"}
for title, (kind, columns, message) in TABLES.items():
    CASES[f"run: {title}"] = lambda place, kind=kind, columns=columns, message=message: (
        ["report", tabled(place, {"readings": {name: [value] for name, value in SOUND.items()}, kind: columns})],
        message,
    )


def tabled(place: Path, tables: dict[str, dict[str, list[Any]]]) -> str:
    """A run folder with one file of each of these tables."""
    written(place, "r/manifest.json", "{}")
    for name, columns in tables.items():
        (place / "r" / name).mkdir()
        pq.write_table(pa.table(columns), place / "r" / name / "a.parquet")
    return "r"


@case("run: a seed that is no number")
def _(place: Path) -> Case:
    written(place, "r/manifest.json", {"seed": True})
    return ["report", "r"], "seed needs a whole number from 0, got True"


@case("run: a page that leads elsewhere")
def _(place: Path) -> Case:
    written(place, "r/manifest.json", "{}")
    written(place, "precious", "keep me")
    (place / "r" / "report.html").symlink_to("../precious")
    return ["report", "r"], "r/report.html is a symbolic link"


@case("run: figures that lead elsewhere")
def _(place: Path) -> Case:
    written(place, "r/manifest.json", "{}")
    written(place, "other/x.svg", "keep me")
    (place / "r" / "figures").symlink_to("../other")
    return ["report", "r"], "r/figures is a symbolic link"


@case("doctor: readings that lead elsewhere")
def _(place: Path) -> Case:
    written(place, "other/.x.parquet.7.tmp", "keep me")
    written(place, "other/a.parquet", "keep me")
    written(place, "r/manifest.json", "{}")
    (place / "r" / "readings").symlink_to("../other")
    return ["doctor", "r", "--repair"], "r/readings is a symbolic link"


@case("doctor: a place for damage that leads elsewhere")
def _(place: Path) -> Case:
    written(place, "other/mine", "keep me")
    written(place, "r/readings/a.parquet", "PAR1 and nothing more")
    written(place, "r/manifest.json", "{")
    (place / "r" / "damaged").symlink_to("../other")
    return ["doctor", "r", "--repair"], "r/damaged is a symbolic link"


@case("doctor: no name")
def _(place: Path) -> Case:
    written(place, "manifest.json", "{}")
    return ["doctor", ""], "doctor takes a folder, got an empty name"


@case("doctor: a URL")
def _(place: Path) -> Case:
    return ["doctor", "s3://bucket/run"], "doctor takes a folder, got a URL; copy it here first"


@case("run: a page beneath a file")
def _(place: Path) -> Case:
    return ["report", "r", "--out", f"{written(place, 'file', '')}/page.html"], "file is not a folder"


@cache
def opened() -> Any:
    """The tiny model, wrapped once."""
    from tests.conftest import tiny

    return tiny("llama")


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in, with the home and the temporary folder beside it."""
    for name, variables in (
        ("work", ()),
        ("home", ("HOME", "XDG_CACHE_HOME", "OVERRIDE_GAP_HOME")),
        ("tmp", ("TMPDIR",)),
    ):
        (tmp_path / name).mkdir()
        for variable in variables:
            monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "work")
    real = override_gap.probes.subject.load.open_subject
    monkeypatch.setattr(
        override_gap.probes.subject.load, "open_subject", lambda s, **k: opened() if s == "tiny" else real(s, **k)
    )
    return tmp_path


def listing(place: Path) -> dict[str, tuple[int, int, str]]:
    """Every file, folder and link, with what would change if a file were written to.

    A folder's own time is left out: whether it can be written is tried, and nothing stays of that.
    """
    found = {}
    for path in sorted(place.rglob("*")):
        own = path.lstat()
        target = str(path.readlink()) if path.is_symlink() else ""
        folder = path.is_dir() and not path.is_symlink()
        size, when = (0, 0) if folder else (own.st_size, own.st_mtime_ns)
        found[str(path.relative_to(place))] = (size, when, target)
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_bad_input_is_one_line_and_leaves_nothing(name: str, sandbox: Path, monkeypatch, capsys) -> None:
    words, message = CASES[name](sandbox / "work")
    if "hole" in name:
        monkeypatch.setattr(claims, "total_memory", lambda: 2**20)
    monkeypatch.setattr(peft_config, "SECONDS", 0.2)
    capsys.readouterr()
    before = listing(sandbox)
    assert main(words) == 2
    said = capsys.readouterr()
    lines = said.err.strip().split("\n")
    assert len(lines) == 1, said.err
    assert message in lines[0]
    assert len(lines[0]) < 1200
    assert "Traceback" not in said.err
    assert not {c for c in said.err if ord(c) < 32 or 0x7F <= ord(c) < 0xA0} - {"\n"}
    assert "--debug shows where" not in said.err
    assert said.out == ""
    assert listing(sandbox) == before


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 100


def test_code_of_a_models_own_is_run_where_it_is_asked_for(sandbox: Path, capsys) -> None:
    """The other side of the refusal: the same folder, with the flag, is run; its code is a Llama under another name."""
    place = sandbox / "work"
    names = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnLM"}
    words, _ = model(place, model_type="own", auto_map=names, architectures=["OwnLM"])
    code = """from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path('ran').write_text('x')
class Own(LlamaConfig):
    model_type = 'own'
class OwnLM(LlamaForCausalLM):
    config_class = Own
"""
    written(place, "model/own.py", code)
    main([*words, "--trust-remote-code", "--limit", "1"])
    assert (place / "ran").exists(), capsys.readouterr().err
