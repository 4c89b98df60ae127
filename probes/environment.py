"""The process's environment: where fetched models are kept, and how libraries are kept quiet."""

from __future__ import annotations

import logging
import os
from pathlib import Path


def home() -> Path:
    """Where fetched models are kept: $OVERRIDE_GAP_HOME, or a folder in the user's cache."""
    given = os.environ.get("OVERRIDE_GAP_HOME")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "override-gap"


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
