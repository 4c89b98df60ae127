"""What is wrong with one file or unit of a run folder, and what to do about it: the words of `doctor` and of every refusal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RERUN = "give the audit's own command again"
MADE_AGAIN = "the run has to be made again"
SERIOUS = ("damaged", "missing", "inconsistent", "link", "unreadable")
"""Kinds of findings that keep a run's numbers from being used."""


@dataclass(frozen=True)
class FileFinding:
    """What is wrong with one file or unit of a run folder, and what to do about it."""

    kind: str
    about: str
    says: str
    advice: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.about}: {self.says}; {self.advice}"


def repairing(run: Path) -> str:
    """The command that moves what is damaged aside."""
    return f"`override-gap doctor {run} --repair`"
