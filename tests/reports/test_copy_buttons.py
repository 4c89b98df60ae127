"""The buttons that copy figures and tables: what is on the clipboard afterwards, and what happens where it is refused."""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from override_gap.reports import page
from tests.reports.browsing import NEEDS_BROWSER, one_figure, opened
from tests.reports.reader import Reader

pytestmark = NEEDS_BROWSER
SVG = "{http://www.w3.org/2000/svg}"
POINT = 4 / 3
"""Pixels."""
NASTY = r"a|b\c_$%&#{}~^ <b>`*[x](y) -- \n 'q' " + "\u2212 \u2264 https://x.y @me"


@pytest.fixture(scope="module")
def path(run, summary, tmp_path_factory):
    with one_figure():
        return page.write_page(tmp_path_factory.mktemp("copied"), run, summary)


@pytest.fixture(scope="module")
def shown(browser, path):
    with opened(browser, path, permissions=["clipboard-read", "clipboard-write"]) as own:
        own.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
        yield own


READ = """async () => {
  const found = {};
  for (const own of await navigator.clipboard.read()) for (const type of own.types) {
    const bytes = new Uint8Array(await (await own.getType(type)).arrayBuffer());
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    found[type] = btoa(text);
  }
  return found;
}"""


def copied(shown, tools, label: str) -> dict[str, bytes]:
    """What is on the clipboard, by type, after a press of one of the tools' buttons."""
    shown.evaluate("navigator.clipboard.writeText('nothing')")
    shown.evaluate("document.querySelector('.announced').textContent = ''")
    tools.get_by_role("button", name=f"Copy {label}:").click()
    shown.locator(".announced", has_text="copied").wait_for()
    return {kind: base64.b64decode(data) for kind, data in shown.evaluate(READ).items()}


def widest(shown) -> tuple[float, float]:
    """Width and height of the widest form of the figure."""
    boxes = shown.locator("figure .drawing svg").evaluate_all("(all) => all.map((own) => own.getAttribute('viewBox'))")
    _, _, width, height = max((tuple(map(float, box.split())) for box in boxes), key=lambda box: box[2])
    return width, height


def test_every_figure_and_table_has_its_buttons_and_none_has_them_without_a_script(shown, path):
    count = "(own) => document.querySelectorAll(own).length"
    assert (
        shown.evaluate(count, "figure > .drawing + .copy") == shown.evaluate(count, "figure > .drawing:has(svg)") == 1
    )
    tables = shown.evaluate(count, "main .scroll > table")
    assert tables > 10
    assert shown.evaluate(count, "main .scroll:has(> table) + .copy") == tables
    still = Reader(path.read_text(encoding="utf-8"))
    assert not [own for _, own in still.tags if "copy" in (own.get("class") or "").split()]


def test_a_copied_svg_stands_alone(shown):
    text = copied(shown, shown.locator("figure .copy"), "SVG")["text/plain"].decode()
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert "var(" not in text
    assert not list(root.iter(f"{SVG}text"))  # letters are paths
    width, height = widest(shown)
    assert (root.attrib["width"], root.attrib["height"]) == (f"{width:g}pt", f"{height:g}pt")
    ids = {own.attrib["id"] for own in root.iter() if "id" in own.attrib}
    used = re.findall(r"(?:url\(#|href=\"#)([^\")]+)", text)
    assert used
    assert set(used) <= ids
    # drawn by itself, as an image that cannot see the page
    ink = shown.evaluate(
        """async (text) => { const image = new Image(); image.src = "data:image/svg+xml," + encodeURIComponent(text);
          await image.decode();
          const canvas = document.createElement("canvas"); canvas.width = 400; canvas.height = 300;
          const brush = canvas.getContext("2d"); brush.drawImage(image, 0, 0, 400, 300);
          const colours = new Set(new Uint32Array(brush.getImageData(0, 0, 400, 300).data.buffer));
          return [image.naturalWidth, colours.size]; }""",
        text,
    )
    assert ink[0] == pytest.approx(width * POINT, abs=1)
    assert ink[1] > 50


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_copied_png_is_twice_the_size_on_paper(shown, scheme):
    shown.emulate_media(color_scheme=scheme)
    data = copied(shown, shown.locator("figure .copy"), "PNG")["image/png"]
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    width, height = widest(shown)
    assert image.size == pytest.approx((2 * POINT * width, 2 * POINT * height), abs=2)
    pixels = np.asarray(image)
    paper = [
        int(part) for part in re.findall(r"\d+", shown.evaluate("getComputedStyle(document.body).backgroundColor"))
    ]
    assert list(pixels[2, 2]) == [*paper[:3], 255]
    assert (pixels[..., 3] == 255).all()
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 50
    shown.emulate_media(color_scheme="light")


def cells(shown, table) -> list[list[str]]:
    """The table as it is read on the page."""
    rows = table.evaluate("(own) => [...own.rows].map((row) => [...row.cells].map((cell) => cell.innerText))")
    return [[" ".join(re.sub("[\u2713\u2717\u25b4\u25be]", "", cell).split()) for cell in row] for row in rows]


def markdown_cells(text: str) -> list[list[str]]:
    """Cells of a Markdown table, by the rules of CommonMark: a backslash before punctuation, three entities."""
    rows = [re.split(r"(?<!\\)(?:\\\\)*\|", line.strip())[1:-1] for line in text.strip().split("\n")]
    plain = [[re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell.strip()) for cell in row] for row in rows]
    names = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))
    for old, new in names:
        plain = [[cell.replace(old, new) for cell in row] for row in plain]
    assert set(plain[1]) == {"---"}
    return [plain[0], *plain[2:]]


LATEX = {r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
         r"\textgreater{}": ">", r"\textbar{}": "|", r"\textquotedbl{}": '"', r"\textasciigrave{}": "`",
         r"\textquotesingle{}": "'", "{-}": "-", "{[}": "[", "{]}": "]", r"\ensuremath{-}": "\u2212",
         r"\ensuremath{\pm}": "\u00b1", r"\ensuremath{\times}": "\u00d7", r"\ensuremath{\le}": "\u2264",
         r"\ensuremath{\ge}": "\u2265", r"\ensuremath{\infty}": "\u221e", r"\textendash{}": "\u2013", r"\ldots{}": "\u2026",
         **{"\\" + own: own for own in "&%$#_{}"}}  # fmt: skip
WRITTEN = re.compile("|".join(map(re.escape, sorted(LATEX, key=len, reverse=True))))


def latex_cells(text: str) -> list[list[str]]:
    """Cells of a tabular: what LaTeX prints for them. Anything that is no escape must be no special character."""
    body = re.search(r"\\toprule\n(.*)\n\\midrule\n(.*)\n\\bottomrule\n\\end\{tabular\}\n$", text, re.S)
    assert body, text
    rows = []
    for line in (body[1] + "\n" + body[2]).split("\n"):
        assert line.endswith(r" \\")
        parts = re.split(r"(?<!\\) & ", line.removesuffix(r" \\"))
        for part in parts:
            assert not re.search(r"[\\{}$%&#_^~]", WRITTEN.sub("", part)), part
        rows.append([WRITTEN.sub(lambda own: LATEX[own[0]], part) for part in parts])
    return rows


@pytest.mark.parametrize("nasty", [False, True], ids=["as it stands", "with nasty cells"])
def test_a_copied_table_says_what_the_page_says(shown, nasty):
    table = shown.locator("main .scroll > table:has(thead)").first
    if nasty:
        table.evaluate(
            """(own, text) => {
              for (const cell of [own.tBodies[0].rows[0].cells[1], own.tHead.rows[0].cells[0]]) cell.textContent = text;
            }""",
            NASTY,
        )
    tools = table.locator("xpath=../following-sibling::*[1]")
    wanted = cells(shown, table)
    assert len(wanted) > 2
    assert len({len(row) for row in wanted}) == 1
    assert markdown_cells(copied(shown, tools, "Markdown")["text/plain"].decode()) == wanted
    text = copied(shown, tools, "LaTeX")["text/plain"].decode()
    assert latex_cells(text) == wanted
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert columns
    assert len(columns[1]) == len(wanted[0])


def test_the_rows_that_the_explorer_shows_are_copied(shown):
    table = shown.locator("#explorer .list table")
    tools = shown.locator("#explorer .sheets .copy", has=shown.get_by_role("button", name="Copy Markdown: rows shown"))
    wanted = cells(shown, table)
    assert len(wanted) == 51
    assert markdown_cells(copied(shown, tools, "Markdown")["text/plain"].decode()) == wanted


def test_where_the_clipboard_is_refused_a_file_is_saved(shown):
    shown.evaluate("() => { navigator.clipboard.write = () => Promise.reject(new Error('refused')); }")
    for label, ending, begins in (("SVG", "svg", b"<svg"), ("PNG", "png", b"\x89PNG")):
        with shown.expect_download() as download:
            shown.locator("figure .copy").get_by_role("button", name=f"Copy {label}:").click()
        assert download.value.suggested_filename == f"figure-margins.{ending}"
        assert download.value.path().read_bytes().startswith(begins)
    shown.locator(".announced", has_text="saved as figure-margins.png, since the clipboard was refused").wait_for()
    shown.evaluate("delete navigator.clipboard.write")


def test_buttons_show_at_the_hand_or_the_focus_lie_below_the_drawing_and_are_not_printed(shown):
    tools, drawing = shown.locator("figure .copy"), shown.locator("figure .drawing")
    shade = "(own) => getComputedStyle(own).opacity"
    shown.mouse.move(0, 0)
    shown.evaluate("document.activeElement.blur()")
    assert tools.evaluate(shade) == "0"
    drawing.hover()
    assert tools.evaluate(shade) == "1"
    shown.mouse.move(0, 0)
    tools.get_by_role("button").first.focus()
    assert tools.evaluate(shade) == "1"
    box, own = drawing.bounding_box(), tools.bounding_box()
    assert own["y"] >= box["y"] + box["height"] - 0.5
    shown.emulate_media(media="print")
    assert not tools.is_visible()
    shown.emulate_media(media="screen")


def test_on_a_screen_that_is_touched_buttons_always_show(browser, path):
    with opened(browser, path, has_touch=True, is_mobile=True) as own:
        assert own.locator("figure .copy").evaluate("(own) => getComputedStyle(own).opacity") == "1"
