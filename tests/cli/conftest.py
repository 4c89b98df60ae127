"""Commands write their figures as SVG alone here, which is what the page shows; tests/reports writes every form."""

from __future__ import annotations

import pytest

from override_gap.reports.figures import style


@pytest.fixture(autouse=True)
def only_the_form_that_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "FORMS", ("svg",))
