"""One self-contained HTML page from a run and its summary, or from a comparison of several runs."""

from override_gap.reports.page.compare import write_comparison
from override_gap.reports.page.document import render, write_page

__all__ = ["render", "write_comparison", "write_page"]
