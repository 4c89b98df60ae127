"""The page in a real browser: opened from its file, under its own policy, by mouse and by keyboard."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from override_gap.analyses.readings import RunFrame
from override_gap.reports import figures, page
from override_gap.reports.text import escape_control_characters
from tests.reports import synthetic
from tests.reports.boxes import text_faults
from tests.reports.browsing import NEEDS_BROWSER, one_figure, opened
from tests.reports.hostile import HOSTILE, with_texts
from tests.reports.reader import Reader

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def small(run, summary, tmp_path_factory):
    """The page with one figure, which loads sooner."""
    with one_figure():
        return page.write_page(tmp_path_factory.mktemp("small"), run, summary)


@pytest.fixture
def shown(browser, small):
    with opened(browser, small) as own:
        yield own


def listed(shown, column: int = 0) -> list[str]:
    """One column of the table, over all its pages."""
    texts = []
    while True:
        rows = shown.locator("#explorer .list tbody tr")
        assert rows.count() <= 50  # however many items fit, few rows are in the document
        texts += rows.locator(f"td:nth-child({column + 1})").all_inner_texts()
        if shown.get_by_role("button", name="Next rows").is_disabled():
            return texts
        shown.get_by_role("button", name="Next rows").click()


def choose(shown, label: str, value: str) -> None:
    shown.get_by_role("combobox", name=label, exact=True).select_option(label=value)


def search(shown, words: str) -> None:
    shown.get_by_label("search text").fill(words)
    shown.wait_for_selector(f'#explorer[data-words="{words.lower()}"]')


def test_it_opens_from_a_file_and_lists_the_conflicts(shown, run):
    wanted = run.readings[run.readings.split == "conflict"]["item"].unique()
    assert sorted(listed(shown)) == sorted(wanted)


def test_filters_leave_the_items_that_the_readings_say(shown, run):
    rows = run.readings[run.readings.status == "ok"]

    def wanted(condition, **equal):
        own = rows[rows.condition == condition]
        for name, value in equal.items():
            own = own[own[name] == value]
        return sorted(own["item"])

    choose(shown, "outcome", "failure")
    assert sorted(listed(shown)) == wanted("as-delivered", split="conflict", success_top1=False)
    choose(shown, "tier", "deep")
    assert sorted(listed(shown)) == wanted("as-delivered", split="conflict", success_top1=False, tier="deep")
    choose(shown, "condition", "uniform-1.5")
    assert sorted(listed(shown)) == wanted("uniform-1.5", split="conflict", success_top1=False, tier="deep")
    choose(shown, "tier", "any")
    choose(shown, "split", "retention")
    choose(shown, "outcome", "success")
    assert sorted(listed(shown)) == wanted("uniform-1.5", split="retention", success_top1=True)
    choose(shown, "split", "any")
    choose(shown, "outcome", "not measured")
    assert listed(shown) == ["broken-000"]
    choose(shown, "outcome", "any")
    assert len(listed(shown)) == run.readings["item"].nunique()
    search(shown, "THING 7?")
    assert sorted(listed(shown)) == sorted(rows[rows.question.str.contains("thing 7?", regex=False)]["item"].unique())


def test_a_head_sorts_both_ways_and_says_so(shown, run):
    own = run.readings.query("condition == 'as-delivered' and split == 'conflict' and status == 'ok'")
    head = shown.get_by_role("button", name="adapter margin")
    for direction, ascending in (("ascending", True), ("descending", False)):
        head.click()
        assert shown.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 1
        assert shown.locator(f"th[aria-sort={direction}]").inner_text().startswith("adapter margin")
        values = [float(text.replace("\u2212", "-")) for text in listed(shown, 5) if text != "\u2013"]
        assert values == pytest.approx(sorted(own.adapter_margin, reverse=not ascending), abs=0.06)


def marks(shown) -> list[tuple[float, float]]:
    """Centres of the plot's marks, in pixels of the window."""
    found = shown.evaluate(
        """[...document.querySelectorAll("#explorer .plane .mark-symbol.layer_1_marks path")].map((own) => {
             const box = own.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })"""
    )
    return [tuple(own) for own in found]


def test_dragging_over_the_plot_selects_the_marks_beneath(shown, run):
    shown.locator("#explorer .plane").scroll_into_view_if_needed()
    centres = marks(shown)
    assert len(centres) == run.readings.query("split == 'conflict' and status == 'ok'")["item"].nunique()
    xs, ys = (sorted(own[axis] for own in centres) for axis in (0, 1))
    left, right, top, bottom = xs[0] - 4, xs[len(xs) // 2] + 1.3, ys[0] - 4, ys[2 * len(ys) // 3] + 1.3
    shown.mouse.move(left, top)
    shown.mouse.down()
    shown.mouse.move(right - 40, bottom - 40)
    shown.mouse.move(right, bottom)
    shown.mouse.up()
    beneath = [own for own in centres if left <= own[0] <= right and top <= own[1] <= bottom]
    assert 5 < len(beneath) < len(centres)
    assert len(listed(shown)) == len(beneath)
    assert f"{len(beneath)} of" in shown.locator("#explorer [role=status]").inner_text()
    assert shown.locator("#explorer .detail").is_hidden()  # the end of a drag is no click
    faded = shown.locator("#explorer .plane .mark-symbol.layer_1_marks path[opacity='0.15']").count()
    assert faded == len(centres) - len(beneath)
    choose(shown, "outcome", "failure")
    assert len(listed(shown)) < len(beneath)
    choose(shown, "outcome", "any")
    shown.get_by_role("button", name="Clear selection").click()
    assert len(listed(shown)) == run.readings[run.readings.split == "conflict"]["item"].nunique()


def test_a_mark_opens_the_item_that_it_is(shown, run):
    shown.locator("#explorer .plane").scroll_into_view_if_needed()
    centres = marks(shown)
    isolated = max(
        centres, key=lambda own: min((own[0] - x) ** 2 + (own[1] - y) ** 2 for x, y in centres if (x, y) != own)
    )
    shown.mouse.move(*isolated)
    shown.wait_for_selector(".hint:not([hidden])")
    named = shown.locator(".hint").inner_text().split(":")[0]
    shown.mouse.click(*isolated)
    assert shown.locator("#explorer .detail h3").inner_text() == named
    delivered = run.readings.query("item == @named and condition == 'as-delivered'").iloc[0]
    own = {axis: [centre[axis] for centre in centres] for axis in (0, 1)}
    rows = run.readings.query("split == 'conflict' and condition == 'as-delivered' and status == 'ok'")
    # Its rank across and up is the item's rank among the readings.
    assert sum(x < isolated[0] - 0.01 for x in own[0]) == (rows.prior_margin < delivered.prior_margin).sum()
    assert sum(y > isolated[1] + 0.01 for y in own[1]) == (rows.adapter_margin < delivered.adapter_margin).sum()


def test_an_item_shows_question_document_answers_and_layers(shown, run):
    search(shown, "thing 8?")
    shown.locator("#explorer .list tbody tr", has_text="conflict-008").click()
    detail = shown.locator("#explorer .detail")
    for text in ("What colour is thing 8?", "Thing 8 is blue.", "blue", "red", *synthetic.CONDITIONS):
        assert text in detail.inner_text()
    rows = run.readings[run.readings["item"] == "conflict-008"].set_index("condition")
    for line in detail.locator("tbody tr").all():
        cells = line.locator("th, td").all_inner_texts()
        own = rows.loc[cells[0]]
        if pd.notna(own.adapter_margin):
            assert float(cells[1].replace("\u2212", "-")) == pytest.approx(own.adapter_margin, abs=0.06)
        assert ("yes" in cells[5]) == own.success_top1
        assert cells[8].strip() == own.top_token.strip()
        assert float(cells[10]) == pytest.approx(own.kl, abs=0.06)
        assert cells[11] == (own.answer_text if pd.notna(own.answer_text) else "\u2013")
    detail.locator(".bars svg").first.wait_for()
    bars = detail.locator(".bars").first.locator(".mark-rect path")
    assert bars.count() == synthetic.LAYERS + 1
    heights = bars.evaluate_all("(all) => all.map((own) => own.getBBox().height)")
    layers = run.layers[run.layers["item"] == "conflict-008"].pivot_table(
        index="layer", columns="condition", values="attribution"
    )
    moved = (layers["base"] - layers["as-delivered"]).abs()
    assert [height / max(heights) for height in heights] == pytest.approx(list(moved / moved.max()), abs=0.02)


def test_a_gain_in_the_picture_of_an_item_chooses_its_condition(browser, run, summary, tmp_path):
    """Net margin by gain, by dose and by layer stand on one scale, each mark where its number says."""
    doses = [
        {"item": "conflict-008", "point": "p", "split": "conflict", "arm": "own", "dose": moved, "reached": True,
         "moved": moved, "condition": "as-delivered", "prior_margin": 3 + moved, "net_margin": 1 - 0.5 * moved,
         "success_top1": moved < 2}
        for moved in (-4.0, 0.0, 8.0)
    ]  # fmt: skip
    dosed = replace(run, extra={"prior_dose": pd.DataFrame(doses)})
    with one_figure():
        path = page.write_page(tmp_path, dosed, summary)
    with opened(browser, path) as shown:
        search(shown, "thing 8?")
        shown.locator("#explorer .list tbody tr", has_text="conflict-008").click()
        detail = shown.locator("#explorer .detail")
        by_gain, by_dose, steps = (detail.locator(".bars").nth(n) for n in range(3))
        by_dose.locator("svg").wait_for()
        places = "(all) => all.map((own) => own.getBoundingClientRect()).map((box) => [box.x, box.y])"
        marks = by_dose.locator(".mark-symbol.layer_5_marks path").evaluate_all(places)
        assert len(marks) == len(doses)
        (x0, y0), (x1, y1), (x2, y2) = marks
        assert (x2 - x1) / (x1 - x0) == pytest.approx(2, abs=0.05)
        assert (y2 - y1) / (y1 - y0) == pytest.approx(2, abs=0.05)
        assert steps.locator(".mark-rect path").count() == synthetic.LAYERS + 1
        gains = sorted(gain for gain in synthetic.GAINS.values() if gain in (0.0, 1.0, 1.25, 1.5, 2.0))
        clickable = by_gain.locator(".mark-symbol.layer_4_marks path")
        assert clickable.count() == len(set(gains))
        clickable.last.click()
        assert shown.get_by_role("combobox", name="condition").input_value() == str(
            synthetic.CONDITIONS.index("uniform-2")
        )


def test_every_control_is_reached_and_named_by_keyboard(shown):
    focused = """() => { const own = document.activeElement, text = (node) => node.nodeType === Node.TEXT_NODE;
      const label = own.labels?.[0] && [...own.labels[0].childNodes].find(text).textContent;
      return [own.tagName, label ?? own.getAttribute("aria-label") ?? own.textContent.slice(0, 30)]; }"""
    shown.get_by_role("combobox", name="condition").focus()
    reached = [shown.evaluate(focused)]
    for _ in range(28):
        shown.keyboard.press("Tab")
        reached.append(shown.evaluate(focused))
    names = [name for _, name in reached]
    controls = [
        *("condition", "split", "tier", "measure", "outcome", "search text", "filter by"),
        *("Reset", "Copy link to this view", "Export CSV", "Export JSON Lines", "all conditions"),
        *("Copy SVG: plot of the items", "Copy PNG: plot of the items"),
    ]
    assert names[: len(controls)] == controls
    assert names[len(controls)].startswith("Columns (9 of ")
    heads = names[len(controls) + 1 :]
    assert [head.rstrip(" \u25be\u25b4") for head in heads[:9]] == [
        "item", "split", "question", "known", "prior margin", "adapter margin", "net margin", "outcome", "says",
    ]  # fmt: skip
    assert [tag for tag, _ in reached].count("TR") == 1  # the table is one stop; arrows move within it
    assert "Next rows" in names


def test_rows_are_walked_opened_and_left_by_keyboard(shown, run):
    rows = shown.locator("#explorer .list tbody tr")
    first, second = (rows.nth(place).locator("td").first.inner_text() for place in (0, 1))
    shown.get_by_role("button", name="says").focus()
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.firstChild.textContent") == first
    shown.keyboard.press("ArrowDown")
    shown.keyboard.press("Enter")
    assert shown.evaluate("document.activeElement.textContent") == second
    assert shown.evaluate("document.activeElement.tagName") == "H3"
    shown.keyboard.press("Escape")
    assert shown.evaluate("document.activeElement.firstChild.textContent") == second
    shown.keyboard.press("PageDown")
    conflicts = run.readings[run.readings.split == "conflict"]["item"].nunique()
    assert f"Rows 51 to 100 of {conflicts}" in shown.locator("#explorer .pager").first.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser, small, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    with opened(browser, small, color_scheme=scheme) as shown:
        for kind in ("success", "net_margin", "question"):
            shown.get_by_role("combobox", name="filter by").select_option(kind)
        shown.locator("#explorer .chooser summary").click()
        shown.locator("#explorer .list tbody tr").first.click()
        shown.locator("#explorer .bars svg").first.wait_for()
        shown.locator(".copy").first.hover()
        found = axe.Axe().run(shown).response
    assert len(found["passes"]) > 20
    worst = [own for own in found["violations"] if own["impact"] in ("serious", "critical")]
    assert [(own["id"], own["nodes"][0]["html"][:160]) for own in worst] == []


def test_dark_mode_recolours_page_figures_and_plot(browser, small):
    look = """() => ["body", "#explorer .plane .mark-symbol.layer_1_marks path", ".drawing svg path"].map((own) => {
      const style = getComputedStyle(document.querySelector(own));
      return [style.backgroundColor, style.stroke, style.fill]; })"""
    seen = {}
    for scheme in ("light", "dark"):
        with opened(browser, small, color_scheme=scheme) as shown:
            seen[scheme] = shown.evaluate(look)
    light, dark = [sum(map(int, re.findall(r"\d+", seen[own][0][0])[:3])) for own in ("light", "dark")]
    assert light > 3 * 230
    assert dark < 3 * 50
    assert seen["light"][1][1] != seen["dark"][1][1]
    assert seen["light"][2] != seen["dark"][2]


@pytest.mark.parametrize("width", [400, 2560])
def test_no_width_makes_the_page_scroll_sideways(browser, written, width):
    with opened(browser, written.path, viewport={"width": width, "height": 900}) as shown:
        shown.locator("#explorer .list tbody tr").first.click()
        shown.locator("#explorer .bars svg").first.wait_for()
        assert shown.evaluate("document.documentElement.scrollWidth") == width
        plane = shown.locator("#explorer .plane").bounding_box()
        drawing = shown.locator("#explorer .plane svg").bounding_box()
        assert drawing["x"] + drawing["width"] <= plane["x"] + plane["width"]
        for control in shown.locator("#explorer select, #explorer input, #explorer .pager button").all():
            box = control.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        assert text_faults(shown, "#explorer") == []


def test_it_prints_without_the_explorer(browser, written):
    with opened(browser, written.path) as shown:
        printed = shown.pdf(format="A4")
        assert printed.startswith(b"%PDF")
        shown.emulate_media(media="print")
        assert shown.locator("#explorer").is_hidden()
        assert shown.locator(".printed").is_visible()
        assert shown.locator("#verdict").is_visible()
        shown.emulate_media(media="screen")
        assert shown.locator("#explorer").is_visible()


@pytest.fixture(scope="module")
def hostile(run, summary, tmp_path_factory):
    """The page with twenty hostile items; one figure, since these texts reach no figure."""
    with one_figure():
        return page.write_page(tmp_path_factory.mktemp("hostile"), with_texts(run, HOSTILE), summary)


@pytest.mark.parametrize("guarded", [True, False], ids=["under the policy", "escaping alone"])
def test_hostile_items_are_shown_as_they_stand_and_run_nothing(browser, hostile, guarded):
    census = "[...new Set([...document.querySelectorAll('*')].map((own) => own.tagName))].sort()"
    texts = "[...document.querySelectorAll('#explorer .detail :is(dd, td) bdi')].map((own) => own.textContent)"
    with opened(browser, hostile, bypass_csp=not guarded) as shown:
        listed(shown)
        search(shown, "conflict-")
        shown.get_by_role("button", name="item", exact=True).click()
        shown.locator("#explorer .list tbody tr").first.click()
        before = shown.evaluate(census)
        for number, text in enumerate(HOSTILE):
            assert shown.locator("#explorer .detail h3").inner_text() == f"conflict-{number:03d}"
            for button in shown.locator("#explorer .detail button.more").all():
                button.click()
            found = shown.evaluate(texts)
            assert escape_control_characters(text) in found or not text
            shown.get_by_role("button", name="Next item").click()
        assert shown.locator("#explorer bdi *").count() == 0
        assert shown.evaluate(census) == before
        assert shown.evaluate("window.ran") is None


def test_a_long_answer_is_clipped_and_can_be_seen_whole(browser, hostile):
    with opened(browser, hostile) as shown:
        place = next(number for number, text in enumerate(HOSTILE) if len(text) == 10_000)
        search(shown, f"conflict-{place:03d}")
        shown.locator("#explorer .list tbody tr").first.click()
        answer = shown.locator("#explorer .detail td.said").first
        assert 300 < len(answer.locator("bdi").inner_text()) < 500
        answer.get_by_role("button", name="Show all 10,000 characters").click()
        assert answer.locator("bdi").inner_text() == HOSTILE[place]
        answer.get_by_role("button", name="Show less").click()
        assert len(answer.locator("bdi").inner_text()) < 500


def test_a_run_without_margins_still_has_its_table(browser, run, summary, tmp_path, monkeypatch):
    """Where no condition has margins there is no plane to draw, and nothing is logged on the console."""
    monkeypatch.setattr(figures, "FIGURES", ())
    bare = run.readings.assign(adapter_margin=float("nan"), prior_margin=float("nan"))
    path = page.write_page(tmp_path, RunFrame(run.manifest, bare), summary)
    logged: list[str] = []
    with browser.new_context() as context:
        shown = context.new_page()
        shown.on("console", lambda message: logged.append(message.text))
        shown.goto(f"{path.as_uri()}#items")
        assert shown.locator("#explorer .list tbody tr").count() == 50
        assert shown.locator("#explorer .plane").is_hidden()
        shown.locator("#explorer .list tbody tr").first.click()
        assert shown.locator("#explorer .detail").is_visible()
    assert logged == []
    assert json.loads(Reader(path.read_text("utf-8")).data["item-data"])["layers"] == {}
