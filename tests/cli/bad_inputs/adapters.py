"""Bad adapters: PEFT folders, dense, compact and stacked files, recipes, and where adapters cannot be exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.cli.bad_inputs.cases import CASES, DEEP, ITEM, Case, case, tensors, write_file

DOWN = "model.layers.1.mlp.down_proj"
PEFT = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}


def peft(
    folder: Path, config: Any = PEFT, A: tuple[int, ...] = (2, 48), B: tuple[int, ...] = (32, 2), path: str = DOWN
) -> str:
    """A LoRA folder for the tiny model, or one that is wrong in one thing."""
    write_file(folder, "lora/adapter_config.json", config)
    tensors_by_name = {f"base_model.model.{path}.lora_{n}.weight": torch.ones(s) for n, s in (("A", A), ("B", B))}
    save_file(tensors_by_name, folder / "lora" / "adapter_model.safetensors")
    return "lora"


def pattern(folder: Path, text: str) -> str:
    return peft(folder, {**PEFT, "alpha_pattern": {text: 3}})


def raw_peft(folder: Path, raw: bytes) -> str:
    peft(folder)
    write_file(folder, "lora/adapter_model.safetensors", raw)
    return "lora"


def tensor_file(
    folder: Path, form: str, tensors_by_name: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> str:
    save_file(tensors_by_name, folder / "t.safetensors", metadata=metadata)
    return f"{form}:t.safetensors"


def recipe(folder: Path, content: Any) -> str:
    write_file(folder, "hyper/recipe.json", content)
    write_file(folder, "hyper/hypernetwork.safetensors", tensors({}, 0))
    return "hypernetwork:folder=hyper"


def pickled(folder: Path, name: str) -> str:
    (folder / name).parent.mkdir(exist_ok=True)
    torch.save({"x": torch.ones(2)}, folder / name)
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
    "a checkpoint without its environment": (lambda p: "doc-to-lora:" + pickled(p, "x.pt"), "add --python"),
    "a header of terabytes": (lambda p: raw_peft(p, (2**42).to_bytes(8, "little") + b"{}"), "claims a header of"),
    "a tensor of terabytes": (lambda p: raw_peft(p, tensors({A: ("F32", [2**40, 1], [0, 2**42])}, 16)), "damaged"),
    "offsets that overlap": (
        lambda p: raw_peft(p, tensors({A: ("F32", [4], [0, 16]), "b": ("F32", [4], [8, 24])}, 24)),
        "damaged",
    ),
    "a shape below zero": (lambda p: raw_peft(p, tensors({A: ("F32", [-2, -2], [0, 16])}, 16)), "damaged"),
    "a shape that wraps round": (lambda p: raw_peft(p, tensors({A: ("F32", [2**62, 8], [0, 0])}, 0)), "damaged"),
    "a file with a hole": (lambda p: (peft(p), _grown(p / "lora/adapter_model.safetensors"))[0], "this machine's memory has"),
    "integers for weights": (lambda p: tensor_file(p, "dense", {f"{DOWN}.weight": ONE.long()}), "floating-point"),
    "integers for factors": (
        lambda p: tensor_file(p, "dense", {f"{DOWN}.A": torch.ones(2, 48).int(), f"{DOWN}.B": torch.ones(32, 2).int()}),
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
        "patterns take over",
    ),
    "200,000 alternatives": (lambda p: pattern(p, "|".join(map(str, range(200_000)))), "need at most 50,000: name"),
    "20,000 parentheses": (lambda p: pattern(p, "(" * 20_000 + "a" + ")" * 20_000), "is nested too deeply"),
    "a repeat that fills the memory": (lambda p: pattern(p, "(?:ab){1000000000}"), "once its repeats are written out"),
    "one character a billion times": (lambda p: pattern(p, r"\d{1000000000}x"), "once its repeats are written out"),
    "repeats that double": (lambda p: pattern(p, "(?:" * 90 + "a" + "b)+" * 90), "once its repeats are written out"),
    "a pattern of targets": (
        lambda p: peft(p, {"peft_type": "IA3", "target_modules": "(?:ab){1000000000}", "feedforward_modules": []}, path=""),
        "once its repeats are written out",
    ),
    "many patterns that are slow together": (
        lambda p: peft(p, {**PEFT, "rank_pattern": {rf"(.*?,?){{{n}}}\d": 3 for n in range(7, 40)}}, path=DOWN + "down_proj"),
        "patterns take over",
    ),
    "names without end": (lambda p: peft(p, {**PEFT, "modules_to_save": ["x"] * 10_001}), "modules_to_save has 10,001 entries"),
    "100,001 empty tensors": (
        lambda p: raw_peft(p, tensors({A.replace("1", str(n)): ("F32", [0, 48], [0, 0]) for n in range(100_001)}, 0)),
        "it claims 100,001 tensors",
    ),
    "a tensor's name without end": (
        lambda p: peft(p, path=DOWN + "x" * 2000),
        "a tensor's name has",
    ),
    "weights of no number": (lambda p: tensor_file(p, "dense", {f"{DOWN}.weight": ONE * float("nan")}), "not finite"),
    "weights of nothing": (lambda p: tensor_file(p, "dense", {f"{DOWN}.weight": ONE * 0}), "changes nothing"),
    "a map that is not there": (lambda p: tensor_file(p, "dense", {"model.layers.9.mlp.down_proj.weight": ONE}), "no linear map"),
    "a compact file of another format": (lambda p: tensor_file(p, "compact", {"x": ONE}), "need a file with format"),
    "a compact index nested deeply": (
        lambda p: tensor_file(p, "compact", {"x": ONE}, {"format": COMPACT, "index": DEEP}),
        "index is missing or damaged",
    ),
    "a compact index of numbers": (
        lambda p: tensor_file(p, "compact", {"x": ONE}, {"format": COMPACT, "index": _index(key=3)}),
        "a key and a sha256 as strings",
    ),
    "a compact row without tensors": (
        lambda p: tensor_file(p, "compact", {"x": ONE}, {"format": COMPACT, "index": _index(updates={DOWN: {"kind": "dense"}})}),
        "updates as rows of kind, tensors",
    ),
    "layers that are no list": (
        lambda p: tensor_file(p, "doc-to-lora", {"shared/down_proj/A": ONE[None, :2]}, {"lora_alpha": "1", "layers": "{}"}),
        "needs a JSON list of numbers",
    ),
    "a factor of one dimension": (
        lambda p: tensor_file(p, "shine", {f"documents/a/down_proj/{n}": torch.ones(3) for n in "AB"}),
        "needs [layer, rank, d]",
    ),
    "an empty recipe": (lambda p: recipe(p, {}), "the weights' sha256, the base's name and fingerprint or the shape are missing"),
    "a recipe nested deeply": (lambda p: recipe(p, DEEP), "nested too deeply"),
}  # fmt: skip


def _index(**changed: Any) -> str:
    row = {"key": "k", "ids": ["a"], "points": ["p"], "updates": {}, "shared": {}, "sha256": "0", **changed}
    return json.dumps({"method": "m", "documents": [row]})


def _grown(file: Path) -> None:
    with file.open("rb+") as opened:
        opened.truncate(2**27)


for title, (adapters, message) in ADAPTERS.items():
    CASES[f"adapters: {title}"] = lambda folder, adapters=adapters, message=message: (
        [
            *("audit", "--subject", "tiny", "--adapters", adapters(folder), "--quiet"),
            *("--items", write_file(folder, "i.jsonl", ITEM), "--out", "run"),
        ],
        message,
    )


@case("export: output below a file")
def _(folder: Path) -> Case:
    return [
        "adapters",
        "export",
        "--out",
        f"{write_file(folder, 'file', '')}/x",
        "--form",
        "peft",
    ], "file is not a folder"


@case("export: output over a file")
def _(folder: Path) -> Case:
    spec = ["--subject", "tiny", "--adapters", peft(folder), "--items", write_file(folder, "i.jsonl", ITEM)]
    return [
        "adapters",
        "export",
        *spec,
        "--quiet",
        "--out",
        write_file(folder, "file", ""),
    ], "file exists; name a new file"
