"""One self-contained HTML page from a run and its summary."""

from reports.page.document import render, write

__all__ = ["render", "write"]
