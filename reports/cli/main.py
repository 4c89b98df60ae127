"""`override-gap`: the command line. Each command imports the heavy libraries after its arguments have been checked."""

from __future__ import annotations

import argparse
import difflib
import errno
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from override_gap.margins.text import one_line
from override_gap.reports.cli._say import say, say_text

LONGEST = 1000
"""Characters of an error message; it may quote a file."""
DONE, UNMEASURED, WRONG, INTERRUPTED = 0, 1, 2, 130
VERBS = {
    "audit": "measure a method on a subject and write a run folder with its report",
    "handshake": "check a method's adapters on a few documents: they have an effect, the right scale, and fit the model",
    "adapters": "write a method's adapters to files, describe them, or copy the kit that writes them where the method lives",
    "report": "recompute the statistics and the report of a run from its stored readings",
    "merge": "join the shards of one run, written by `audit --shard`",
    "tune": "choose the policy and gain to use under a budget, from a run's stored readings",
    "compare": "compare several runs on the same items, with paired differences",
    "index": "list a folder of runs with their verdicts, as a page and a table",
    "power": "how many items a verdict, a difference or a price needs, by simulation",
    "doctor": "verify a run folder: what is missing or damaged, and what to do",
    "items": "check, convert or describe an item file, or write its documents for a method",
    "calibrate": "plant known faults in the organism and check that the verdict names each",
    "organism": "train the organism (the default subject) again, or on another world",
    "list": "list what can be named: subjects, adapters, items, policies, probes",
    "completion": "print a shell script that completes these commands and their options",
}
EXAMPLES = """examples:
  override-gap audit --subject smollm2 --adapters fitted --items starter
  override-gap audit --subject ./my-model --adapters ./lora-folders --items conflicts.jsonl \\
      --policies as-delivered,uniform,slb --out runs/mine
  override-gap report runs/mine
  override-gap tune runs/mine --keep 0.95
  override-gap compare runs/mine runs/theirs --out compare.html
  override-gap items check conflicts.jsonl
"""


OPTIONS_ONLY = ("\0options",)
"""Arguments that no command line can hold; a command that gets them raises ParserRequested and does nothing else."""


class ParserRequested(Exception):
    """Carries a command's parser out of its `main`."""

    def __init__(self, requested: argparse.ArgumentParser) -> None:
        super().__init__(requested.prog)
        self.parser = requested


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line with the nearest known flag, and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"{self.prog}: {one_line(message)} (see `{self.prog} --help`)\n")

    def parse_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:  # type: ignore[override]
        if args is not None and tuple(args) == OPTIONS_ONLY:
            raise ParserRequested(self)
        parsed, rest = self.parse_known_args(args, namespace or argparse.Namespace())
        if rest:
            flags = [flag for action in self._actions for flag in action.option_strings]
            near = difflib.get_close_matches(rest[0].split("=")[0], flags, n=1)
            self.error(f"unknown argument {rest[0]!r}" + (f"; did you mean {near[0]}?" if near else ""))
        return parsed


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        say_text(_help())
        return DONE if argv else WRONG
    if argv[0] == "--version":
        from importlib.metadata import version

        say(f"override-gap {version('override-gap')}")
        return DONE
    verb = argv[0]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        say(f"override-gap: unknown command {verb!r}{hint} (see `override-gap --help`)", error=True)
        return WRONG
    debug = "--debug" in argv
    rest = [word for word in argv[1:] if word != "--debug"]
    try:
        code = importlib.import_module(f"override_gap.reports.cli.{verb}").main(rest)
        sys.stdout.flush()  # here, so that a full disk behind it is told in one line
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else WRONG if stop.code else DONE
    except KeyboardInterrupt:
        if debug:
            raise
        say(f"override-gap {verb}: interrupted", error=True)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as fault:  # exit code 1 means "some items not measured", so an unforeseen error must not end in it
        if debug:
            raise
        known = isinstance(fault, ValueError | OSError | RuntimeError)
        say(f"override-gap {verb}: {_one_line(fault, known)}", error=True)
        return WRONG
    except BaseException as fault:
        # a panic in a Rust library is not an Exception; every other BaseException is passed on
        if debug or type(fault).__name__ != "PanicException":
            raise
        say(f"override-gap {verb}: a library failed: {_one_line(fault, True)}", error=True)
        return WRONG


def _one_line(fault: BaseException, known: bool) -> str:
    """An error as one line that is safe to show: terminal escapes written out, long messages shortened."""
    text = " ".join(_told(fault).split()) or type(fault).__name__
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return one_line(text if known else f"{type(fault).__name__}: {text} (--debug shows where)")


def _told(fault: BaseException) -> str:
    """An error's message; an error of the system without one of its own as file, reason and what to do."""
    if type(fault).__str__ is not OSError.__str__ or not isinstance(fault, OSError) or fault.errno is None:
        return str(fault)
    from override_gap.margins.whole_files import DISK_FULL

    about = "a file" if fault.filename is None else str(fault.filename)
    if fault.errno in DISK_FULL:
        room = "make room on the disks of --out, of the standard output and of temporary files (TMPDIR)"
        return f"{about} cannot be written: {fault.strerror}; {room}, then give the command again"
    remedy = "; give a shorter name" if fault.errno == errno.ENAMETOOLONG else ""
    return f"{about}: {fault.strerror}{remedy}"


def entry() -> NoReturn:
    """The console command."""
    # Libraries make a million objects that stay; by default Python searches them all for garbage nine times in an audit.
    gc.set_threshold(50_000, 20, 20)
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before `main` could catch it
        sys.exit(INTERRUPTED)


def parser(verb: str, epilog: str = "") -> Parser:
    """A command's parser, with the flag that every command has."""
    command = Parser(
        prog=f"override-gap {verb}",
        description=VERBS[verb],
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {phrase}" for verb, phrase in VERBS.items())
    return (
        "usage: override-gap COMMAND [options]\n\n"
        "When a method that turns a document into weights fails to override what a model believes,\n"
        "is its adapter too small, and does scaling it up repair the failure?\n\n"
        f"commands:\n{verbs}\n\n{EXAMPLES}\n"
        "`override-gap COMMAND --help` shows a command's options. Exit codes: 0 done; 1 done, but some items could not\n"
        "be measured; 2 wrong usage or input; 130 interrupted (the same command resumes)."
    )
