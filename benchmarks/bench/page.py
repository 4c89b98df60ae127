"""Writing docs/performance.md from the stored results."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench import rows
from benchmarks.bench.record import RESULTS, RecordError, read, result_file

PAGE = Path(__file__).parent.parent.parent / "docs" / "performance.md"
HEAD = """# Performance

How long does it take to measure a method (an *audit*), and how much of that is the tool's own work? The tables compare each
kind of measurement with the bare passes through the model that it cannot do without, and with other tools that do the same.

The cost of an audit compared with the forward passes that it needs, and with other tools; written by `make bench` from the files
in `benchmarks/results/`. Every ratio compares two sides run in turn in one process on the same inputs: the median over the
repeats, and in brackets the smallest and the largest. Seconds are CPU seconds of one thread unless a line says otherwise. Seconds
depend on the machine, and so do ratios between work and overhead: where two machines differed, the text says so. Missed goals are
shown as measured, and the text above each table says what limits them.
"""

NO_FIGURES = """
**The figures are missing**: no GPU was at hand. On a CPU the kit's rehearsal runs, in the tests.
"""
ON_GPU = """## On a GPU

`python -m benchmarks.gpu` is a kit for the hour when there is one: the tests marked `gpu`; the organism's conflicts and its whole
default audit against the CPU's float32 readings; then, in bf16 with random weights and rank-8 adapters on every `down_proj`, the
costs on the exact shapes of Gemma-2-2B, Mistral-7B and Qwen3-4B, beside the bare forward pass and the least time by operations
and bytes at what the card itself reaches. `--rehearse` runs every line on a CPU with tiny shapes. The figures are of two runs on
one kind of card; in the second, other tests were at work on the machine's processor for the first two minutes. All tests marked
`gpu` passed in both, but their number is not stored: the kit misread what pytest printed.

bf16's largest gap in the whole audit, 9.0 nats, was not divided by kind of item on the card. In the rehearsal on a CPU the
largest gap is 5.7 nats of all readings and 0.15 of those of items that name their old answer. Others take the answer that the
base itself puts first, and where two are about as probable the formats differ in which it is: the margin is then that of another
pair of answers, and neither is wrong. Since then the kit shows both gaps.

What limits these rows: at twelve tokens a question, a pass of a batch launches some thousand operations of a few microseconds
each, and the card waits for the processor that launches them: by the two lines of the conditions the bare pass itself takes 37
times its floor on Gemma-2-2B's shape and 9 times on Mistral-7B's. A profile of the conditions (`python -m
benchmarks.gpu.where_time_goes cuda gemma-2-2b 192`, 12.4 s under the profiler) has half of the time in forward passes, each as
long as a bare one; a fifth in stacking, checking and measuring adapters that lie in the machine's memory, and a quarter in
comparing a unit's adapters with each other, on the processor. Fitting starts with draws on the processor, which take more than
half of four steps. Not done yet: these three on the card, larger units there, a captured graph of the pass.
"""
NAMED = {"smollm2": "SmolLM2-135M", "organism": "The organism, half a million parameters"}
TABLE = ("| measure | against | figure | goal | |", "|---|---|---|---|---|")


def write(folder: Path = RESULTS, page: Path = PAGE) -> list[Path]:
    """Write the page; returns the result files that are missing. Raises RecordError before anything is written."""
    page.write_text(text(folder), encoding="utf-8")
    return [
        result_file(name, subject, folder)
        for name, row in measurable()
        for subject in row.SUBJECTS
        if not result_file(name, subject, folder).is_file()
    ]


def measurable() -> list[tuple[str, Any]]:
    """Every row and its module, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(rows.__path__))
    return [(name, importlib.import_module(f"benchmarks.bench.rows.{name}")) for name in names]


def text(folder: Path = RESULTS) -> str:
    """The page: one section per measured row, in the order of the rows' files. Raises RecordError."""
    sections = [HEAD]
    for name, row in measurable():
        files = {subject: file for subject in row.SUBJECTS if (file := result_file(name, subject, folder)).is_file()}
        if files:
            tables = [shown(file, table, row=name, subject=subject) for subject, file in files.items()]
            sections.append("\n".join([f"## {row.TITLE}\n\n{row.LIMITS}\n", *tables]))
    return "\n".join([*sections, on_gpu(folder / "gpu.json")])


def shown(file: Path, how: Callable[[Mapping[str, Any]], str], **expected: str | None) -> str:
    """A stored result as text. Raises RecordError, naming the file."""
    try:
        return how(read(file, **expected))
    except RecordError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise RecordError(f"{file}: {fault} is missing or wrong; measure it again") from fault


def on_gpu(file: Path) -> str:
    """The figures of `benchmarks/gpu`, or a note that there are none."""
    if not file.is_file():
        return ON_GPU + NO_FIGURES
    return shown(file, gpu_tables)


def gpu_tables(result: Mapping[str, Any]) -> str:
    """The tables of the figures that were measured on a GPU; a step that failed says why."""
    parts = [ON_GPU]
    for step in result["steps"]:
        machine, versions = step["machine"], step["versions"]
        if not machine["gpu"]:
            raise ValueError("a GPU: its figures were measured on a CPU")
        shown = [*TABLE, *map(table_row, step["lines"])] if step["lines"] else []
        if step["fault"] is not None:
            shown.append(f"Failed: {step['fault'].splitlines()[0]}")
        if shown:
            where = f"{machine['gpu']}, {machine['cores']} cores, Python {machine['python']}, torch {versions['torch']}"
            parts += [f"\n{step['name']}:\n", *shown, f"\n*{where}, {step['measured'][:10]}.*"]
    return "\n".join(parts) + "\n"


def table(result: Mapping[str, Any]) -> str:
    """One row's table on one subject, and where it was measured."""
    inputs = ", ".join(f"{key} {value}" for key, value in result["inputs"].items())
    machine, versions = result["machine"], result["versions"]
    used = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    lines = [
        *([f"### {NAMED[result['subject']]}\n"] if result["subject"] else []),
        *TABLE,
        *(table_row(line) for line in result["lines"]),
        "",
        f"*{inputs}. {machine['processor']}, {machine['cores']} cores, {machine['threads']} thread(s) in use{gpu}; Python "
        f"{machine['python']}, {used}. {result['measured'][:10]}.*\n",
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
    """Three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
