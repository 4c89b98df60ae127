"""Where a command is told to write, looked at before the work that would be lost."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def run_folder(text: str) -> Path:
    """A run folder here. A URL is refused, since a path would spoil it."""
    if "://" in text or not text:
        raise argparse.ArgumentTypeError(
            f"needs a folder on this machine, got {text!r}; copy a run at a URL here first"
        )
    return Path(text)


def writable(path: Path, *, folder: bool = False) -> Path:
    """The path, if a file (or a folder) can be made there. Raises ValueError, one line, where it cannot."""
    if path.is_dir() and not folder:
        raise ValueError(f"{path} is a folder; --out needs a file")
    if folder and path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; --out needs a folder")
    at = path.absolute()
    above = at if folder and at.is_dir() else next(place for place in at.parents if os.path.lexists(place))
    if not above.is_dir():
        raise ValueError(f"{path}: cannot be written: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"{path}: cannot be written: no permission in {above}")
    return path


def place(text: str) -> Path | str:
    """A run folder as it is typed: a path, or a URL, which a path would spoil."""
    return text if "://" in text else Path(text)
