"""Errors raised while a model is opened, an adapter is attached, or code from elsewhere is run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class SubjectError(ValueError):
    """A model that cannot be audited; the message says what was needed and what came."""


class AdapterError(ValueError):
    """An adapter that does not fit the model or changes nothing; the message names it and what did not match."""


@contextmanager
def foreign_code(what: str) -> Iterator[None]:
    """Run code from outside; whatever it raises, leaving the program included, is an AdapterError that says where."""
    try:
        yield
    except (AdapterError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as fault:
        raise AdapterError(f"{what}: {type(fault).__name__}: {fault}") from fault
