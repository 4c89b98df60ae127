"""Power loss at a random instant: does an audit end in the undisturbed readings, and is what a command writes old or new?

    python benchmarks/power_loss.py --losses 100 --each 20 --without both --out docs/reliability.md

Every request to the disk of an audit, and of each command of benchmarks/writing_commands.py, is recorded by a library that is
loaded with LD_PRELOAD (benchmarks/disk_trace.c). The power fails after a drawn request: benchmarks/disk_trace.py builds the
folder that a disk may then hold, in one half of the losses without anything that was not flushed, in the other with a random
part of it, in any order. Every record is checked first: replayed to its end without a loss it must give the files that are
there, byte for byte.

- An audit is given again and must end in the undisturbed readings, float by float; half of those are cut off once more on the
  way. Units that were stored (their readings were renamed and their folder flushed) are counted if they are lost.
- After a command each file must be the older version or the new one, a new folder must be absent or whole, and nothing may be
  lost that was there; after its end everything must be new. A part of the losses is followed by the same command, which must
  end in what it would have written and leave no temporary file.

The same records are then read as if fsync had not been called (--without), which shows what this campaign finds where a writer
forgets it.
"""

from __future__ import annotations

import argparse
import copy
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.disk_trace import Disk, Request, read_log, require_complete, start_again_with_library, watch

Log = Callable[[str], None]
WITHOUT = {"files": "fsync of files", "folders": "fsync of folders", "both": "any fsync"}


@dataclass(frozen=True)
class Record:
    """What was on the disk before, and every request since."""

    before: Disk
    requests: Sequence[Request]

    def disk(self, until: int, without: str | None = None) -> Disk:
        """The disk after so many requests; `without` names what is read as if it had not been flushed."""
        disk = copy.deepcopy(self.before)
        disk.flushed_files = without not in ("files", "both")
        disk.flushed_folders = without not in ("folders", "both")
        for request in self.requests[:until]:
            disk.follow(request)
        return disk


def recorded(root: Path, log: Path, work: Callable[[], None]) -> tuple[Record, int]:
    """Record what `work` does to a folder, in a child; its exit code. Raises Incomplete where the record lacks something."""
    from benchmarks.faults import in_child

    before = Disk(root)

    def watched() -> None:
        watch(root, log)
        work()

    code = in_child(watched)
    record = Record(before, read_log(log, root))
    log.unlink(missing_ok=True)
    require_complete(record.disk(len(record.requests)), root)
    return record, code


@dataclass
class Outcome:
    """What became of the losses of one kind."""

    losses: int = 0
    held: int = 0
    stored: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)


def stored_units(requests: Sequence[Request]) -> set[str]:
    """Readings that were renamed and whose folder was flushed: the audit went on to the next unit."""
    renamed, stored = set[str](), set[str]()
    for request in requests:
        if request.kind == "R" and "/readings/" in request.second:
            renamed.add(request.second)
        if request.kind == "G" and request.path.endswith("/readings"):
            stored |= renamed
    return stored


def lose_audits(
    losses: int, seed: int, folder: Path, log: Log, without: str | None = None
) -> tuple[dict[str, Outcome], int]:
    """Losses during an audit, by what the disk kept of what was not flushed; and the number of requests of an audit."""
    from benchmarks import faults

    subject = faults.tiny_subject(seed)
    faults.audit(subject, folder / "undisturbed")
    expected = faults.tables(folder / "undisturbed")
    rng = random.Random(seed)
    root = folder / "disk"
    root.mkdir()
    first, code = recorded(root, folder / "log", lambda: faults.audit(subject, root / "run"))
    if code:
        raise RuntimeError(f"the undisturbed run ended with {code}")
    outcomes = {"nothing": Outcome(), "part": Outcome()}
    for number in range(losses):
        kind = ("nothing", "part")[number % 2]
        outcome, record, out = outcomes[kind], first, folder / f"loss-{number}"
        outcome.losses += 1
        for again in range(rng.randint(1, 2)):
            if again:
                place = out
                record, _ = recorded(place, folder / "log", lambda: faults.audit(subject, place / "run"))  # noqa: B023
                out = folder / f"loss-{number}-again"
            until = rng.randint(1, len(record.requests)) if record.requests else 0
            record.disk(until, without).after_power_loss(out, None if kind == "nothing" else rng)
            stored = stored_units(record.requests[:until])
            outcome.stored += len(stored)
            outcome.lost += sum(not (out / name).exists() for name in stored)
        code = faults.in_child(lambda: faults.audit(subject, out / "run"))  # noqa: B023
        wrong = f"the resumed run ended with {code}" if code else faults.defect(out / "run", expected, 0.0)
        outcome.held += wrong is None
        if wrong is not None:
            outcome.wrong.append(f"audit, loss {number}: {wrong}")
            log(outcome.wrong[-1])
        for name in (f"loss-{number}", f"loss-{number}-again"):
            shutil.rmtree(folder / name, ignore_errors=True)
    return outcomes, len(first.requests)


def lose_after_kills(seed: int, folder: Path, log: Log) -> Outcome:
    """An audit killed right after each new folder and each rename of readings or manifest, given again to its end, and then the
    power fails: is anything lost that the finished run holds? A killed process may not have flushed what it had made.
    """
    from benchmarks import faults
    from benchmarks.writing_commands import tree

    subject = faults.tiny_subject(seed)
    root, found = folder / "disk", folder / "found"
    root.mkdir()
    first, _ = recorded(root, folder / "log", lambda: faults.audit(subject, root / "run"))
    outcome = Outcome()
    for number, request in enumerate(first.requests):
        renamed = request.kind == "R" and ("/readings/" in request.second or request.second.endswith("manifest.json"))
        if request.kind != "M" and not renamed:
            continue
        shutil.rmtree(root)
        root.mkdir()
        disk = Disk(root)
        for kill in (number + 2, None):

            def watched(kill: int | None = kill) -> None:
                watch(root, folder / "log", kill)
                faults.audit(subject, root / "run")

            faults.in_child(watched)
        for each in read_log(folder / "log", root):
            disk.follow(each)
        (folder / "log").unlink()
        require_complete(disk, root)
        disk.after_power_loss(found)
        lost = sorted(set(tree(root)) - set(tree(found)) - {"run/lock"})
        shutil.rmtree(found)
        outcome.losses += 1
        outcome.held += not lost
        if lost:
            outcome.wrong.append(
                f"killed after {request.kind} {request.second or request.path}: {len(lost)} files lost"
            )
            log(outcome.wrong[-1])
    return outcome


def lose_commands(
    each: int,
    seed: int,
    folder: Path,
    log: Log,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
) -> dict[str, dict[str | None, Outcome]]:
    """`each` losses during each command, by command and by what is read as not flushed (None: as it was)."""
    from benchmarks import writing_commands as writing
    from benchmarks.faults import in_child
    from override_gap.reports.export.pdf import browser

    try:
        printing = bool(browser())
    except RuntimeError:
        printing = False
    (folder / "stock").mkdir()
    made = writing.stock(folder / "stock", seed, reports=not only or any("report" in name for name in only))
    rng, root, found, outcomes = random.Random(seed), folder / "work", folder / "found", {}
    for command in writing.commands(made, printing):
        if only and command.name not in only:
            continue
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        command.prepare(root)
        old = writing.tree(root)
        record, code = recorded(root, folder / "log", lambda: writing.run_and_exit(command.work, root))  # noqa: B023
        new = writing.tree(root)
        by_way = outcomes[command.name] = {way: Outcome() for way in (None, *without)}
        for number in range(each):
            # the last loss is after the command's end
            until = len(record.requests)
            if number < each - 1:  # a third of them at the last requests, where what is new appears
                until = rng.randint(0, until) if rng.random() < 2 / 3 else max(0, until - rng.randint(0, 4))
            draw = rng.random()
            for way, outcome in by_way.items():
                shutil.rmtree(found, ignore_errors=True)
                strict = number == each - 1 or number % 2 == 0
                record.disk(until, way).after_power_loss(found, None if strict else random.Random(draw))
                there = writing.tree(found)
                wrong = writing.harm(command, there, old, new)
                if wrong is None and number == each - 1:
                    undone = sorted(path for path in new if there.get(path) != new[path] and not path.endswith("/lock"))
                    wrong = f"{undone[0]}: not new after the command's end" if undone else None
                if wrong is None and way is None and number % 5 == 0:
                    shutil.rmtree(root)
                    shutil.copytree(found, root)
                    again = in_child(lambda: writing.run_and_exit(command.work, root))  # noqa: B023
                    wrong = given_again(writing.tree(root), new, again, code)
                outcome.losses += 1
                outcome.held += wrong is None
                if wrong is not None:
                    outcome.wrong.append(f"{command.name}, after request {until} of {len(record.requests)}: {wrong}")
                    if way is None:
                        log(outcome.wrong[-1])
        log(f"{command.name}: {by_way[None].held} of {each}")
    return outcomes


def given_again(found: dict[str, bytes], new: dict[str, bytes], code: int, undisturbed: int) -> str | None:
    """What is wrong after the same command was given again; it may refuse (2) where its output is there already."""
    if found != new:
        wrong = sorted(path for path in {*found, *new} if found.get(path) != new.get(path))
        wrong = [path for path in wrong if not path.endswith("/lock")]
        if wrong:
            return f"{wrong[0]}: not as undisturbed after the command was given again (exit code {code})"
    return None if code in (undisturbed, 2) else f"given again it ended with {code}"


def block(audits: dict[str | None, tuple[dict[str, Outcome], int]], commands: dict, seed: int, seconds: float) -> str:
    """The campaign's figures as Markdown."""
    lines = [
        "| what the disk held of what was not flushed | losses during an audit | equal to the undisturbed run "
        "| units stored before | of these lost |",
        "|---|---|---|---|---|",
    ]
    names = {"nothing": "nothing", "part": "a random part, in any order"}
    outcomes, requests = audits[None]
    lines += [f"| {names[kind]} | {o.losses} | {o.held} | {o.stored} | {o.lost} |" for kind, o in outcomes.items()]
    ways = list(next(iter(commands.values()), {None: None}))
    heads = ["as it is", *(f"without {WITHOUT[way]}" for way in ways if way)]
    lines += ["", f"| command | losses | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 2)]
    for name, by_way in commands.items():
        lines.append(f"| {name} | {by_way[None].losses} | {' | '.join(str(o.held) for o in by_way.values())} |")
    totals = [sum(by_way[way].held for by_way in commands.values()) for way in ways]
    count = sum(by_way[None].losses for by_way in commands.values())
    lines += [f"| all | {count} | {' | '.join(map(str, totals))} |", ""]
    losses, held = sum(o.losses for o in outcomes.values()), sum(o.held for o in outcomes.values())
    lines.append(
        f"Seed {seed}: {held} of {losses} audits ended in the undisturbed readings; an audit makes {requests} requests. "
        f"{totals[0]} of {count} losses during another command left every file old or new. The campaign took "
        f"{seconds / 60:.1f} minutes on one core of a shared machine."
    )
    for way, (found, _) in audits.items():
        if way is not None:
            losses, held = sum(o.losses for o in found.values()), sum(o.held for o in found.values())
            stored, lost = sum(o.stored for o in found.values()), sum(o.lost for o in found.values())
            lines.append(
                f"Without {WITHOUT[way]}, {held} of {losses} audits end in the undisturbed readings and {lost} of {stored} "
                "stored units are lost."
            )
    wrong = [line for o in outcomes.values() for line in o.wrong]
    wrong += [line for by_way in commands.values() for line in by_way[None].wrong]
    return "\n".join([*lines, *(f"- {line}" for line in wrong)]) + "\n"


def main() -> int:
    """Run the campaign and write its page; exit code 1 unless everything held, 3 where no C compiler is found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--losses", type=int, default=100, help="during an audit")
    parser.add_argument("--each", type=int, default=20, help="during each other command")
    parser.add_argument("--only", action="append", default=[], metavar="COMMAND", help="only these commands")
    parser.add_argument(
        "--without", action="append", default=[], choices=tuple(WITHOUT), help="also without this fsync"
    )
    parser.add_argument("--after-kills", action="store_true", help="only audits that were killed before, to their end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="page whose block between power-loss marks is replaced")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not start_again_with_library():
        print("power_loss: no C compiler (gcc or cc) or no Linux here, so nothing was run", file=sys.stderr)
        return 3
    started = time.monotonic()

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    audits, commands = {}, {}
    with tempfile.TemporaryDirectory(prefix="override-gap-power-") as name:
        folder = Path(name).resolve()
        if args.after_kills:
            killed = lose_after_kills(args.seed, folder, log)
            text = (
                f"{killed.held} of {killed.losses} audits that were killed right after they had made a folder or renamed "
                "readings or a manifest, and then finished, keep every file if the power fails after their end.\n"
            )
            print(text)
            if args.out:
                replace_block(args.out, "power-loss-after-kills", text)
            return 0 if killed.held == killed.losses else 1
        for way in (None, *args.without):
            (folder / f"audits-{way}").mkdir()
            losses = args.losses if way is None else -(-args.losses // 4)
            audits[way] = lose_audits(
                losses, args.seed, folder / f"audits-{way}", log if way is None else lambda _: None, way
            )
        if args.each:
            commands = lose_commands(args.each, args.seed, folder, log, args.only, args.without)
    text = block(audits, commands, args.seed, time.monotonic() - started)
    print(text)
    if args.out:
        replace_block(args.out, "power-loss", text)
    held = all(o.held == o.losses and not o.lost for o in audits[None][0].values())
    return 0 if held and all(by_way[None].held == by_way[None].losses for by_way in commands.values()) else 1


def replace_block(page: Path, mark: str, text: str) -> None:
    """Replace what stands between two marks of a page."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    head, rest = page.read_text(encoding="utf-8").split(begin)
    page.write_text(head + begin + text + end + rest.split(end)[1], encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
