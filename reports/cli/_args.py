"""Arguments that several commands share: run folders, output paths checked before the work, flags for untrusted files."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from override_gap.margins.whole_files import is_stream, leftovers_of, remove_abandoned
from override_gap.reports.cli._say import say


def run_folder(text: str) -> Path:
    """A run folder on this machine. A URL is refused: as a path it would lose one of its slashes."""
    if "://" in text or not text:
        raise argparse.ArgumentTypeError(
            f"needs a folder on this machine, got {text!r}; copy a run at a URL here first"
        )
    return Path(text)


def require_folder(folder: Path) -> None:
    """Raise ValueError unless a folder is there; looked up before the libraries that read runs are loaded."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "there is no such folder"
        raise ValueError(f"{folder}: {what}; give the folder that holds the runs, such as runs/")


def run_or_url(text: str) -> Path | str:
    """A run folder as it was typed: a path, or a URL as text."""
    return text if "://" in text else Path(text)


def require_run(folder: Path) -> None:
    """Raise ValueError unless a folder holds a run's manifest; looked up before the libraries that read a run are loaded."""
    if not (folder / "manifest.json").is_file():
        raise ValueError(f"{folder}: no manifest.json, so this is not a run folder; give the --out of an audit")


def writable(path: Path, *, folder: bool = False) -> Path:
    """The path, if a file (or a folder) can be made there; a device or a pipe, as /dev/stdout, is one already.

    What a command that was killed had left under that name is removed. Raises ValueError, one line, where it cannot be written.
    """
    if is_stream(path):
        if folder or not os.access(path, os.W_OK):
            raise ValueError(f"{path}: cannot be written; --out needs a {'folder' if folder else 'file'}")
        return path
    if path.is_dir() and not folder:
        raise ValueError(f"{path} is a folder; --out needs a file")
    if folder and path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; --out needs a folder")
    absolute = path.absolute()
    exists = folder and absolute.is_dir()
    parent = absolute if exists else next(parent for parent in absolute.parents if os.path.lexists(parent))
    if not parent.is_dir():
        raise ValueError(f"{path}: cannot be written: {parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"{path}: cannot be written: no permission in {parent}")
    if not folder:  # what writes a folder does it itself
        for left in remove_abandoned(leftovers_of(path)):
            say(f"removed {left}, half written by a process that was killed", error=True)
    return path


def add_model_flags(parser: argparse.ArgumentParser, *, subject: str | None = None) -> None:
    """Which model is opened, where, and in which number format."""
    named = "organism, smollm2, a model folder, a .gguf file or a Hugging Face id"
    parser.add_argument("--subject", metavar="S", default=subject, help=named)
    devices = "auto (default), cpu, cuda, cuda:N, mps, or map: over all GPUs, or map:cpu=8GiB: the rest on disk"
    parser.add_argument("--device", help=devices)
    parser.add_argument("--dtype", help="auto (default), float32, bfloat16 or float16")


def add_chat_flags(parser: argparse.ArgumentParser, when: str = "") -> None:
    """How questions are put to an instruction-tuned model; `when` says for what the flags are."""
    add = parser.add_argument
    add("--chat", action="store_const", const=True, help=f"{when}put every question through the chat template")
    add("--system-prompt", metavar="TEXT", help=f"{when}as --chat, behind a system turn with this text")
    add("--chat-template", metavar="FILE", help=f"{when}a Jinja template in place of the model's, as a method's own")
    add(
        "--template-arg",
        dest="template_args",
        metavar="KEY=VALUE",
        type=_template_arg,
        action="append",
        help=f"{when}a setting of the template, as enable_thinking=false; may be given several times",
    )


def _template_arg(text: str) -> tuple[str, Any]:
    """A setting of a chat template: its value as JSON, or as text where it is none."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"needs KEY=VALUE, as enable_thinking=false, got {text!r}")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        if value in ("True", "False"):  # as Python writes them; a text would count as true in a template
            return key, value == "True"
        return key, value


def add_plan_flags(parser: argparse.ArgumentParser) -> None:
    """A plan file, and whether what it names may be run."""
    parser.add_argument("--config", type=Path, metavar="plan.toml", help="a plan file; flags given beside it win")
    parser.add_argument(
        "--trust-plan",
        action="store_true",
        help="run the code that the plan file names, as adapters = 'MODULE:OBJECT'; read it first",
    )


def config_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the plan file that --config names; none without it. Raises PlanError.

    Also where --trust-remote-code would run the Python of a model that nobody but the plan file names.
    """
    from override_gap.probes.code_words import subject_refusal
    from override_gap.probes.plan import PlanError, read_plan

    if args.config is None:
        return {}
    settings = read_plan(args.config, trust=args.trust_plan)
    if args.trust_remote_code and args.subject is None and (refusal := subject_refusal(settings.get("subject"))):
        raise PlanError(refusal)
    return settings


def plan_settings(args: argparse.Namespace, names: set[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a plan that flags give, over those of its file."""
    settings = dict(config)
    settings |= {name: value for name, value in vars(args).items() if name in names and value is not None}
    if args.template_args:
        settings["template_args"] = {**config.get("template_args", {}), **dict(args.template_args)}
    return settings


def add_map_flags(parser: argparse.ArgumentParser) -> None:
    """Which adapter of a folder or file belongs to which document, and what all of them share."""
    parser.add_argument(
        "--adapter-map",
        metavar="FILE",
        help="JSON or CSV from document key, item id or knowledge point to a path in the folder (or an entry of the file)",
    )
    parser.add_argument(
        "--shared-adapter",
        metavar="FOLDER",
        help="a PEFT folder, as a warm start, that is taken out of every adapter and acts as the part they share",
    )


def add_code_flags(parser: argparse.ArgumentParser) -> None:
    """The two flags that run code of others: a method's own environment, and a model's own folder."""
    parser.add_argument(
        "--python",
        type=Path,
        metavar="PYTHON",
        help="the Python of a method's own environment, which opens its checkpoint there: --adapters doc-to-lora:CHECKPOINT",
    )
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python code in the model's own folder; read it first",
    )
