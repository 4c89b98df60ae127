"""A figure on the page has a wide and a narrow form: one is seen, by the window's width; no id is used twice."""

from __future__ import annotations

import re
import shutil
from collections import Counter

import pytest

from override_gap.reports.export.pdf import BROWSERS
from override_gap.reports.page.assets import style
from override_gap.reports.page.drawings import page_figure
from tests.reports import odd_runs

PROGRAM = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture
def figure(tmp_path, svg_only):
    (wide, caption), (narrow, _) = (odd_runs.drawn("tiny", "margins", form) for form in (False, True))
    return page_figure("margins", wide, caption, tmp_path, ("H3",), narrow)


def test_both_forms_are_inline_and_no_id_is_used_twice(figure, tmp_path):
    assert re.findall(r'<svg class="(\w+)"', figure.svg) == ["wide", "narrow"]
    ids = re.findall(r'\bid="([^"]+)"', figure.svg)
    assert max(Counter(ids).values()) == 1
    assert all(own.startswith("margins-") for own in ids)
    references = re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', figure.svg)
    assert references
    assert set(references) <= set(ids)
    assert [own.name for own in tmp_path.iterdir()] == ["margins.svg"], "files are of the wide form alone"
    widths = [float(width) for width in re.findall(r'viewBox="0 0 ([\d.]+) ', figure.svg)]
    assert widths == pytest.approx([72 * 7.4, 72 * 3.9])


@pytest.mark.skipif(PROGRAM is None, reason=f"none of {', '.join(BROWSERS)} here: install chromium")
def test_one_form_is_seen_at_each_width_and_print_has_the_wide_one(figure):
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
    body = f'<style>{style("page")}</style><main><figure><div class="drawing">{figure.svg}</div></figure></main>'
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_content(body)
        for width, media, seen in ((400, "screen", "narrow"), (1280, "screen", "wide"), (400, "print", "wide")):
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(media=media)
            forms = {form: page.locator(f"svg.{form}") for form in ("wide", "narrow")}
            assert {form for form, own in forms.items() if own.is_visible()} == {seen}, (width, media)
            box = forms[seen].bounding_box()
            assert 0 <= box["x"] < box["x"] + box["width"] <= width
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
