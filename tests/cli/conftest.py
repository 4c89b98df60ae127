"""Commands write their figures as SVG only, which is what the page shows; tests/reports writes every format."""

from __future__ import annotations

import pytest

from override_gap.reports.figures import style


@pytest.fixture(autouse=True)
def only_svg_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "FORMS", ("svg",))
