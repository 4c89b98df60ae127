"""Page: docs/performance.md from the JSON of the rows."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench import rows
from benchmarks.bench.record import RESULTS, RecordError, kept, read

PAGE = Path(__file__).parent.parent.parent / "docs" / "performance.md"
HEAD = """# Performance

What an audit costs beside the forward passes that it needs, and beside other tools; written by `make bench` from the files in
`benchmarks/results/`. Every ratio is of two sides run in turn in one process on the same inputs: the median over the repeats,
and in brackets the smallest and the largest. Seconds are CPU seconds of one thread unless a line says otherwise. Seconds hang on
the machine, and so do ratios between work and overhead: where two machines differed, the text says so. A missed goal stands as it
was measured, and the text above each table says what limits it.
"""

ON_GPU = """## On a GPU

`python -m benchmarks.gpu` builds randomly initialised models of the exact shapes of Gemma-2-2B and Mistral-7B in bf16, with
rank-8 adapters on every `down_proj`: the readings, an adapter a document, twelve conditions on 489 items beside the floor by
operations and bytes, peak memory, and the error of float32 margins and of margins read in the model's own format.
"""
NAMED = {"smollm2": "SmolLM2-135M", "organism": "The organism, half a million parameters"}
TABLE = ("| measure | against | figure | goal | |", "|---|---|---|---|---|")


def write(folder: Path = RESULTS, page: Path = PAGE) -> list[Path]:
    """Write the page; returns the files that it is without. Raises RecordError before anything is written."""
    page.write_text(text(folder), encoding="utf-8")
    return [
        kept(name, own, folder)
        for name, row in measurable()
        for own in row.SUBJECTS
        if not kept(name, own, folder).is_file()
    ]


def measurable() -> list[tuple[str, Any]]:
    """Every row and its module, by name."""
    names = sorted(found.name for found in pkgutil.iter_modules(rows.__path__))
    return [(name, importlib.import_module(f"benchmarks.bench.rows.{name}")) for name in names]


def text(folder: Path = RESULTS) -> str:
    """The page: a section a row that was measured, in the order of the rows' files. Raises RecordError."""
    sections = [HEAD]
    for name, row in measurable():
        files = {own: file for own in row.SUBJECTS if (file := kept(name, own, folder)).is_file()}
        if files:
            tables = [shown(file, table, row=name, subject=own) for own, file in files.items()]
            sections.append("\n".join([f"## {row.TITLE}\n\n{row.LIMITS}\n", *tables]))
    return "\n".join([*sections, on_gpu(folder / "gpu.json")])


def shown(file: Path, how: Callable[[Mapping[str, Any]], str], **wanted: str | None) -> str:
    """A kept result as text. Raises RecordError, naming the file."""
    try:
        return how(read(file, **wanted))
    except RecordError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise RecordError(f"{file}: lacks {fault}; measure it again") from fault


def on_gpu(file: Path) -> str:
    """The figures of `benchmarks/gpu.py`, or that there are none."""
    if not file.is_file():
        return (
            ON_GPU
            + "\n**These figures are missing: no GPU was at hand.** On a CPU it runs with small shapes, in the tests.\n"
        )
    return shown(file, gpu_tables)


def gpu_tables(found: Mapping[str, Any]) -> str:
    """The tables of the figures that were measured on a GPU."""
    if not found["machine"]["gpu"]:
        raise ValueError("a GPU: its figures were measured on a CPU")
    tables = ["\n".join([f"\n{name}:\n", *TABLE, *map(table_row, lines)]) for name, lines in found["shapes"].items()]
    return "\n".join([ON_GPU, *tables, f"\n*{found['machine']['gpu']}, torch {found['torch']}.*\n"])


def table(found: Mapping[str, Any]) -> str:
    """One row's table on one subject, and where it was measured."""
    inputs = ", ".join(f"{key} {value}" for key, value in found["inputs"].items())
    machine, versions = found["machine"], found["versions"]
    used = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    lines = [
        *([f"### {NAMED[found['subject']]}\n"] if found["subject"] else []),
        *TABLE,
        *(table_row(line) for line in found["lines"]),
        "",
        f"*{inputs}. {machine['processor']}, {machine['cores']} cores, {machine['threads']} thread(s) in use{gpu}; Python "
        f"{machine['python']}, {used}. {found['measured'][:10]}.*\n",
    ]
    return "\n".join(lines)


def table_row(line: Mapping[str, Any]) -> str:
    """One line of a table."""
    v = line["value"]
    figure = f"{number(v['median'])}"
    if v["n"] > 1:
        figure += f" [{number(v['low'])}, {number(v['high'])}]"
    if line["unit"] != "ratio":
        figure += f" {line['unit']}"
    goal = "" if line["goal"] is None else f"{line['goal'][0]} {number(line['goal'][1])}"
    met = {True: "met", False: "**missed**", None: ""}[line["met"]]
    return f"| {line['measure']} | {line['against']} | {figure} | {goal} | {met} |"


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
