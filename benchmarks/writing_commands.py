"""Commands that write, each with a folder to write in: what the campaigns of faults and of power loss disturb.

Each is prepared on readings of a tiny random model (benchmarks/faults.py), with an older version of every file that it replaces,
so that after a disturbance each file must be the older version or the new one. Two of a report's figures are drawn and its
statistics are computed once for all reports: they take most of its time and write nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from benchmarks import faults
from override_gap.margins.items.files import write_items
from override_gap.margins.items.item import documents_of
from override_gap.probes.run.engine import Local
from override_gap.probes.run.loop import run_plan
from override_gap.probes.run.resolve import resolve
from override_gap.probes.run.shards import Shard
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.subject.model import Subject

OLDER = b"an older version of this file\n"


@dataclass(frozen=True)
class Command:
    """A command: `prepare` fills a new folder, `work` runs it there and returns its exit code.

    `whole`: folders of which nothing may be seen until all of it is there. `keeps`: whether every file that was there before must
    be somewhere afterwards, as where files are moved. `share`: of a campaign's runs, beside 1 of a quick command.
    """

    name: str
    prepare: Callable[[Path], None]
    work: Callable[[Path], int]
    whole: tuple[str, ...] = ()
    keeps: bool = False
    share: float = 1.0


@dataclass(frozen=True)
class Stock:
    """What the commands work on, made once: a run, the same run by shards, its items, and the subject that it was measured on."""

    folder: Path
    subject: Subject
    source: FittedAdapters


def stock(folder: Path, seed: int = 0, *, reports: bool = True) -> Stock:
    """Measure a tiny run, whole and in two shards; `reports`: whether reports will be written, which need its statistics."""
    subject = faults.tiny_subject(seed)
    source = FittedAdapters(subject, steps=1, lr=3e-2)
    items = faults.questions()
    resolved = resolve(replace(faults.PLAN, policies="as-delivered,uniform", probes=("margins", "layers")), items)
    run_plan(Local(subject, source), resolved, folder / "run")
    for number in (1, 2):
        run_plan(Local(subject, source), resolved, folder / f"shard{number}", shard=Shard(number, 2))
    write_items(items, folder / "items.jsonl")
    if reports:
        _keep_summary(folder / "run")
        _warm(folder / "run", folder / "warm")
    return Stock(folder, subject, source)


def _keep_summary(run: Path) -> None:
    """Compute a run's statistics, and let every report in this process and its children have them."""
    from override_gap.analyses import summary
    from override_gap.analyses.readings import load

    computed = pickle.dumps(summary.summarise(load(run), seed=0))
    summary.summarise = lambda *_args, **_settings: pickle.loads(computed)


def _warm(run: Path, folder: Path) -> None:
    """Run what takes long to import once in this process, so that its children need not."""
    shutil.copytree(run, folder)
    with contextlib.redirect_stdout(io.StringIO()):
        command_line("report", str(folder), "--quiet")
        command_line("compare", str(folder), "--condition", "as-delivered,uniform-1.5", "--out", str(folder / "c.html"))
        command_line("tune", str(folder))


def command_line(*words: str) -> int:
    """The exit code of override-gap in this process, with two figures a report."""
    from override_gap.reports import figures
    from override_gap.reports.cli.main import main

    figures.FIGURES = tuple(spec for spec in figures.FIGURES if spec.name in ("outcomes", "retention"))
    return main(list(words))


def commands(made: Stock, browser: bool) -> list[Command]:
    """Every command of the campaigns."""

    def with_run(*older: str, runs: Sequence[str] = ("run",)) -> Callable[[Path], None]:
        def prepare(folder: Path) -> None:
            for name in runs:
                shutil.copytree(made.folder / name, folder / name)
            for name in older:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(OLDER)

        return prepare

    def with_items(older: str) -> Callable[[Path], None]:
        def prepare(folder: Path) -> None:
            shutil.copyfile(made.folder / "items.jsonl", folder / "items.jsonl")
            (folder / older).write_bytes(OLDER)

        return prepare

    def report(form: str, out: str, *words: str) -> Command:
        page = ("run/summary.json", "run/report.html", "run/figures/outcomes.svg", "run/figures/outcomes.png")
        return Command(
            f"report, {form}",
            with_run(*{*page, out}),
            lambda folder: command_line("report", str(folder / "run"), "--quiet", *words, "--out", str(folder / out)),
            share=0.3 if form.startswith("pdf") else 0.5,
        )

    def export(form: str) -> Callable[[Path], int]:
        def work(folder: Path) -> int:
            from override_gap.probes.sources.export import export as write_adapters
            from override_gap.reports.cli._args import writable

            documents = documents_of(faults.questions())
            name = "adapters" if form == "peft" else "adapters.safetensors"
            out = folder / "out" / name

            def write() -> None:
                writable(out, folder=form == "peft")
                write_adapters(made.subject, made.source, documents, form, out)

            return _as_a_command(write)

        return work

    def nothing(folder: Path) -> None:
        (folder / "out").mkdir()

    return [
        Command(
            "merge",
            with_run(runs=("shard1", "shard2")),
            lambda folder: command_line(
                "merge", *(str(folder / f"shard{n}") for n in (1, 2)), "--out", str(folder / "merged")
            ),
            whole=("merged",),
        ),
        report("html", "run/report.html"),
        report("html --out", "page.html"),
        *(report(f"{form} --out", f"report.{form}", "--format", form) for form in ("md", "tex", "json")),
        report("model card", "card.md", "--model-card"),
        *([report("pdf --out", "report.pdf", "--format", "pdf")] if browser else []),
        Command(
            "compare",
            with_run("compare.html", runs=("run", "shard1")),
            lambda folder: command_line(
                "compare",
                str(folder / "run"),
                *("--condition", "as-delivered,uniform-1.5"),
                *("--out", str(folder / "compare.html")),
            ),
        ),
        Command(
            "tune",
            with_run("run/gains.json"),
            lambda folder: command_line("tune", str(folder / "run")),
        ),
        Command(
            "items convert",
            with_items("converted.jsonl"),
            lambda folder: command_line(
                "items", "convert", str(folder / "items.jsonl"), "--out", str(folder / "converted.jsonl")
            ),
        ),
        Command(
            "items documents",
            with_items("documents.jsonl"),
            lambda folder: command_line(
                "items", "documents", str(folder / "items.jsonl"), "--out", str(folder / "documents.jsonl")
            ),
        ),
        Command("adapters export, peft", nothing, export("peft"), whole=("out/adapters",)),
        Command("adapters export, compact", nothing, export("compact")),
        Command(
            "doctor --repair",
            lambda folder: _damaged(made, folder),
            lambda folder: command_line("doctor", str(folder / "run"), "--repair"),
            keeps=True,
        ),
    ]


def run_and_exit(work: Callable[[Path], int], root: Path, messages: str = os.devnull) -> NoReturn:
    """Run a command in a forked child that prints nothing here; its messages go to a file. Ends with its exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(messages, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    code = work(root)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _as_a_command(work: Callable[[], Any]) -> int:
    """What the command line does with an error, for what is called from Python."""
    try:
        work()
    except (ValueError, OSError) as fault:
        print(f"override-gap: {' '.join(str(fault).split())}", file=sys.stderr)
        return 2
    return 0


def _damaged(made: Stock, folder: Path) -> None:
    """A run with two damaged tables, one of each kind of file that a killed process leaves, and a manifest that was changed."""
    shutil.copytree(made.folder / "run", folder / "run")
    first, second, *_ = sorted((folder / "run" / "readings").iterdir())
    first.write_bytes(first.read_bytes()[:-20])
    content = bytearray(second.read_bytes())
    content[len(content) // 3] ^= 255
    second.write_bytes(bytes(content))
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    (folder / "run" / "manifest.json").write_text(json.dumps({**manifest, "seed": 5}, indent=2))
    # no process has this number: it is above the largest that Linux gives
    (folder / "run" / "layers" / f".{first.name}.4194305.tmp").write_bytes(b"half")


Tree = dict[str, bytes]


def tree(folder: Path) -> Tree:
    """Every file below a folder, by path."""
    return {
        str(file.relative_to(folder)): without_dates(file.read_bytes()) for file in folder.rglob("*") if file.is_file()
    }


def without_dates(content: bytes) -> bytes:
    """A PDF or a gains.json without the time at which it was made; other content as it is."""
    if not content.startswith(b"%PDF"):
        return re.sub(rb'(?m)^  "created": "[^"]*",$', b"", content)
    return re.sub(rb"/(CreationDate|ModDate) \(D:[^)]*\)", rb"/\1", content)


def litter(found: Tree, old: Tree, new: Tree) -> list[str]:
    """Files that neither the older state nor the new one has."""
    return sorted(set(found) - set(old) - set(new) - {f"{run}/lock" for run in ("run", "merged")})


def harm(command: Command, found: Tree, old: Tree, new: Tree) -> str | None:
    """What is neither old nor new, in words; None where every file is one of them, and a folder that appears is whole."""
    for path in sorted({*old, *new}):
        if path.endswith((".tmp", "/lock")):
            continue
        if found.get(path) not in (old.get(path), new.get(path)):
            state = "gone" if path not in found else f"{len(found[path])} bytes of neither version"
            return f"{path}: {state}"
    for folder in command.whole:
        wanted = {path for path in new if path.startswith(f"{folder}/")}
        there = wanted & set(found)
        if there and there != wanted:
            return f"{folder}: {len(there)} of its {len(wanted)} files"
    if command.keeps:
        contents = set(found.values())
        gone = sorted(path for path, content in old.items() if not path.endswith(".tmp") and content not in contents)
        # what a repair writes anew is not kept twice
        gone = [path for path in gone if path not in new or new[path] == old[path]]
        if gone:
            return f"{gone[0]}: nowhere any more"
    return None
