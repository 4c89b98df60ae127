"""Given: what a benchmark's command line takes."""

from __future__ import annotations

import argparse


def whole(text: str) -> int:
    """A whole number from 1, as an argument's type."""
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"need a whole number from 1, got {text!r}")
    return int(text)
