"""The report's page as it is seen: at four widths, folds shut and open, light, dark and on paper."""

from __future__ import annotations

import pytest

from tests.reports.boxes import text_faults
from tests.reports.browsing import NEEDS_BROWSER, launched, opened

pytestmark = NEEDS_BROWSER
WIDTHS = (400, 800, 1280, 2560)
SCREEN = {"width": 1280, "height": 800}
ALL_OPEN = "(open) => document.querySelectorAll('details').forEach((own) => { own.open = open; })"


@pytest.fixture(scope="module")
def shown(written):
    with launched() as browser, opened(browser, written.path, viewport=SCREEN) as page:
        yield page


def fold(shown, *, open_: bool, width: int, height: int = 800) -> None:
    shown.evaluate(ALL_OPEN, open_)
    shown.set_viewport_size({"width": width, "height": height})
    shown.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.mark.parametrize("open_", [False, True], ids=["shut", "open"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_and_no_two_texts_overlap(shown, width, open_):
    fold(shown, open_=open_, width=width)
    assert text_faults(shown, fewest=60) == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper_everything_is_open_and_nothing_overlaps(shown):
    fold(shown, open_=False, width=1000)
    shown.emulate_media(media="print")
    try:
        texts = shown.evaluate("document.body.innerText")
        assert "The rule behind the verdict" in texts
        assert text_faults(shown, fewest=200) == []
    finally:
        shown.emulate_media(media="screen")


def test_the_first_screen_is_one_screen_and_the_page_at_most_five(shown):
    fold(shown, open_=False, width=1280)
    assert shown.evaluate("document.querySelector('.facts.first').getBoundingClientRect().bottom + scrollY") <= 800
    assert shown.evaluate("document.documentElement.scrollHeight") <= 5 * 800


@pytest.mark.parametrize("width", [400, 1280])
def test_every_term_shows_its_definition_within_the_window_on_focus(shown, width):
    fold(shown, open_=False, width=width)
    terms = shown.locator("#verdict .term")
    assert terms.count() >= 6
    for number in range(terms.count()):
        term, meaning = terms.nth(number), terms.nth(number).locator(".meaning")
        assert not meaning.is_visible()
        term.focus()
        assert meaning.is_visible()
        box = meaning.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert len(meaning.inner_text()) > 20
    terms.first.evaluate("(own) => document.activeElement.blur()")
    terms.first.hover()
    assert terms.first.locator(".meaning").is_visible()
    shown.mouse.move(0, 0)


def test_a_wide_table_keeps_its_first_column_and_shows_what_was_kept_at_first_sight(shown):
    fold(shown, open_=True, width=1280)
    table = shown.locator("#successes .scroll").first
    heads = table.locator("thead th").all_inner_texts()
    kept = next(place for place, head in enumerate(heads) if "unrelated" in head)
    right = "(own) => own.getBoundingClientRect().right"
    assert table.locator("thead th").nth(kept).evaluate(right) <= table.evaluate(right) + 1
    fold(shown, open_=True, width=400)
    first = table.locator("tbody th").first
    before = first.bounding_box()["x"]
    assert table.evaluate("(own) => { own.scrollLeft = 200; return own.scrollLeft; }") == 200
    assert first.bounding_box()["x"] == pytest.approx(before, abs=1)
    table.evaluate("(own) => { own.scrollLeft = 0; }")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("open_", [False, True], ids=["shut", "open"])
def test_axe_finds_no_serious_fault(shown, scheme, open_):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    fold(shown, open_=open_, width=1280)
    shown.emulate_media(color_scheme=scheme)
    try:
        found = axe.Axe().run(shown).response
    finally:
        shown.emulate_media(color_scheme="light")
    serious = [(own["id"], own["nodes"][0]["html"][:200]) for own in found["violations"]
               if own["impact"] in ("serious", "critical")]  # fmt: skip
    assert serious == []
