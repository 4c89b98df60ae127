"""Commands that write, killed or out of disk: is every file the older version or the new one, and is nothing left behind?

    python benchmarks/faults_writing.py --runs 260 --out docs/reliability.md

The second campaign beside benchmarks/faults.py, for what measures nothing: the commands of benchmarks/writing_commands.py.
Disturbances:

- kill: kill -9 at a time drawn uniformly over the duration of the undisturbed command, or (every second one) before a drawn
  request to the disk, a write half done;
- disk: a tmpfs with room for a drawn part of what the command adds; where none can be mounted, and every second time, a
  limit on the size of a file (RLIMIT_FSIZE), drawn over the sizes that the command writes;
- flush, rename: from a drawn one on, every fsync fails with EIO, or every rename with EACCES (benchmarks/disk_trace.c).

After it each file must be the older version or the new one, and a new folder absent or whole. A command that fails must end
with exit code 2 and one line that names the file, the reason and what to do, and leave no temporary file; what a killed one
leaves must be named by `override-gap doctor` of its folder. Then the same command is given again: it must end in what it
would have written, with no temporary file left. Every run has a folder for temporary files (TMPDIR) of its own: what a killed
command leaves there is counted, a command that fails may leave nothing, and the command that is given again has to remove it.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.disk_trace import start_again_with_library, watch
from benchmarks.power_loss import given_again, recorded, replace_block

KINDS = ("kill", "disk", "flush", "rename")
NAMES = {
    "kill": "kill -9",
    "disk": "disk full",
    "flush": "fsync fails (EIO)",
    "rename": "rename fails (EACCES)",
}
REMEDY = re.compile(r"make room|make it writable|another (folder|disk)|another place")


@dataclass
class Tally:
    """What became of the runs of one command or one kind of disturbance."""

    runs: int = 0
    affected: int = 0
    held: int = 0
    left: int = 0
    elsewhere: int = 0
    named: int = 0
    failed: int = 0
    said: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for name in ("runs", "affected", "held", "left", "elsewhere", "named", "failed", "said"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def disturbed(kind: str, root: Path, work: Callable[[Path], int], rng: random.Random, cost: Cost, traced: bool) -> int:
    """The exit code of `work` under a drawn disturbance of a kind, its messages in `root`.err; negative for a signal."""
    from benchmarks.faults import in_child
    from benchmarks.writing_commands import run_and_exit

    kill_after: float | None = None
    settings: dict[str, object] = {}
    limit: int | None = None
    if kind == "kill" and (not traced or rng.random() < 0.5):
        kill_after = rng.uniform(0, 1.1 * cost.seconds)
    elif kind == "kill":
        settings["kill"] = rng.randint(1, max(1, cost.requests))
    elif kind == "disk":
        limit = rng.randint(1024, max(2048, cost.largest))  # the message, which is a file too, fits
    elif kind == "flush":
        settings["fail"] = f"FG:{rng.randint(1, max(1, cost.flushes))}:{errno.EIO}"
    else:
        settings["fail"] = f"R:{rng.randint(1, max(1, cost.renames))}:{errno.EACCES}"

    def under_fault() -> None:
        if settings:
            watch(root, None, **settings)  # type: ignore[arg-type]
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        run_and_exit(work, root, f"{root}.err")

    return in_child(under_fault, kill_after=kill_after)


@dataclass(frozen=True)
class Cost:
    """What an undisturbed command takes: seconds, requests, flushes, renames, bytes of its largest file and of all files."""

    seconds: float
    requests: int
    flushes: int
    renames: int
    largest: int
    added: int


def full_disk(stack: ExitStack, root: Path, size: int) -> bool:
    """Mount a tmpfs of `size` bytes at a folder; False where none can be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(root)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    stack.callback(subprocess.run, ["umount", str(root)], capture_output=True, check=True)
    return True


def said_well(messages: str, root: Path) -> bool:
    """Whether the last line names a file, the reason and what to do, and no bare number of an error."""
    lines = [line for line in messages.strip().split("\n") if line]
    errors = [line for line in lines if line.startswith("override-gap")]
    if len(errors) != 1 or lines[-1] is not errors[0] or "Traceback" in messages:
        return False
    return str(root) in errors[0] and "[Errno" not in errors[0] and REMEDY.search(errors[0]) is not None


def campaign(
    runs: int, seed: int, folder: Path, log: Callable[[str], None], traced: bool, only: tuple[str, ...] = ()
) -> tuple[dict[str, Tally], dict[str, Tally], float]:
    """`runs` disturbed commands, the same number of each; tallies by command and by disturbance, and how long it took."""
    from benchmarks import writing_commands as writing
    from benchmarks.faults import in_child
    from override_gap.reports.export.pdf import browser

    try:
        printing = bool(browser())
    except RuntimeError:
        printing = False
    started = time.monotonic()
    (folder / "stock").mkdir()
    made = writing.stock(folder / "stock", seed, reports=not only or any("report" in name for name in only))
    rng, root, temporary = random.Random(seed), folder / "work", folder / "tmp"
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None  # of every command from here on
    kinds = KINDS if traced else KINDS[:2]
    chosen = [c for c in writing.commands(made, printing) if not only or c.name in only]
    by_command, by_kind = {c.name: Tally() for c in chosen}, {kind: Tally() for kind in kinds}
    shares = sum(command.share for command in chosen)
    for command in chosen:
        each = max(len(kinds), round(runs * command.share / shares))
        emptied(root)
        emptied(temporary)
        command.prepare(root)
        old = writing.tree(root)
        begun = time.monotonic()
        work = command.work
        requests = []
        if traced:
            record, code = recorded(root, folder / "log", lambda: writing.run_and_exit(work, root))  # noqa: B023
            requests = list(record.requests)
        else:
            code = in_child(lambda: writing.run_and_exit(work, root))  # noqa: B023
        new = writing.tree(root)
        changed = [len(content) for path, content in new.items() if old.get(path) != content]
        cost = Cost(
            time.monotonic() - begun,
            len(requests),
            sum(r.kind in "FG" for r in requests),
            sum(r.kind == "R" for r in requests),
            max(changed, default=1),
            sum(-(-size // 4096) * 4096 for size in changed),
        )
        for number in range(each):
            kind = kinds[number % len(kinds)]
            tally = Tally(runs=1)
            with ExitStack() as stack:
                emptied(root)
                emptied(temporary)
                on_tmpfs = False
                if kind == "disk" and number // len(kinds) % 2 == 0:
                    size = sum(-(-len(content) // 4096) * 4096 + 4096 for content in old.values()) + 65536
                    on_tmpfs = full_disk(stack, root, size + rng.randint(0, cost.added))
                command.prepare(root)
                if on_tmpfs:  # the rest of the room is filled but for a drawn part
                    free = shutil.disk_usage(root).free
                    (root / "filling").write_bytes(b"0" * max(0, free - rng.randint(0, cost.added)))
                    result = in_child(lambda: writing.run_and_exit(work, root, f"{root}.err"))  # noqa: B023
                    (root / "filling").unlink(missing_ok=True)
                else:
                    result = disturbed(kind, root, work, rng, cost, traced)
                found = writing.tree(root)
                wrong = judged(command, tally, root, (old, new, found), result, code, kind)
                elsewhere = sorted(os.listdir(temporary))
                tally.elsewhere = int(bool(elsewhere))
                if elsewhere and result == 2:
                    wrong = wrong or f"{elsewhere[0]}: left in TMPDIR by a command that failed"
                if wrong is None:
                    if on_tmpfs:
                        kept = folder / "kept"
                        shutil.rmtree(kept, ignore_errors=True)
                        shutil.copytree(root, kept)
                        stack.close()
                        shutil.rmtree(root)
                        shutil.copytree(kept, root)
                    again = in_child(lambda: writing.run_and_exit(work, root))  # noqa: B023
                    wrong = given_again(writing.tree(root), new, again, code)
                    if kept_there := sorted(os.listdir(temporary)):
                        wrong = wrong or f"{kept_there[0]}: still in TMPDIR after the command was given again"
            tally.held = int(wrong is None)
            by_command[command.name].add(tally)
            by_kind[kind].add(tally)
            if wrong is not None:
                line = f"{command.name}, {NAMES[kind]}: {wrong}"
                by_command[command.name].wrong.append(line)
                log(line)
        log(f"{command.name}: {by_command[command.name].held} of {each}, {time.monotonic() - started:.0f} s")
    return by_command, by_kind, time.monotonic() - started


def emptied(folder: Path) -> None:
    """Make a folder anew, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def judged(command, tally: Tally, root: Path, trees, result: int, code: int, kind: str) -> str | None:
    """What is wrong after a disturbance, in words; counts in `tally` what was left, named and said."""
    from benchmarks import writing_commands as writing

    old, new, found = trees
    tally.affected = int(result != code or found != new)
    wrong = writing.harm(command, found, old, new)
    left = writing.litter(found, old, new)
    if left:
        tally.left = 1
        tally.named = int(named_by_doctor(root, left))
    if kind != "kill" and result != code:
        messages = Path(f"{root}.err").read_text(errors="replace")
        tally.failed = 1
        tally.said = int(result == 2 and said_well(messages, root))
        if not tally.said:
            wrong = wrong or f"exit code {result}, said: {messages.strip().split(chr(10))[-1][:300]!r}"
        if left:
            wrong = wrong or f"{left[0]}: left by a command that failed"
    if left and not tally.named:
        wrong = wrong or f"{left[0]}: left, and doctor does not name it"
    return wrong


def named_by_doctor(root: Path, left: list[str]) -> bool:
    """Whether doctor names each temporary file or folder, asked about the run that it is in, or else about its folder."""
    from override_gap.probes.store.half_written import diagnose_place

    for name in left:
        parts = Path(name).parts
        which = next((index for index, part in enumerate(parts) if part.startswith(".")), len(parts) - 1)
        run = next((parent for parent in Path(name).parents if (root / parent / "manifest.json").exists()), None)
        place = root.joinpath(*parts[:which]) if run is None or which < len(run.parts) else root / run
        try:
            found = diagnose_place(place).findings
        except ValueError:
            return False
        if not any(finding.kind in ("leftover", "held") and parts[which] in finding.about for finding in found):
            return False
    return True


def block(by_command: dict[str, Tally], by_kind: dict[str, Tally], seed: int, seconds: float) -> str:
    """The campaign's figures as Markdown."""
    lines = []
    for head, rows in (("command", by_command), ("disturbance", by_kind)):
        total = Tally()
        lines += [
            f"| {head} | runs | affected | held | left something | named by doctor | left in TMPDIR | failed | "
            "said in one line what to do |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name, t in rows.items():
            total.add(t)
            lines.append(_row(NAMES.get(name, name), t))
        lines += [_row("all", total), ""]
    lines.append(
        f"Seed {seed}: {total.held} of {total.runs} held: every file old or new, and as undisturbed when the command was given "
        f"again. The campaign took {seconds / 60:.1f} minutes on one core of a shared machine."
    )
    return "\n".join([*lines, *(f"- {line}" for tally in by_command.values() for line in tally.wrong)]) + "\n"


def _row(name: str, t: Tally) -> str:
    return f"| {name} | {t.runs} | {t.affected} | {t.held} | {t.left} | {t.named} | {t.elsewhere} | {t.failed} | {t.said} |"


def main() -> int:
    """Run the campaign and write its page; exit code 1 unless every run held."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=260)
    parser.add_argument("--only", action="append", default=[], metavar="COMMAND", help="only these commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="page whose block between faults-writing marks is replaced")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    traced = start_again_with_library()
    with tempfile.TemporaryDirectory(prefix="override-gap-faults-") as name:
        log = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
        by_command, by_kind, seconds = campaign(
            args.runs, args.seed, Path(name).resolve(), log, traced, tuple(args.only)
        )
    text = block(by_command, by_kind, args.seed, seconds)
    if not traced:
        text += "No C compiler here: kills at random times only, and no failing fsync or rename.\n"
    print(text)
    if args.out:
        replace_block(args.out, "faults-writing", text)
    return 0 if all(tally.held == tally.runs for tally in by_command.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
