"""docs/methods.md: every test that it names exists, and it lists every form that --adapters takes."""

from __future__ import annotations

import re
from pathlib import Path

from override_gap.probes.catalogue import ADAPTERS
from override_gap.probes.run.checks import MEANING

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "methods.md").read_text()


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    defined = {
        name for file in (ROOT / "tests").rglob("*.py") for name in re.findall(r"^def (\w+)", file.read_text(), re.M)
    }
    assert named
    assert named <= defined, named - defined


def test_every_form_and_check_is_on_the_page() -> None:
    forms = [word for word in ADAPTERS if word.endswith(":FILE") or word == "MODULE:OBJECT"]
    assert all(f"`{word}`" in PAGE for word in forms)
    assert all(f"| {name} |" in PAGE for name in MEANING)
