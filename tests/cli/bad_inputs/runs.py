"""Bad run folders, for `report` and `doctor`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from override_gap.probes.store.schema import REQUIRED
from tests.cli.bad_inputs.cases import CASES, DEEP, Case, case, write_file

RUNS: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "cannot be read as JSON"),
    "a list": ("[]", "needs a JSON object, got a list"),
    "nested deeply": (DEEP, "nested too deeply"),
    "without readings": ("{}", "no readings/*.parquet"),
}
for title, (content, message) in RUNS.items():
    CASES[f"run: {title}"] = lambda folder, content=content, message=message: (
        ["report", str(Path(write_file(folder, "r/manifest.json", content)).parent)],
        message,
    )


@case("run: readings that are not Parquet")
def _(folder: Path) -> Case:
    write_file(folder, "r/readings/a.parquet", b"PAR1 and nothing more")
    return ["report", str(Path(write_file(folder, "r/manifest.json", "{}")).parent)], "not readable as Parquet"


TABLES: dict[str, tuple[str, dict[str, list[Any]], str]] = {
    "readings without items": (
        "readings",
        {"point": ["p"]},
        "r: damaged: a: readings/a.parquet: lacks the columns item, split",
    ),
    "readings of no rows": ("readings", {name: [] for name in REQUIRED}, "r/readings: its files hold no rows"),
    "numbers for items": ("readings", {name: [1] for name in REQUIRED}, "column item needs text, got numbers"),
    "a layer without a number": (
        "layers",
        {"item": ["a"], "condition": ["base"], "layer": [None]},
        "r: inconsistent: a: layers/a.parquet: column layer needs a value in every row",
    ),
    "an infinite share of a layer": (
        "layers",
        {"item": ["a"], "condition": ["base"], "layer": [0], "lens": [float("inf")]},
        "column lens needs finite numbers, at most 3.4e+38 in size, got inf for item 'a'",
    ),
    "draws without a temperature": (
        "drawn",
        {"item": ["a"]},
        "r: damaged: a: drawn/a.parquet: lacks the columns point",
    ),
}
SOUND = {**dict.fromkeys(REQUIRED), "item": "a", "point": "p", "split": "conflict", "condition": "base", "status": "ok"}
for title, (kind, columns, message) in TABLES.items():
    CASES[f"run: {title}"] = lambda folder, kind=kind, columns=columns, message=message: (
        ["report", tabled(folder, {"readings": {name: [value] for name, value in SOUND.items()}, kind: columns})],
        message,
    )


def tabled(folder: Path, tables: dict[str, dict[str, list[Any]]]) -> str:
    """A run folder with one file of each of these tables."""
    write_file(folder, "r/manifest.json", "{}")
    for name, columns in tables.items():
        (folder / "r" / name).mkdir()
        pq.write_table(pa.table(columns), folder / "r" / name / "a.parquet")
    return "r"


@case("run: a seed that is no number")
def _(folder: Path) -> Case:
    write_file(folder, "r/manifest.json", {"seed": True})
    return ["report", "r"], "seed needs a whole number from 0, got True"


@case("run: a page that is a symbolic link")
def _(folder: Path) -> Case:
    write_file(folder, "r/manifest.json", "{}")
    write_file(folder, "precious", "keep me")
    (folder / "r" / "report.html").symlink_to("../precious")
    return ["report", "r"], "r/report.html is a symbolic link"


@case("run: figures that are a symbolic link")
def _(folder: Path) -> Case:
    write_file(folder, "r/manifest.json", "{}")
    write_file(folder, "other/x.svg", "keep me")
    (folder / "r" / "figures").symlink_to("../other")
    return ["report", "r"], "r/figures is a symbolic link"


@case("tune: a table that is a pipe")
def _(folder: Path) -> Case:
    write_file(folder, "r/manifest.json", "{}")
    write_file(folder, "r/layers/x", "")
    os.mkfifo(folder / "r" / "layers" / "a.parquet")
    return ["tune", "r"], "layers/a.parquet: it is a pipe"


@case("doctor: readings that are a symbolic link")
def _(folder: Path) -> Case:
    write_file(folder, "other/.x.parquet.7.tmp", "keep me")
    write_file(folder, "other/a.parquet", "keep me")
    write_file(folder, "r/manifest.json", "{}")
    (folder / "r" / "readings").symlink_to("../other")
    return ["doctor", "r", "--repair"], "r/readings is a symbolic link"


@case("doctor: a folder for damaged files that is a symbolic link")
def _(folder: Path) -> Case:
    write_file(folder, "other/mine", "keep me")
    write_file(folder, "r/readings/a.parquet", "PAR1 and nothing more")
    write_file(folder, "r/manifest.json", "{")
    (folder / "r" / "damaged").symlink_to("../other")
    return ["doctor", "r", "--repair"], "r/damaged is a symbolic link"


@case("doctor: no name")
def _(folder: Path) -> Case:
    write_file(folder, "manifest.json", "{}")
    return ["doctor", ""], "doctor takes a folder, got an empty name"


@case("doctor: a URL")
def _(folder: Path) -> Case:
    return ["doctor", "s3://bucket/run"], "doctor takes a folder, got a URL; copy it here first"


@case("run: output below a file")
def _(folder: Path) -> Case:
    return ["report", "r", "--out", f"{write_file(folder, 'file', '')}/page.html"], "file is not a folder"
