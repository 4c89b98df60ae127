"""The first screen alone, as an HTML fragment that brings its own style: what a notebook shows of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from override_gap.reports.page.assets import style
from override_gap.reports.page.document import template_environment
from override_gap.reports.page.first_screen import first_screen
from override_gap.reports.page.headline import first_numbers


def fragment(summary: Mapping[str, Any]) -> str:
    """`summary`'s first screen as one element; nothing in it is loaded from anywhere, and no script is needed."""
    template = template_environment().get_template("first-screen.html")
    inside = template.render(
        parts=first_screen(summary), numbers=first_numbers(summary), verdict=summary.get("verdict")
    )
    return f'<div class="override-gap fragment"><style>{style("colours", "first-screen", "fragment")}</style>{inside}</div>'
