"""The process's environment: the folder of fetched models, imports from the current folder, and silencing of libraries."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def home() -> Path:
    """The folder of fetched models: $OVERRIDE_GAP_HOME, or one in the user's cache."""
    stated = os.environ.get("OVERRIDE_GAP_HOME")
    return Path(stated) if stated else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "override-gap"


@contextmanager
def current_folder_last() -> Iterator[None]:
    """Inside the block, modules that are found nowhere else are imported from the current folder.

    The folder stands last on sys.path, and only here, so nothing in it can take the place of an installed package or of a
    module of the standard library. Nothing changes where the user has put the folder on the path already.
    """
    try:
        folder = os.getcwd()
    except FileNotFoundError:  # the folder was removed
        folder = ""
    if not folder or folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        if folder in sys.path:
            # the last entry: the code that was run may have put the same folder in front for its own use
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(folder)]


@contextmanager
def quietly() -> Iterator[None]:
    """Inside the block libraries show no progress bars and no warnings; their errors are shown."""
    from transformers.utils import logging as transformers_logging

    bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    disabled = logging.root.manager.disable
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        logging.disable(disabled)
        if bars:
            transformers_logging.enable_progress_bar()
