"""Arguments that several commands share: run folders, output paths checked before the work, flags for untrusted files."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def run_folder(text: str) -> Path:
    """A run folder on this machine. A URL is refused: as a path it would lose one of its slashes."""
    if "://" in text or not text:
        raise argparse.ArgumentTypeError(
            f"needs a folder on this machine, got {text!r}; copy a run at a URL here first"
        )
    return Path(text)


def run_or_url(text: str) -> Path | str:
    """A run folder as it was typed: a path, or a URL as text."""
    return text if "://" in text else Path(text)


def require_run(folder: Path) -> None:
    """Raise ValueError unless a folder holds a run's manifest; looked up before the libraries that read a run are loaded."""
    if not (folder / "manifest.json").is_file():
        raise ValueError(f"{folder}: no manifest.json, so this is not a run folder; give the --out of an audit")


def writable(path: Path, *, folder: bool = False) -> Path:
    """The path, if a file (or a folder) can be made there. Raises ValueError, one line, where it cannot."""
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
    return path


def add_trust_flags(parser: argparse.ArgumentParser) -> None:
    """The two flags that let files run code or be unpickled; without them both are refused."""
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="open a Doc-to-LoRA checkpoint, a pickle, with a fixed list of classes",
    )
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python code in the model's own folder; read it first",
    )
