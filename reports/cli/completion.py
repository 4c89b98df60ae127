"""`override-gap completion`: what a shell needs to complete the commands and their options."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from override_gap.reports.cli.main import DONE, OPTIONS_ONLY, VERBS, ParserRequested, parser

EPILOG = """examples:
  override-gap completion bash > ~/.local/share/bash-completion/completions/override-gap
  override-gap completion zsh > ~/.zfunc/_override-gap    # with fpath+=~/.zfunc before compinit
  override-gap completion fish > ~/.config/fish/completions/override-gap.fish
"""


def main(argv: Sequence[str]) -> int:
    """Print the completion of one shell."""
    import shtab

    made = parser("completion", EPILOG)
    made.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    shell = made.parse_args(argv).shell
    print(shtab.complete(whole(), shell=shell))
    return DONE


def whole() -> argparse.ArgumentParser:
    """All verbs' parsers under one, their files and folders marked as such."""
    import shtab

    root = argparse.ArgumentParser(prog="override-gap")
    verbs = root.add_subparsers(metavar="COMMAND")
    for verb, phrase in VERBS.items():
        own = options(verb)
        for action in own._actions:
            if action.type is Path:
                marked: Any = action
                marked.complete = shtab.FILE
        verbs.add_parser(verb, parents=[own], add_help=False, help=phrase, description=phrase)
    return root


def options(verb: str) -> argparse.ArgumentParser:
    """A verb's parser, as its `main` builds it."""
    try:
        importlib.import_module(f"override_gap.reports.cli.{verb}").main(OPTIONS_ONLY)
    except ParserRequested as handed:
        return handed.parser
    raise AssertionError(f"{verb} parses no options")


SHELLS = ("bash", "zsh", "fish")
