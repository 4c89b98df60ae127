"""A made-up run, its summary and its page, made once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from override_gap.reports import page
from override_gap.reports.figures import style
from tests.reports import synthetic


@pytest.fixture(scope="session")
def run():
    return synthetic.run()


@pytest.fixture(scope="session")
def summary(run):
    return synthetic.summary(run)


@pytest.fixture(scope="session")
def written(run, summary, tmp_path_factory):
    """The page of the made-up run: its folder, its path and its text."""
    folder = tmp_path_factory.mktemp("run")
    path = page.write_page(folder, run, summary)
    return SimpleNamespace(folder=folder, path=path, text=path.read_text(encoding="utf-8"))


@pytest.fixture
def svg_only(monkeypatch):
    """Write no PNG and no PDF: for tests of the page, which shows neither."""
    monkeypatch.setattr(style, "FORMS", ("svg",))


@pytest.fixture(scope="module")
def browser():
    """A real browser, for modules that are marked with NEEDS_BROWSER."""
    from tests.reports.browsing import launched  # a module without playwright is skipped where it is imported

    with launched() as own:
        yield own
