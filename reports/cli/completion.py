"""`override-gap completion`: a script with which a shell completes the commands and their options."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from override_gap.reports.cli._say import say_text
from override_gap.reports.cli.main import DONE, OPTIONS_ONLY, VERBS, ParserRequested, parser

EPILOG = """examples:
  override-gap completion bash > ~/.local/share/bash-completion/completions/override-gap
  override-gap completion zsh > ~/.zfunc/_override-gap    # with fpath+=~/.zfunc before compinit
  override-gap completion fish > ~/.config/fish/completions/override-gap.fish

Needs shtab: pip install 'override-gap[completion]'
"""
SHELLS = ("bash", "zsh", "fish")


def main(argv: Sequence[str]) -> int:
    """Print the completion script of one shell. Raises ValueError where shtab is not installed."""
    arguments = parser("completion", EPILOG)
    arguments.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    shell = arguments.parse_args(argv).shell
    try:
        import shtab
    except ImportError as fault:
        raise ValueError(
            "completion needs shtab, which is not installed: pip install 'override-gap[completion]'"
        ) from fault
    say_text(shtab.complete(parser_of_all(shtab.FILE), shell=shell))
    return DONE


def parser_of_all(file_marker: Any) -> argparse.ArgumentParser:
    """Every command's parser under one; options that take a path carry shtab's marker for files."""
    root = argparse.ArgumentParser(prog="override-gap")
    commands = root.add_subparsers(metavar="COMMAND")
    for verb, phrase in VERBS.items():
        command = options(verb)
        for action in command._actions:
            if action.type is Path:
                vars(action)["complete"] = file_marker
        commands.add_parser(verb, parents=[command], add_help=False, help=phrase, description=phrase)
    return root


def options(verb: str) -> argparse.ArgumentParser:
    """A command's parser, as its `main` builds it."""
    try:
        importlib.import_module(f"override_gap.reports.cli.{verb}").main(OPTIONS_ONLY)
    except ParserRequested as request:
        return request.parser
    raise AssertionError(f"{verb} parses no options")
