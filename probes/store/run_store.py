"""RunStore: what a run is written to and resumed from, with the same methods for a folder here and for one at a URL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Rows = Sequence[Mapping[str, Any]]
"""Rows of one table, each a mapping from column to value."""


@runtime_checkable
class RunStore(Protocol):
    """One run's tables and manifest; `Store` keeps them in a folder, `Remote` at a URL."""

    def __str__(self) -> str:
        """The folder or URL as messages name it, without secrets."""
        ...

    def exists(self) -> bool:
        """Whether a run is there."""
        ...

    def require_room(self, needed: int = 0) -> None:
        """Raise DiskError where it cannot be written or has fewer than `needed` bytes free."""
        ...

    def locked(self) -> AbstractContextManager[str | None]:
        """Lock the run against other processes; yields a sentence about a lock's holder that died, or None."""
        ...

    def open(self, manifest: Mapping[str, Any], identity: str) -> Mapping[str, Any]:
        """Create a run, or resume the one that is there; returns the manifest as it was, or the new one.

        Raises RunError where something else is there.
        """
        ...

    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands. Raises RunError where it is missing or damaged."""
        ...

    def keys(self) -> list[str]:
        """The units that have readings there."""
        ...

    def pending(self, keys: Sequence[str]) -> tuple[list[str], list[str]]:
        """Which of these units are to be measured, and what was wrong with tables that were set aside for it."""
        ...

    def write_unit(
        self,
        key: str,
        readings: Rows,
        layers: Rows,
        faults: int = 0,
        tables: Mapping[str, Rows] | None = None,
        identity: str | None = None,
    ) -> None:
        """Write a unit's tables, the readings last; `tables`: others by name.

        `faults`: rows that failed for reasons that may be transient; `identity`: that of the run.
        """
        ...

    def seals(self, keys: Sequence[str]) -> dict[str, dict[str, str]]:
        """The hashes of these units' notes and the checksums of JSON files, for the manifest of a complete run."""
        ...

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the run, or None where it is missing or no JSON object."""
        ...

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file of the run, whole or not at all."""
        ...

    def local_copy(self) -> AbstractContextManager[Path]:
        """The run as a folder of this machine; files changed there are written back at the end."""
        ...
