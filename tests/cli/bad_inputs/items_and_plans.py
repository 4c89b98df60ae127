"""Bad item files and plans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.bad_inputs.cases import CASES, DEEP, ITEM, Case, case, write_file

# Item files: (name, content, what is said)
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
    "UTF-16 cut off": ("i.jsonl", json.dumps(ITEM).encode("utf-16")[:-1], "not UTF-16 text"),
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
    "a list as id": ("i.jsonl", {**ITEM, "id": [3]}, "need id as text"),
    "an unknown split": ("i.jsonl", {**ITEM, "split": "conflicts"}, "split 'conflicts' is none of"),
    "text for a list": ("i.jsonl", {**ITEM, "aliases": "x"}, "need aliases as a list"),
    "a list for meta": ("i.jsonl", {**ITEM, "meta": [1]}, "meta cannot be"),
    "a mark of byte order": ("i.jsonl", json.dumps(ITEM) + "\n\ufeff" + json.dumps({**ITEM, "id": "b"}), "i.jsonl:2: not JSON"),
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
    "a converter's list": ("i.json", [{"prompt": "A", "target_new": [], "subject": "A", "ground_truth": "c"}], "without a new"),
}  # fmt: skip
for title, (file, content, message) in ITEMS.items():
    CASES[f"items: {title}"] = lambda folder, file=file, content=content, message=message: (
        ["items", "convert", write_file(folder, file, content)],
        message,
    )


@case("items: a link to itself")
def _(folder: Path) -> Case:
    (folder / "loop.jsonl").symlink_to("loop.jsonl")
    return ["items", "describe", "loop.jsonl"], "no such file"


@case("items: a device that never ends")
def _(folder: Path) -> Case:
    return ["items", "describe", "/dev/zero"], "no such item file"


@case("items: a folder named as a data set on the hub")
def _(folder: Path) -> Case:
    return ["items", "describe", "hf:../../etc"], "names no data set"


@case("items: output below a file")
def _(folder: Path) -> Case:
    return [
        "items",
        "convert",
        write_file(folder, "i.jsonl", ITEM),
        "--out",
        "i.jsonl/out.jsonl",
    ], "i.jsonl is not a folder"


@case("items: output over a folder")
def _(folder: Path) -> Case:
    (folder / "out").mkdir()
    return ["items", "convert", write_file(folder, "i.jsonl", ITEM), "--out", "out"], "is a folder; --out needs a file"


REFERENCE = '[[references]]\nsplit = "conflict"\nmeasure = "top1"\nvalue = 0.5\nsource = "a paper"\n'
PLANS: dict[str, tuple[Any, str]] = {
    "an unknown key": ('subjct = "x"', "unknown key 'subjct'; did you mean 'subject'"),
    "no TOML": ("subject = ", "cannot be read as a TOML plan"),
    "deep nesting": ("probes = " + "[" * 50_000, "cannot be read as a TOML plan"),
    "Latin-1": ('subject = "é"'.encode("latin-1"), "cannot be read as a TOML plan"),
    "NUL": (b'subject = "\0"', "cannot be read as a TOML plan"),
    "text for a number": ('limit = "ten"', "limit needs a whole number"),
    "a truth value for a number": ("seed = true", "seed needs a whole number"),
    "a number of 5000 digits": ("seed = " + "9" * 5000, "cannot be read as a TOML plan"),
    "a key twice": ("seed = 1\nseed = 2", "cannot be read as a TOML plan"),
    "a seed too large": ("seed = 99999999999999999999", "below 2^63"),
    "a billion draws": ('probes = ["margins", "sampled"]\ndraws = 1000000000', "--draws needs a whole number from 1 to"),
    "a temperature of no number": ("temperatures = [nan]", "--temperatures needs numbers"),
    "a batch of none": ("batch_size = 0", "--batch-size needs"),
    "an unknown probe": ('probes = ["layer"]', "did you mean 'layers'"),
    "an unknown policy": ('policies = "uniforn"', "did you mean 'uniform'"),
    "a gain of 400 digits": (f'policies = "logit-fusion-{"9" * 40}"', "a setting is above 100, the largest allowed"),
    "a reference to nothing": (REFERENCE + 'condition = "slb-2.0-50"', "references, number 1: condition 'slb-2.0-50' is not"),
    "a reference with an unknown key": (REFERENCE + 'condition = "slb"\nlayer = 3', "unknown key 'layer'"),
    "a key of very many parts": ("a." * 500_000 + "a = 1", "a key of 100 parts or more"),
    "a table of very many parts": ("[" + '"a b" . ' * 100_000 + "a]", "a key of 100 parts or more"),
    "more than a plan": ("#" + " " * 2**20, "a plan has at most"),
}  # fmt: skip
for title, (content, message) in PLANS.items():
    CASES[f"plan: {title}"] = lambda folder, content=content, message=message: (
        ["audit", "--config", write_file(folder, "plan.toml", content), "--out", "run"],
        message,
    )


@case("plan: a folder")
def _(folder: Path) -> Case:
    return ["audit", "--config", str(folder)], "cannot be read: Is a directory"


for word in ("callable:os:system", "callable:subprocess:getoutput", "os:system", "doc-to-lora:x.bin,repository=folder"):
    CASES[f"plan: adapters that name code, {word}"] = lambda folder, word=word: (
        ["audit", "--config", write_file(folder, "plan.toml", f'adapters = "{word}"'), "--out", "run"],
        "give --trust-plan",
    )
