"""Errors of opening a model, attaching an adapter, running a user's own code, and the toolkit's check of itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class SubjectError(ValueError):
    """A model that cannot be audited; the message says what was needed and what came."""


class AdapterError(ValueError):
    """An adapter that does not fit the model or changes nothing; the message names it and what did not match."""


class AdapterChanged(AdapterError):
    """An adapter that is no longer what a run's identity names: readings of the old and of the new one must not be mixed."""


class DocumentError(AdapterError):
    """A document of which no adapter can be made, whatever the source is; others are not affected."""


class ParityError(RuntimeError):
    """The toolkit's own check failed: its numbers would be wrong, so it stops."""


@contextmanager
def as_adapter_error(what: str) -> Iterator[None]:
    """Turn any exception of third-party code, SystemExit included, into an AdapterError that begins with `what`."""
    try:
        yield
    except (AdapterError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as fault:
        raise AdapterError(f"{what}: {type(fault).__name__}: {fault}") from fault
