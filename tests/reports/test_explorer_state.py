"""The explorer's filters, the view in the address and the exported selection, in a real browser, against the readings."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.causes import causes
from override_gap.margins.condition_names import BASE, DELIVERED
from override_gap.probes.store.schema import READINGS
from override_gap.reports import page
from override_gap.reports.page.explorer import shown_columns
from override_gap.reports.text import escape_control_characters
from tests.analyses.searched import gain_rows
from tests.reports import synthetic
from tests.reports.boxes import text_faults
from tests.reports.browsing import NEEDS_BROWSER, one_figure, opened

pytestmark = NEEDS_BROWSER
SPREADSHEET = [
    "=1+1",
    "+a",
    "-b",
    "@c",
    "'quoted",
    'say "a", b',
    "two\r\nlines",
    "\tx",
    "a;b",
    "",
    " =d",
    "\uff1de",
    "\u00e9",
]
SEARCHED = (
    lambda item: gain_rows(item, (1, 1.5, 2), (-2, -1, 0.5), kl=0.01),
    lambda item: gain_rows(item, (1, 1.5, 2, 3, 4), (-2, -1.8, -1.5, -1, 0.5), rank=0.6, broken_at=6),
    lambda item: gain_rows(item, (1, 2, 4), (-9, -8, -6), broken_at=6),
)


@pytest.fixture(scope="module")
def searched():
    """The made-up run with fields of meta, wordings, answers that a spreadsheet would compute, and searched failures."""
    run = synthetic.run(conflicts=120, others=12)
    rows = run.readings.copy()
    names = list(dict.fromkeys(rows["item"]))
    number = rows["item"].map({name: n for n, name in enumerate(names)})
    meta = number.map(lambda n: json.dumps({"era & time": ("old", "new", "")[n % 3], "views": n * 1.5, "note": f"note <{n}>",
                                            **({"sure": n % 2 == 0} if n % 5 else {})}))  # fmt: skip
    rows["meta"] = meta.where((rows["condition"] == BASE) & (number % 7 > 0))
    rows["wording"] = number.map(lambda n: ("plain", "turned", None)[n % 3])
    rows["answer_text"] = number.map(lambda n: SPREADSHEET[n % len(SPREADSHEET)]).where(rows["condition"] != BASE)
    rows.loc[(rows["item"] == names[3]) & (rows["condition"] == DELIVERED), "critical_gain"] = np.inf
    failing = rows.query("condition == @DELIVERED and split == 'conflict' and known and success_top1 == False")
    assert len(failing) > 8
    search = [
        {**row, "point": point}
        for n, (item, point) in enumerate(zip(failing["item"], failing["point"], strict=True))
        for row in SEARCHED[n % 3](item)
    ]
    return replace(run, readings=rows, search=pd.DataFrame(search))


@pytest.fixture(scope="module")
def path(searched, summary, tmp_path_factory):
    with one_figure():
        return page.write_page(tmp_path_factory.mktemp("searched"), searched, summary)


@pytest.fixture(scope="module")
def shown(browser, path):
    """One page for the whole module; every test goes to the view that it wants."""
    with opened(browser, path, permissions=["clipboard-read", "clipboard-write"]) as own:
        yield own


visits = iter(range(1_000_000))


def go(shown, *parts: str) -> None:
    """To a view, by its fragment; the number makes every fragment another one, and means nothing to the page."""
    shown.evaluate("(own) => { location.hash = own; }", "&".join(["items", f"{next(visits)}=", *parts]))


def save(shown, form: str, every: bool = False) -> tuple[str, str]:
    """The exported file's name and text."""
    shown.get_by_label("all conditions").set_checked(every)
    with shown.expect_download() as download:
        shown.get_by_role("button", name=f"Export {form}").click()
    return download.value.suggested_filename, download.value.path().read_bytes().decode()


def selected(shown) -> list[str]:
    """The items that the view leaves, in the table's order."""
    return list(dict.fromkeys(json.loads(line)["item"] for line in save(shown, "JSON Lines")[1].splitlines()))


def per_item(run) -> pd.DataFrame:
    """A row per item: what the explorer knows of it, from the readings, the search and the stored meta."""
    rows = run.readings.drop_duplicates("item").set_index("item", drop=False)
    rows = rows[list(shown_columns(READINGS, "item"))].copy()
    delivered = run.readings[run.readings["condition"] == DELIVERED].set_index("item")
    rows["critical_gain"] = delivered["critical_gain"]
    found = causes(run)
    assert found is not None
    of_search = found.items.set_index("item")
    rows["cause"], rows["repair_gain"] = of_search["cause"], of_search["gain"]
    stored = run.readings[run.readings["meta"].notna()].set_index("item")["meta"].map(json.loads)
    for name in ("era & time", "views", "note", "sure"):
        rows[f"meta.{name}"] = stored.map(lambda meta, name=name: meta.get(name))
    return rows


def per_reading(run, condition: str) -> pd.DataFrame:
    rows = run.readings[run.readings["condition"] == condition].set_index("item", drop=False)
    return rows[list(shown_columns(READINGS, "condition"))]


def sides(column: pd.Series) -> tuple[float, float]:
    """Two bounds that lie between values, so that rounding decides nothing."""
    values = np.unique(column.dropna().astype(float))
    values = values[np.isfinite(values)]
    low, high = len(values) // 4, max(1, 3 * len(values) // 4)
    return float(values[low] + values[low + 1]) / 2, float(values[high - 1] + values[high]) / 2


def test_every_field_filters_as_the_readings_say(shown, searched):
    """Each field that the page offers, with a value taken from the readings: the items left are those of pandas."""
    condition = "uniform-1.5"
    offered = shown.locator("#explorer").get_by_role("combobox", name="filter by").locator("option").evaluate_all(
        "(all) => all.map((own) => own.value).filter((own) => own)"
    )  # fmt: skip
    tables = (per_item(searched), per_reading(searched, condition))
    held = {name: table[name] for table in tables for name in table if table[name].nunique(dropna=False) > 1}
    anywhere = searched.readings  # a column may be constant under one condition
    expected = {name for name in held if name not in ("split", "tier")}
    assert expected <= set(offered)
    assert {name for name in offered if name not in held} <= {"success", "failure", *anywhere.columns}
    for name in sorted(expected):
        column = held[name]
        values = column.dropna()
        if set(map(type, values)) <= {bool, np.bool_}:
            cases = {"yes": column == True, "no": column == False}  # noqa: E712 - of objects with None
        elif pd.api.types.is_numeric_dtype(column) or all(isinstance(own, int | float) for own in values):
            numbers = column.astype(float)
            low, high = sides(numbers) if numbers.nunique() > 1 else (numbers.min() - 1.0, numbers.max() + 1.0)
            low, high = float(low), float(high)
            cases = {f"{low!r}..": numbers >= low, f"..{high!r}": numbers <= high}
            if numbers.nunique() > 4:
                cases[f"{low!r}..{high!r}"] = (numbers >= low) & (numbers <= high)
        elif (
            anywhere[name] if name in anywhere and name in per_reading(searched, condition) else column
        ).nunique() > 39:
            piece = str(values.iloc[7])
            cases = {piece.upper(): column.fillna("").str.lower().str.contains(piece.lower(), regex=False)}
        else:
            most = values[values != ""].mode().iloc[0]
            cases = {most: column == most}
        if column.isna().any() and values.nunique() < 30 and not pd.api.types.is_numeric_dtype(column):
            cases[""] = column.isna() | (column == "")
        part = "item.contains" if name == "item" else name  # `item` is the open one
        for value, keep in cases.items():
            go(shown, "split=", f"condition={condition}", f"{quote(part, safe='')}={quote(value, safe='')}")
            wanted = sorted(column.index[keep.fillna(False).astype(bool)])
            assert 0 < len(wanted) < len(column), (name, value)
            assert sorted(selected(shown)) == wanted, (name, value)


def test_pairs_of_conditions_are_filtered_by_their_controls(shown, searched):
    """Flipped by uniform-2, not by uniform-1.25: fails as delivered, succeeds under the one, fails under the other."""
    go(shown)
    shown.get_by_role("combobox", name="outcome", exact=True).select_option("failure")
    for kind, condition in (("succeeds under", "uniform-2"), ("fails under", "uniform-1.25")):
        shown.get_by_role("combobox", name="filter by").select_option(label=kind)
        assert shown.evaluate("document.activeElement.labels[0].firstChild.data") == kind
        shown.get_by_role("combobox", name=kind).select_option(condition)
    won = searched.readings.query("split == 'conflict' and status == 'ok'").pivot(
        index="item", columns="condition", values="success_top1"
    )
    flipped = won[(won[DELIVERED] == False) & (won["uniform-2"] == True) & (won["uniform-1.25"] == False)]  # noqa: E712
    assert len(flipped) > 3
    assert sorted(selected(shown)) == sorted(flipped.index)
    assert "&success=uniform-2&failure=uniform-1.25" in shown.url
    shown.get_by_role("button", name="Remove the filter fails under").click()
    assert sorted(selected(shown)) == sorted(won.index[(won[DELIVERED] == False) & (won["uniform-2"] == True)])  # noqa: E712


def test_a_range_and_a_piece_of_text_are_filtered_by_their_controls(shown, searched):
    go(shown)
    shown.get_by_role("combobox", name="filter by").select_option("net_margin")
    shown.get_by_label("net margin at least").fill("0.5")
    shown.get_by_label("net margin at least").press("Enter")
    shown.get_by_role("combobox", name="filter by").select_option("meta.note")
    shown.get_by_label("note contains").fill("NOTE <1")
    shown.wait_for_url(re.compile("meta[.]note="))
    rows = searched.readings.query("condition == @DELIVERED and split == 'conflict' and net_margin >= 0.5")
    notes = per_item(searched)["meta.note"]
    assert sorted(selected(shown)) == sorted(
        name for name in rows["item"] if isinstance(notes[name], str) and notes[name].startswith("note <1")
    )


def look(shown) -> dict:
    """What a reader sees of the view."""
    return shown.evaluate(
        """() => ({
          controls: [...document.querySelectorAll("#explorer :is(select, input:not([type=checkbox]))")].map((own) => own.value),
          heads: [...document.querySelectorAll("#explorer .list th")].map((own) => own.innerText + own.ariaSort),
          rows: [...document.querySelectorAll("#explorer .list tbody tr")].map((own) => own.innerText),
          open: document.querySelector("#explorer .detail:not([hidden]) h3")?.innerText ?? null,
          marked: document.querySelector("#explorer .list tr[aria-current]")?.firstChild.innerText ?? null,
          status: document.querySelector("#explorer p[role=status]").innerText,
          faded: document.querySelectorAll("#explorer .plane .mark-symbol.layer_1_marks path[opacity='0.15']").length,
        })"""
    )


def test_a_link_restores_the_whole_view_and_the_history_goes_through_its_steps(shown, browser, path):
    go(shown)
    shown.get_by_role("combobox", name="condition", exact=True).select_option("uniform-1.25")
    shown.get_by_role("combobox", name="outcome", exact=True).select_option("success")
    before = look(shown)
    shown.get_by_role("combobox", name="filter by").select_option("wording")
    shown.get_by_role("combobox", name="wording").select_option("not stated")
    shown.locator("#explorer .chooser summary").click()
    shown.get_by_role("checkbox", name="cause of failure").check()
    shown.get_by_role("checkbox", name="question").uncheck()
    shown.get_by_role("button", name="net margin").click()
    shown.locator("#explorer .list tbody tr").nth(2).click()
    wanted = look(shown)
    assert wanted["open"] == wanted["marked"]
    assert [head for head in wanted["heads"] if head.startswith("net margin")] == ["net margin \u25b4ascending"]
    shown.get_by_role("button", name="Copy link to this view").click()
    shown.locator(".announced", has_text="copied").wait_for()
    link = shown.evaluate("navigator.clipboard.readText()")
    assert link == shown.url
    context = browser.new_context(viewport=shown.viewport_size)
    other = context.new_page()
    other.goto(link)
    other.wait_for_selector("#explorer[data-drawn]")
    assert look(other) == wanted
    detail = other.locator("#explorer .detail").bounding_box()
    assert -5 < detail["y"] < shown.viewport_size["height"]
    context.close()
    for _ in range(5):  # wording, two columns, the sorting, the item
        shown.go_back()
    assert look(shown)["rows"] == before["rows"]
    assert look(shown)["heads"] == before["heads"]
    assert look(shown)["open"] is None
    for _ in range(5):
        shown.go_forward()
    assert look(shown) == wanted


def test_a_selection_in_the_plot_is_restored_from_a_link(shown, searched):
    conflicts = searched.readings.query("split == 'conflict' and condition == @DELIVERED and status == 'ok'")
    (x0, x1), (y0, y1) = (sides(conflicts[name]) for name in ("prior_margin", "adapter_margin"))
    go(shown, f"selection={x0}..{x1},{y0}..{y1}")
    within = conflicts[conflicts["prior_margin"].between(x0, x1) & conflicts["adapter_margin"].between(y0, y1)]
    assert sorted(selected(shown)) == sorted(within["item"])
    assert look(shown)["faded"] == len(conflicts) - len(within)
    shown.get_by_role("button", name="Clear selection").click()
    assert len(selected(shown)) == len(conflicts) + 1  # one could not be measured
    assert look(shown)["faded"] == 0


HOSTILE_FRAGMENTS = [
    "condition=nowhere", "condition=%E0%A4%A", "split=<script>window.ran=1</script>", "item=absent", "item=", "sort=__proto__",
    "sort=-constructor", "columns=", "columns=__proto__,constructor,%E0", "page=-1", "page=1e99", "page=NaN", "measure=toString",
    "outcome=maybe", "selection=1..0,0..1", "selection=a..b,c..d", "selection=1e999..2,0..1", "selection=", "__proto__=x",
    "constructor=x", "meta.__proto__=x", "net_margin=", "net_margin=....", "net_margin=x..y", "known=perhaps",
    "success=__proto__", "failure=", "=", "&&&", "==", "%00=%00", "tier=%F0%9F%98%80", "wording=" + "x" * 5_000,
    "&".join(["known=maybe"] * 5_000),
]  # fmt: skip


def test_hostile_fragments_change_nothing_and_raise_nothing(shown):
    """That nothing is logged on the console is asserted where the page is closed."""
    go(shown)
    wanted = look(shown)
    for part in HOSTILE_FRAGMENTS:
        go(shown, part)
        assert look(shown) == wanted, part
    go(shown, *HOSTILE_FRAGMENTS[:20], "outcome=failure")
    assert look(shown)["status"] != wanted["status"]
    go(shown, "search=<img src=x onerror=window.ran=1>")
    assert look(shown)["status"].startswith("0 of")
    for plain in ("#", "#%E0%A4%A", "#<svg onload=window.ran=1>", "#items", "#item-data"):
        shown.evaluate("(own) => { location.hash = own; }", plain)
    assert shown.evaluate("window.ran") is None


def test_plain_anchors_go_on_working_and_open_the_folds_around_them(shown):
    go(shown, "outcome=failure")
    before = look(shown)
    shown.evaluate("""() => {
      const link = document.createElement("a"), fold = document.createElement("details");
      link.href = "#inmost"; link.id = "way"; link.textContent = "way";
      fold.innerHTML = "<summary>a</summary><details><summary>b</summary><p id='inmost'>c</p></details>";
      document.querySelector("#methods").append(fold);
      document.querySelector("header").append(link);
    }""")
    inmost = shown.locator("#inmost")
    assert not inmost.is_visible()
    shown.evaluate("location.hash = '#inmost'")
    inmost.wait_for()
    assert 0 <= inmost.bounding_box()["y"] < shown.viewport_size["height"]
    shown.evaluate(
        "document.querySelectorAll('details:has(#inmost)').forEach((own) => { own.open = false; }); scrollTo(0, 0)"
    )
    shown.locator("#way").click()  # the address stays the same
    assert inmost.is_visible()
    assert 0 <= inmost.bounding_box()["y"] < shown.viewport_size["height"]
    shown.evaluate("location.hash = '#hypotheses'")
    assert abs(shown.locator("#hypotheses").bounding_box()["y"]) < 60
    assert look(shown) == before
    shown.evaluate(
        "document.querySelector('#inmost').closest('#methods > details').remove(); document.querySelector('#way').remove()"
    )


def wanted_rows(run, conditions) -> pd.DataFrame:
    """The rows that an export of all conflicts should hold, from the readings."""
    items = per_item(run).query("split == 'conflict'")
    rows = run.readings[run.readings["item"].isin(items.index) & run.readings["condition"].isin(conditions)]
    rows = rows.set_index(["item", "condition"])[list(shown_columns(READINGS, "condition"))]
    return items.rename_axis(None).merge(rows.reset_index("condition"), left_on="item", right_index=True)


def compare(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    assert set(found) == set(wanted)
    keys = ["item", "condition"]
    found, wanted = (table.set_index(keys).sort_index() for table in (found, wanted))
    assert list(found.index) == list(wanted.index)
    for name in wanted:
        own, other = found[name], wanted[name]
        if pd.api.types.is_numeric_dtype(other) and not pd.api.types.is_bool_dtype(other):
            np.testing.assert_allclose(own.astype(float), other.astype(float), rtol=6e-7, err_msg=name)
        else:
            # the page writes control characters as escapes, and every line end as one character
            other = [escape_control_characters(value) if isinstance(value, str) else value for value in other]
            assert [None if pd.isna(value) else value for value in own] == [
                None if pd.isna(value) else value for value in other
            ], name


def test_the_csv_holds_the_readings(shown, searched):
    go(shown)
    name, text = save(shown, "CSV", every=True)
    assert name == "tiny-organism-hypernetwork-121-items.csv"
    cells = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert len({len(row) for row in cells}) == 1
    assert text.endswith("\r\n")
    numbers = {n for n, column in enumerate(cells[0]) if column in wanted_rows(searched, ()).select_dtypes("number")}
    # no cell of text is one that a spreadsheet computes, and numbers are written without quotes or apostrophes
    assert not [
        cell for row in cells for n, cell in enumerate(row) if n not in numbers and cell[:1] in set("=+-@\t\r\uff1d")
    ]
    assert all(cell == "" or float(cell) is not None for row in cells[1:] for n, cell in enumerate(row) if n in numbers)
    found = pd.read_csv(io.StringIO(text, newline=""))
    for column in found.select_dtypes(exclude=["number", "bool"]):
        found[column] = found[column].map(lambda own: own[1:] if isinstance(own, str) and own.startswith("'") else own)
    # pandas reads no difference between an empty text and none
    wanted = wanted_rows(searched, synthetic.CONDITIONS).replace({"": None})
    compare(found, wanted)
    one = pd.read_csv(io.StringIO(save(shown, "CSV")[1]))
    assert set(one["condition"]) == {DELIVERED}
    assert len(one) == len(wanted) / len(synthetic.CONDITIONS)


def test_json_lines_hold_the_readings_with_every_text_as_it_is(shown, searched):
    go(shown)
    name, text = save(shown, "JSON Lines", every=True)
    assert name == "tiny-organism-hypernetwork-121-items.jsonl"
    found = pd.DataFrame([json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()])
    found["critical_gain"] = found["critical_gain"].astype(float)  # "inf" where no gain in range does it
    assert np.isinf(found["critical_gain"]).any()
    compare(found, wanted_rows(searched, synthetic.CONDITIONS))


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_in_the_explorer_overlaps_or_is_cut(shown, width):
    before = shown.viewport_size
    shown.set_viewport_size({"width": width, "height": 900})
    go(
        shown,
        "success=uniform-2",
        "known=yes",
        "net_margin=-100..100",
        "meta.note=note",
        "columns=item,cause,meta.note,kl",
        "item=conflict-004",
    )
    shown.evaluate("document.querySelector('#explorer .chooser').open = true")
    shown.locator("#explorer .bars svg").first.wait_for()
    assert text_faults(shown, "#explorer") == []
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    shown.set_viewport_size(before)
