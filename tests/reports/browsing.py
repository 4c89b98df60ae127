"""A real browser for the tests of pages: opened from a file, watched for requests, messages and dialogs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from override_gap.reports import figures
from override_gap.reports.export.pdf import BROWSERS

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
PROGRAM = next(filter(None, map(shutil.which, BROWSERS)), None)
NEEDS_BROWSER = pytest.mark.skipif(PROGRAM is None, reason=f"none of {', '.join(BROWSERS)} here: install chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
WIDE = {"width": 1200, "height": 1000}


@contextmanager
def launched() -> Iterator:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser, path: Path, **settings) -> Iterator:
    """The page, once its plot is drawn. On exit: no request was made, nothing was logged on the console, no dialog opened."""
    context = browser.new_context(**{"viewport": WIDE, **settings})
    context.set_default_timeout(15_000)
    shown, faults, requested = context.new_page(), [], []
    shown.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
    shown.on("pageerror", lambda fault: faults.append(str(fault)))
    shown.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    shown.on("request", lambda request: requested.append(request.url))
    try:
        shown.goto(path.as_uri())
        # in a shut fold the explorer is not drawn until it is opened
        shown.evaluate(
            "for (let own = document.querySelector('#explorer'); own; own = own.parentElement) own.open = true"
        )
        shown.wait_for_selector("#explorer[data-drawn]")
        yield shown
        assert not faults, faults
        assert [url for url in requested if url.split("#")[0] != path.as_uri() and not url.startswith("data:")] == []
        assert shown.evaluate("performance.getEntriesByType('resource').map((own) => own.name)") == []
    finally:
        context.close()


@contextmanager
def one_figure() -> Iterator:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "FIGURES", figures.FIGURES[2:3])
        yield
