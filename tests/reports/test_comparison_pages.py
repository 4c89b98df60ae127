"""The pages of a comparison and of an index in a real browser: nothing cut, nothing overlaps, at every width and on paper."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from matplotlib.text import Text

from override_gap.analyses.one_budget.answer import answer
from override_gap.reports.export.pdf import BROWSERS
from override_gap.reports.figures.sheets.delivered_and_best import caption, delivered_and_best, marks
from override_gap.reports.figures.sheets.methods import differences
from override_gap.reports.figures.style import PAPER
from override_gap.reports.index import Index, RunRow
from override_gap.reports.page import write_comparison
from override_gap.reports.page.index import write_index
from tests.analyses.compare.comparisons import comparison, share
from tests.reports.boxes import text_faults

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
PROGRAM = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_browser = pytest.mark.skipif(PROGRAM is None, reason=f"none of {', '.join(BROWSERS)} here: install chromium")
WIDTHS = (400, 800, 1280, 2560)
LONG = "a-method-with-a-name-of-many-parts/" * 6


def filled(**more: object) -> dict:
    """A comparison with every section that its page prints."""
    found = comparison(lead=(0.3, 0.2, 0.4, 0.001), third=True, **more)
    found |= {"schema": 1, "order": [], "only": [], "verdicts": [], "notes": ["scale not verified: two"]}
    found["methods"] = [
        own | {"adapters": {"name": own["name"]}, "items": {"name": "own"}, "scale": None} for own in found["methods"]
    ]

    found["answer"] = answer(found, True).as_json()
    return found


def listing() -> Index:
    """Runs of every kind, some with long names."""
    rows = [
        RunRow(f"run-{n:02d}", f"run-{n:02d}/report.html", "organism", "fitted", "starter", 194, "magnitude", "Of the 60 " * 9,
               share(0.1 * (n % 9), 0.0, 1.0), share(0.9, 0.8, 1.0) if n % 3 else None, "scale", "uniform-1.25",
               f"2026-11-{n + 1:02d}T10:00:00+00:00", True)
        for n in range(12)
    ]  # fmt: skip
    rows += [
        RunRow(LONG, fault="damaged: readings/x.parquet: " + "its note cannot be read " * 8),
        RunRow("zz", complete=False),
    ]
    return Index(Path("runs"), tuple(rows))


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {
        "comparison": write_comparison(filled(), folder / "compare.html"),
        "index": write_index(listing(), folder / "index.html"),
    }


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@needs_browser
@pytest.mark.parametrize("name", ["comparison", "index"])
def test_no_text_is_cut_or_lies_on_another_at_any_width(browser, pages, name):
    faults: list[str] = []
    with browser.new_context() as context:
        shown = context.new_page()
        shown.on("console", lambda message: faults.append(message.text))
        shown.goto(pages[name].as_uri())
        for width in WIDTHS:
            shown.set_viewport_size({"width": width, "height": 800})
            for scheme in ("light", "dark"):
                shown.emulate_media(color_scheme=scheme)
                assert text_faults(shown) == [], (width, scheme)
                assert shown.evaluate("document.documentElement.scrollWidth") == width
        shown.set_viewport_size({"width": 794, "height": 1123})  # A4
        shown.emulate_media(media="print", color_scheme="light")
        assert text_faults(shown) == []
    assert faults == []


@needs_browser
@pytest.mark.parametrize("name", ["comparison", "index"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser, pages, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    with browser.new_context(color_scheme=scheme) as context:
        shown = context.new_page()
        shown.goto(pages[name].as_uri())
        for width in (400, 1280):
            shown.set_viewport_size({"width": width, "height": 800})
            found = axe.Axe().run(shown).response
            worst = [own for own in found["violations"] if own["impact"] in ("serious", "critical")]
            assert [(own["id"], own["nodes"][0]["html"][:160]) for own in worst] == []
    assert len(found["passes"]) > 10


@needs_browser
def test_answer_and_picture_are_on_the_first_screen(browser, pages):
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        shown = context.new_page()
        shown.goto(pages["comparison"].as_uri())
        for selector in (".sub", "#answer .verdict", "#answer .do", "#figure-answer svg.wide"):
            box = shown.locator(selector).first.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= 800, selector
        assert shown.locator("#figure-answer .narrow").is_hidden()
        shown.set_viewport_size({"width": 600, "height": 800})
        assert shown.locator("#figure-answer .wide").is_hidden()
        assert shown.locator("#figure-answer .narrow").is_visible()


@needs_browser
def test_terms_of_the_answer_are_explained_where_they_stand(browser, pages):
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        shown = context.new_page()
        shown.goto(pages["comparison"].as_uri())
        terms = shown.locator("#answer .term")
        assert {"overrides", "unrelated answers", "gain"} <= {own.split("\n")[0] for own in terms.all_inner_texts()}
        meaning = terms.first.locator(".meaning")
        assert meaning.is_hidden()
        terms.first.focus()
        assert meaning.is_visible()


def column(shown, place: int) -> list[str]:
    return shown.locator(f"#runs tbody tr:visible > :nth-child({place})").all_inner_texts()


@needs_browser
def test_the_index_sorts_by_click_and_key_and_filters(browser, pages):
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        shown = context.new_page()
        shown.goto(pages["index"].as_uri())
        head = shown.locator("#runs th", has_text="overridden")
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        values = [float(text.split("%")[0]) for text in column(shown, 3) if "%" in text]
        assert values == sorted(values, reverse=True)
        assert [text for text in column(shown, 3) if "%" not in text] == column(shown, 3)[-2:], "without a value: last"
        head.get_by_role("button").focus()
        shown.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert [float(text.split("%")[0]) for text in column(shown, 3) if "%" in text] == sorted(values)
        assert shown.locator("#runs th[aria-sort]").count() == 1
        shown.get_by_label("Filter").fill("magnitude run-03")
        assert column(shown, 1) == ["run-03"]
        assert shown.locator("#count").inner_text() == "1 of 14 runs"
        shown.get_by_label("Filter").fill("")
        assert len(column(shown, 1)) == 14


@needs_browser
def test_without_javascript_the_index_is_a_plain_table(browser, pages):
    with browser.new_context(java_script_enabled=False) as context:
        shown = context.new_page()
        shown.goto(pages["index"].as_uri())
        assert shown.locator("#runs tbody tr").count() == 14
        assert shown.locator("#runs button").count() == 0
        assert shown.locator("#filter").is_hidden()
        assert shown.locator("#runs th", has_text="unrelated kept").is_visible()


@pytest.mark.parametrize("narrow", [False, True])
def test_the_captions_n_is_that_of_the_panel_and_of_the_marks(narrow):
    found = filled()
    found["budget"]["methods"][1]["retention"] = share(0.99, 0.92, 1.0, n=19)
    drawn = delivered_and_best(found, narrow=narrow)
    on_panel = drawn.axes[0].get_title(loc="right").replace("\n", " ")
    said = caption(found).n
    assert re.findall(r"\d+", on_panel) == re.findall(r"\d+", said.split(", in ")[0]) == ["20", "19", "20"]
    assert {row["override"]["n"] for row in marks(found)} == {20}
    hollow_and_filled = [line for line in drawn.axes[0].lines if line.get_marker() in ("o", "s", "^", "v", "D", "P")]
    assert len(hollow_and_filled) == len(marks(found)) == 6


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("case", ["three", "two", "one place", "long names", "twelve"])
def test_labels_of_the_picture_cover_no_mark_and_no_label(case, narrow):
    found = filled() if case != "two" else comparison(lead=(0.3, 0.2, 0.4, 0.001))
    rows = found["budget"]["methods"]
    if case == "one place":
        rows[:] = [row | {"conflict": share(0.9, 0.8, 1.0), "retention": share(1.0, 0.9, 1.0)} for row in rows]
    if case == "long names":
        rows[:] = [row | {"method": f"{row['method']} {LONG}"} for row in rows]
    if case == "twelve":
        rows[:] = [rows[0] | {"method": f"method {n}", "conflict": share(0.5 + n / 100, 0.4, 0.8)} for n in range(12)]
    drawn = delivered_and_best(found, narrow=narrow)
    drawn.canvas.draw()
    pen, axes = drawn.canvas.get_renderer(), drawn.axes[0]
    labels = [Text.get_window_extent(text, pen) for text in axes.texts]
    spots = [axes.transData.transform((row["kept"]["value"], row["override"]["value"])) for row in marks(found)]
    for number, box in enumerate(labels):
        assert not any(box.overlaps(other) for other in labels[:number])
        assert not any(box.contains(*spot) for spot in spots)
        assert box.x0 >= 0
        assert box.x1 <= drawn.bbox.width
    listed = [text for own in drawn.legends for text in own.get_texts()]
    boxes = [text.get_window_extent(pen) for text in listed]
    assert all(box.x0 >= 0 and box.x1 <= drawn.bbox.width and box.y0 >= 0 for box in boxes)
    assert len(labels) == len(rows) or len(listed) >= len(rows)


def test_a_method_that_no_unrelated_question_was_asked_of_is_named_in_the_caption():
    found = filled()
    found["budget"]["methods"][1] |= {"retention": None, "retention_as_delivered": None}
    found["outcomes"] = [row for row in found["outcomes"] if (row["method"], row["split"]) != ("two", "retention")]
    assert "Not drawn, since unrelated answers were not measured: two." in caption(found).shows
    assert "two" not in {row["method"] for row in marks(found) if row["kind"] == "best"}


def test_a_difference_is_filled_exactly_where_its_bar_leaves_nought():
    found = filled()
    found["pairs"][0] |= {"p_holm": 0.06, "low_holm": -0.01, "high_holm": 0.61}
    drawn = differences(found).axes[0]
    bars = [bar.get_segments()[0][:, 0] for bar in drawn.collections]
    fills = [line.get_markerfacecolor() for line in drawn.lines if line.get_marker() == "o"]
    assert [low > 0 or high < 0 for low, high in bars] == [fill != PAPER for fill in fills] == [False, True, False]
