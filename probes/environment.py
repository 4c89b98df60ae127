"""The process's environment: the folder of fetched models, imports from the current folder, and libraries kept quiet."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def home() -> Path:
    """Where fetched models are kept: $OVERRIDE_GAP_HOME, or a folder in the user's cache."""
    given = os.environ.get("OVERRIDE_GAP_HOME")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "override-gap"


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


class quietly:
    """Loading without the libraries' own bars and advice; their errors still come through."""

    def __enter__(self) -> None:
        from transformers.utils import logging as theirs

        self._bars, self._level = theirs.is_progress_bar_enabled(), theirs.get_verbosity()
        self._root = logging.root.manager.disable
        theirs.disable_progress_bar()
        theirs.set_verbosity_error()
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging as theirs

        theirs.set_verbosity(self._level)
        logging.disable(self._root)
        if self._bars:
            theirs.enable_progress_bar()
