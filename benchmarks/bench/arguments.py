"""Argument types of the benchmarks' command lines."""

from __future__ import annotations

import argparse


def positive_integer(text: str) -> int:
    """A whole number from 1 up, as an argument type."""
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"need a whole number of at least 1, got {text!r}")
    return int(text)
