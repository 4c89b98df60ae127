"""`text_faults` on pages made for it: what overlaps or is cut is found, and what can be read is not."""

from __future__ import annotations

import shutil

import pytest

from override_gap.reports.export.pdf import BROWSERS
from tests.reports.boxes import text_faults

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
PROGRAM = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f"none of {', '.join(BROWSERS)} here: install chromium")

FAULTY = {
    "two texts in one place": ("<p style='position:absolute;top:9px'>one</p><p style='position:absolute;top:9px'>two</p>",
                               "overlap"),
    "wider than the window": ("<p style='white-space:nowrap'>" + "long " * 90 + "</p>", "cut by the window"),
    "cut by its box": ("<p style='width:3rem;overflow:hidden;white-space:nowrap'>longer than that</p>", "cut at the side"),
    "cut below": ("<p style='height:1rem;overflow:hidden'>one<br>two<br>three</p>", "cut above or below"),
    "drawn outside": ("<svg width='90' height='40'><g id='f-text_1'><!-- far --><rect x='80' width='40' height='9'/></g></svg>",
                      "cut by its drawing: \"far\""),
    "drawn over another": ("<svg width='90' height='40'><g id='text_1'><!-- a --><rect width='40' height='9'/></g>"
                           "<g id='text_2'><!-- b --><rect x='9' width='40' height='9'/></g></svg>", "overlap: \"a\""),
    "drawn over another, far below": ("<div style='height:9000px'></div>"
                                      "<svg width='90' height='40' style='content-visibility:auto'>"
                                      "<g id='text_1'><!-- a --><rect width='40' height='9'/></g>"
                                      "<g id='text_2'><!-- b --><rect x='9' width='40' height='9'/></g></svg>", "overlap: \"a\""),
}  # fmt: skip
SOUND = {
    "paragraphs": "<h1>title that is long enough for two lines in a narrow window</h1><p>one <b>two</b> <i>three</i></p>"
    * 3,
    "a table that scrolls": "<div style='overflow-x:auto;width:9rem'><table><tr>"
    + "<td>wordword</td>" * 20
    + "</table></div>",
    "folded": "<details><summary>more</summary><p style='white-space:nowrap'>" + "long " * 90 + "</p></details>",
    "for readers of the screen alone": "<a style='position:absolute;left:-99rem'>skip</a><p>text</p>",
    "hidden": "<p hidden>one</p><p style='visibility:hidden'>two</p><p>three</p>",
}


@pytest.fixture(scope="module")
def page():
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox", "--disable-gpu"])
        yield opened.new_page(viewport={"width": 500, "height": 600})
        opened.close()


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_is_found(page, name):
    body, fault = FAULTY[name]
    page.set_content(f"<body>{body}</body>")
    found = text_faults(page, fewest=1)
    assert found
    assert all(line.startswith(fault) for line in found), found


@pytest.mark.parametrize("name", SOUND)
def test_what_can_be_read_is_no_fault(page, name):
    page.set_content(f"<body>{SOUND[name]}</body>")
    assert text_faults(page, fewest=1) == []


def test_what_has_to_be_scrolled_to_is_cut_where_that_is_asked(page):
    page.set_content(f"<body>{SOUND['a table that scrolls']}</body>")
    assert all(line.startswith("cut at the side") for line in text_faults(page, scrolled=True))
    assert text_faults(page, scrolled=True)


def test_an_empty_page_does_not_pass(page):
    page.set_content("<body></body>")
    with pytest.raises(AssertionError, match="only 0 texts"):
        text_faults(page)
