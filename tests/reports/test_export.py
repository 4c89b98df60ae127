"""Other forms of the report: what a reader sees is what was given, whatever it holds."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexSpecialsNode, LatexWalker, LatexWalkerParseError

from override_gap.analyses import hypotheses, verdict
from override_gap.analyses.compare import conditions as comparison
from override_gap.analyses.summary import summarise
from override_gap.reports.export import column_widths, latex, markdown, model_card, plain
from override_gap.reports.export.pdf import browser, write_pdf
from override_gap.reports.export.plain import PlainTable, paragraphs, plain_tables
from override_gap.reports.page.assets import policy
from override_gap.reports.text import escape_control_characters, script_json, untrusted
from tests.reports.hostile import HOSTILE
from tests.reports.reader import Reader
from tests.simulate import simulate_readings

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

FEW = {"conditions": ("base", "as-delivered", "slb"), "others": 20, "with_layers": False}
WORSE = [
    *(text for text in HOSTILE if text != "\ud800"), "a | b || c", "| --- | --- |", "[x](http://evil.example)", "![x](y)",
    "http://evil.example www.evil.example a@b.example", "*b* _i_ ~~s~~ `c` ``c`` # h", "\\", "a\\", "\\|", "\\input{/etc/passwd}",
    "\\end{longtable}", "% gone", "x^2_3 & y \\\\ z", "}{", "--- ``q'' ?` <<", "[1] *", "{\\bf x}",
]  # fmt: skip
LINES = [" ".join(escape_control_characters(text).split()) for text in WORSE]


@pytest.fixture(scope="module")
def full():
    return json.loads(json.dumps(summarise(simulate_readings(1, **FEW))))


def render(text: str) -> Reader:
    return Reader(MarkdownIt("commonmark").enable("table").enable("strikethrough").render(text))


def cells(page_text: str) -> list[list[str]]:
    """Cells of a rendered table, text as a reader sees it."""
    html = MarkdownIt("commonmark").enable("table").enable("strikethrough").render(page_text)
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.S)
    return [
        [" ".join(text for _, text in Reader(cell).texts) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row, re.S)]
        for row in rows
    ]


def test_hostile_cells_come_out_of_markdown_as_they_went_in() -> None:
    table = PlainTable("t", "", ("name", "other"), tuple((text, text) for text in LINES))
    shown = cells(markdown.markdown_table(table))
    assert [row[0] for row in shown[1:]] == LINES
    assert [row[1] for row in shown[1:]] == LINES
    page = render(markdown.markdown_table(table))
    assert {tag for tag, _ in page.tags} <= {"table", "thead", "tbody", "tr", "th", "td"}
    # Addresses that become links by themselves on GitHub, where no bracket is needed.
    assert not re.search(r"\bhttps?://|\bwww\.|[^\\]@", markdown.markdown_table(table))


def decoded(text: str) -> str:
    """LaTeX back to the characters that it sets; anything but the escapes known here is an error."""
    table = {value: key for key, value in latex._SPECIAL.items()}
    pattern = re.compile("|".join(re.escape(key) for key in sorted(table, key=len, reverse=True)) + r"|[^\\{}&%$#_~^]")
    found, at = [], 0
    while at < len(text):
        match = pattern.match(text, at)
        assert match, f"bare {text[at : at + 12]!r}"
        found.append(table.get(match[0], match[0]))
        at = match.end()
    return "".join(found)


def test_hostile_cells_come_out_of_latex_as_they_went_in() -> None:
    for line in LINES:
        assert decoded(latex.escaped(line)) == line
        assert not re.search(r"--|``|''|<<|>>|\?`|!`", latex.escaped(line)), "a ligature would change the text"
    table = latex.latex_table(PlainTable("t", "", ("name", "other"), tuple((text, text) for text in LINES)))
    body = table[table.index("\\endhead") :].split("\n")[1:-2]
    assert len(body) == len(LINES)
    for line, text in zip(body, LINES, strict=True):
        left, right = line.removesuffix(r" \\").split(" & ")
        assert decoded(as_read(left)) == decoded(as_read(right)) == text


def as_read(tex: str) -> str:
    """Without the places at which a line may or may not end: they set nothing."""
    return tex.replace(latex.BREAK, "").replace("~", " ")


def parts_of(tex: str) -> list[list[list[str]]]:
    """The cells of every longtable, a list per row, the head first, without breaks."""
    grids = re.findall(r"\\toprule\n(.*?)\\bottomrule", as_read(tex), re.S)
    return [
        [line.removesuffix(r" \\").split(" & ") for line in grid.split("\n") if line.endswith(r" \\")] for grid in grids
    ]


def test_both_hold_every_table_and_number_of_the_page(full) -> None:
    tables = plain_tables(full)
    assert len(tables) > 4
    md, tex = markdown.markdown(full), latex.latex(full)
    shown = cells(md)
    parts = iter(parts_of(tex))
    for table in (plain.hypotheses(full), *tables):
        expected = [list(map(latex.escaped, row)) for row in (table.head, *table.rows)]
        read = next(parts)
        while len(read[0]) < len(table.head):  # further columns, behind the first again
            read = [row + further[1:] for row, further in zip(read, next(parts), strict=True)]
        assert read == expected
    assert next(parts, None) is None
    for table in tables:
        for row in table.rows:
            assert list(row) in shown
    delivered = next(
        row for row in full["outcomes"]
        if (row["split"], row["tier"], row["condition"], row["measure"], row["population"])
        == ("conflict", None, "as-delivered", "top1", "all")
    )  # fmt: skip
    column = next(place for place, cell in enumerate(tables[0].head) if re.match(r"conflict n|conflict$", cell))
    own = next(row for row in tables[0].rows if row[0] == "as-delivered")
    assert own[column].startswith(f"{100 * delivered['value']:.0f}% [")
    assert tex.count("\\begin{longtable}") == tex.count("\\end{longtable}") >= len(tables) + 1


def test_latex_parses_strictly_and_every_row_has_its_cells(full) -> None:
    spoilt = copy.deepcopy(full)
    spoilt["adapters"]["name"] = "a_b & 50% $x^2$ #1 {y} ~ \\end{document}"
    for summary in (full, spoilt):
        walker = LatexWalker(latex.latex(summary), tolerant_parsing=False)
        nodes, _, _ = walker.get_latex_nodes()
        grids = [node for node in walk(nodes) if isinstance(node, LatexEnvironmentNode)]
        assert {node.environmentname for node in grids} == {"longtable"}
        assert len(grids) == len(parts_of(latex.latex(summary)))
        for grid, rows in zip(grids, parts_of(latex.latex(summary)), strict=True):
            ends = [
                node for node in grid.nodelist if isinstance(node, LatexSpecialsNode) and node.specials_chars == "&"
            ]
            assert len(ends) == (len(rows[0]) - 1) * len(rows)
    with pytest.raises(LatexWalkerParseError):
        LatexWalker(latex.latex(full) + "{", tolerant_parsing=False).get_latex_nodes()


def walk(nodes):
    """Every node, those in groups too."""
    for node in nodes or ():
        yield node
        yield from walk(getattr(node, "nodelist", None))


def spoilt_in_every_text(summary: dict) -> dict:
    """Long words, scripts and commands in every name, and a condition that no column could hold."""
    spoilt = copy.deepcopy(summary)
    spoilt["adapters"]["name"] = "M" * 400 + " \u6f22" * 80 + " https://example.invalid/" + "a_b/" * 60
    spoilt["verdict"]["sentence"] = " ".join([spoilt["verdict"]["sentence"], "as-delivered-" * 40, "\\end{document}"])
    for row in spoilt["outcomes"]:
        row["condition"] = f"W{row['condition']}" * 6
    return spoilt


@pytest.mark.skipif(
    shutil.which("lualatex") is None, reason="no lualatex here; the strict parse and the widths stand in"
)
@pytest.mark.parametrize("size", ["10pt", "12pt"])
def test_latex_compiles_and_nothing_stands_out_of_its_box(full, tmp_path, size) -> None:
    for name, summary in (("report", full), ("spoilt", spoilt_in_every_text(full))):
        (tmp_path / f"{name}.tex").write_text(latex.latex(summary), encoding="utf-8")
    (tmp_path / "main.tex").write_text(
        f"\\documentclass[{size}]{{article}}\\usepackage{{booktabs,longtable,array,textcomp}}"
        "\\begin{document}\\input{report.tex}\\clearpage\\input{spoilt.tex}\\end{document}"
    )
    command = ["lualatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-800:]
    assert (tmp_path / "main.pdf").read_bytes().startswith(b"%PDF")
    assert "Overfull \\hbox" not in (tmp_path / "main.log").read_text(encoding="utf-8", errors="replace")


def test_no_letter_is_wider_than_the_model_of_widths_says() -> None:
    """Against the font itself: Computer Modern as matplotlib ships it."""
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    font = FT2Font(str(Path(get_data_path()) / "fonts" / "ttf" / "cmr10.ttf"))
    font.set_size(10, 72)
    checked = 0
    for letter in map(chr, range(32, 127)):
        if (
            letter in "<>\\^_{|}~\"`'-"
        ):  # cmr10 has other characters in their places, or letters of another font are set
            continue
        width = font.load_char(ord(letter)).linearHoriAdvance / 65536
        assert column_widths.text_width(letter) >= 100 * width, letter
        assert column_widths.text_width(letter * 20) <= 2000 * width * 2.2 + 60, letter
        checked += 1
    assert checked > 75


def test_every_word_has_room_and_every_table_the_line(full) -> None:
    for summary in (full, spoilt_in_every_text(full)):
        for table in (plain.hypotheses(summary), *plain.plain_tables(summary)):
            parts = column_widths.fitted(table.head, table.rows)
            assert [n for part in parts for n in part.columns[part is not parts[0] :]] == list(range(len(table.head)))
            for part in parts:
                gaps = 2 * column_widths.GAP * len(part.columns)
                assert sum(part.shares) * column_widths.LINE + gaps <= column_widths.LINE + 1e-6
                for n, share in zip(part.columns, part.shares, strict=True):
                    words = [word for row in (table.head, *table.rows) for word in row[n].split(" ")]
                    widest = max(map(column_widths.word_width, words)) * column_widths.SIZES[part.size] / 1000
                    assert widest <= share * column_widths.LINE + 1e-6


def test_a_narrow_table_is_as_wide_as_its_content_and_no_wider() -> None:
    [part] = column_widths.fitted(("id", "n"), (("a", "1"), ("a longer name", "2")))
    assert sum(part.shares) < 0.4
    assert part.shares[0] > 3 * part.shares[1]


def test_a_hostile_summary_leaves_the_documents_shape(full) -> None:
    spoilt = copy.deepcopy(full)
    spoilt["adapters"]["name"] = "<img src=x onerror=alert(1)> | `[a](b)` \\end{document} %"
    spoilt["verdict"]["sentence"] = "<script>alert(1)</script>\n\n# not a heading\n| a | b |"
    for make in (markdown.markdown, markdown.model_card):
        ours, theirs = render(make(spoilt)), render(make(full))
        assert [tag for tag, _ in ours.tags] == [tag for tag, _ in theirs.tags]
        assert "<script>alert(1)</script> # not a heading | a | b |" in ours.text
    assert "\\end{document}" not in latex.latex(spoilt)
    assert "\\textbackslash{}end\\{document\\} \\%" in latex.latex(spoilt)


def test_the_model_card_says_verdict_and_success_as_delivered(full) -> None:
    card = render(markdown.model_card(full))
    assert full["verdict"]["label"] in card.text
    assert [row[0] for row in cells(markdown.model_card(full))] == ["condition", "base", "as-delivered"]
    assert full["subject"]["fingerprint"] in card.text
    assert "not complete" not in card.text
    assert "not complete" in markdown.model_card({**full, "complete": False})


def read_by_the_hub(card: str, tmp_path):
    """The card as the hub's own parser reads it."""
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    return hub.ModelCard.load(tmp_path / "README.md")


def test_the_hub_reads_the_front_matter_with_every_figure(full, tmp_path) -> None:
    named = {**full, "subject": {**full["subject"], "name": "HuggingFaceTB/SmolLM2-135M"}}
    card = read_by_the_hub(model_card.model_card(named), tmp_path)
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M"
    assert card.data.library_name == "peft"
    assert card.data.model_name == full["adapters"]["name"]
    found = {result.metric_name.split(" (")[0]: result.metric_value for result in card.data.eval_results}
    delivered = [
        row for row in full["outcomes"]
        if (row["condition"], row["measure"], row["population"], row["tier"]) == ("as-delivered", "top1", "all", None)
    ]  # fmt: skip
    for row in delivered:
        words = {
            "conflict": "conflicts overridden",
            "novel": "new facts recalled",
            "retention": "unrelated answers kept",
        }
        if row["split"] in words:
            assert found[f"{words[row['split']]}, as delivered, first token"] == pytest.approx(row["value"], rel=1e-5)
    assert {result.metric_type for result in card.data.eval_results} <= {"accuracy", "kl"}
    assert "## Limits of the evidence" in card.text
    assert full["verdict"]["label"] in card.text
    # a folder or a shipped model is no repository of the hub
    for name in ("organism", "/models/mine", "../mine", "a/b/c", "a/b\nlicense: mit"):
        other = read_by_the_hub(model_card.model_card({**full, "subject": {**full["subject"], "name": name}}), tmp_path)
        assert other.data.base_model is None
        assert other.data.license is None


def test_the_card_recommends_what_tuning_recommends(full, tmp_path) -> None:
    figure = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 194, "points": 72}
    tuning = full["tuning"] | {
        "recommendation": "scale",
        "policy": "uniform-1.5",
        "says": "Use uniform-1.5.",
        "budget": {"keep": 0.95, "kl": None, "measure": "top1"},
        "expected": {"conflict": figure, "retention": figure | {"value": 0.97}, "kl": figure | {"value": 0.03}},
        "in_sample": {"conflict": figure | {"value": 0.92}},
    }
    card = read_by_the_hub(model_card.model_card({**full, "tuning": tuning}), tmp_path)
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found["conflicts overridden, uniform-1.5, out of fold (95% interval 0.8 to 0.95, n 194)"] == 0.9
    assert "Use uniform-1.5." in card.text
    assert "at least 95% of unrelated answers kept" in card.text
    left = model_card.model_card({**full, "tuning": tuning | {"recommendation": "as-delivered"}})
    assert "out of fold (95%" not in left, "figures of a policy that is not recommended"


@pytest.mark.parametrize(
    "text", ['x"\n---\nlicense: mit\n', "<script>", "\U0001f600\u202e\x00", "a: [b, {c}] | `d`", "\\"]
)
def test_hostile_names_stay_names(full, tmp_path, text: str) -> None:
    spoilt = {**full, "adapters": {**full["adapters"], "name": text}, "items": {**full["items"], "name": text}}
    written = model_card.model_card(spoilt)
    card = read_by_the_hub(written, tmp_path)
    assert card.data.license is None
    assert card.data.model_name == text
    assert {result.dataset_name for result in card.data.eval_results} == {text}
    assert "<script>" not in written
    assert model_card.quoted("\ud800") == '"\\ufffd"', "half of a pair is no character"


def test_every_form_says_that_a_method_was_told_the_questions(full) -> None:
    told = {**full, "adapters": {**full["adapters"], "settings": {"questions_sha256": "0" * 64}}}
    assert not any("was told what is asked" in text for text in paragraphs(full))
    assert any("was told what is asked of each document" in text for text in paragraphs(told))


def test_no_browser_is_said_with_what_to_do(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"headless Chromium.*install one"):
        browser()


def stand_in(folder, script):
    """A program in the browser's place."""
    program = folder / "chromium"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_the_pdf_is_what_the_browser_printed_and_nothing_else(tmp_path) -> None:
    page, out = tmp_path / "a page.html", tmp_path / "deep" / "out.pdf"
    page.write_text("<p>x")
    prints = (
        'for a in "$@"; do case $a in --print-to-pdf=*) echo "%PDF of $a %%EOF" > "${a#--print-to-pdf=}";; esac; done'
    )
    assert write_pdf(page, out, stand_in(tmp_path, prints)).read_bytes().startswith(b"%PDF")
    broken = (
        "echo no display >&2; exit 3",
        "kill -11 $$",
        prints.replace("%PDF", "sorry"),
        prints.replace("%%EOF", ""),
    )
    for script in broken:
        with pytest.raises(RuntimeError, match=r"made no PDF.*: (no display|it said nothing); print .* from a browser"):
            write_pdf(page, tmp_path / "none.pdf", stand_in(tmp_path, script))
    with pytest.raises(RuntimeError, match="within"):
        write_pdf(page, tmp_path / "none.pdf", stand_in(tmp_path, "exec sleep 5"), limit_s=0.2)
    (tmp_path / "chromium").write_text("\x7fno program")
    with pytest.raises(RuntimeError, match=r"cannot be run: .*; print .* from a browser instead"):
        write_pdf(page, tmp_path / "none.pdf", str(tmp_path / "chromium"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a page.html", "chromium", "deep"]


def test_a_browser_is_given_the_page_alone_without_its_scripts_and_keeps_everything_beside_the_pdf(tmp_path) -> None:
    data = {"question": "</script><iframe src='file:///etc/passwd'>", "document": "<script>"}
    scripts = f'<script type="application/json" id="d">{script_json(data)}</script>\n<script>run(1 < 2)</script>\n'
    (tmp_path / "page.html").write_text(f"<p>before{scripts}<p>{untrusted('<script>alert(1)</script>')}")
    copies = 'for own in "$@"; do :; done; cp "${own#file://}" ROOT/copy; env > ROOT/env; pwd > ROOT/pwd; exit 1'
    with pytest.raises(RuntimeError, match=f"no PDF of {tmp_path}/page.html"):
        write_pdf(tmp_path / "page.html", tmp_path / "o.pdf", stand_in(tmp_path, copies.replace("ROOT", str(tmp_path))))
    assert (tmp_path / "copy").read_text() == "<p>before<p><bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>"
    scratch = (tmp_path / "pwd").read_text().strip()
    assert Path(scratch).name == f".o.pdf.{os.getpid()}.tmp"
    told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().split("\n") if "=" in line)
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TMPDIR"):
        assert Path(scratch, told[name]).is_relative_to(scratch), name
        assert Path(scratch, told[name]) != Path(scratch)


def test_a_killed_report_leaves_one_folder_beside_the_pdf_and_no_browser(tmp_path) -> None:
    (tmp_path / "page.html").write_text("<p>x")
    told = tmp_path / "told"
    program = stand_in(tmp_path, f'cd "$TMPDIR" && touch of-the-browser && echo $$ > {told} && exec sleep 60')
    script = (
        "import sys; from pathlib import Path; from override_gap.reports.export.pdf import write_pdf; "
        "write_pdf(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])"
    )
    out, elsewhere = tmp_path / "out" / "page.pdf", tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-c", script, str(tmp_path / "page.html"), str(out), program]
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": str(elsewhere)}) as process:
        wait_until(lambda: told.exists() and told.read_text().strip())
        process.kill()
    browser = int(told.read_text())
    assert [path.name for path in out.parent.iterdir()] == [f".page.pdf.{process.pid}.tmp"]
    assert (out.parent / f".page.pdf.{process.pid}.tmp" / "tmp" / "of-the-browser").exists()
    assert not list(elsewhere.iterdir())
    if sys.platform == "linux":
        wait_until(lambda: not runs(browser))
    told.unlink()
    with pytest.raises(RuntimeError, match="within"):
        write_pdf(tmp_path / "page.html", out, program, limit_s=0.5)
    assert not list(out.parent.iterdir())
    wait_until(lambda: not runs(int(told.read_text())))


def runs(pid: int) -> bool:
    """Whether a process runs, a zombie whose parent has not asked for it not counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(BROWSER is None, reason="no chromium here: install the package chromium to run the browser tests")
def test_a_real_browser_prints_the_page_and_nothing_that_it_names(tmp_path, monkeypatch) -> None:
    page = tmp_path / "page.html"
    secret = tmp_path / "secret.html"
    secret.write_text("<script>never = 1</script>" + "<p>secret" * 2000)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        hostile = (
            f"<iframe src='{secret.as_uri()}'></iframe><link rel=stylesheet href={address}/a><img src={address}/b>"
        )
        # a page of another's hand, which has no policy but the report's own: nothing of it is fetched, nothing never ends
        page.write_text(
            f'<!doctype html><title>x</title><meta http-equiv="Content-Security-Policy" content="{policy((), "")}">'
            f"<p>x{hostile}<script>setInterval(() => document.body.append('y'), 1); for (;;) ;</script>"
        )
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
        first, again = (write_pdf(page, tmp_path / "out" / f"{n}.pdf", BROWSER).read_bytes() for n in (1, 2))
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert len(first) < 30_000, "what lies elsewhere is not printed"
    dates = rb"/(CreationDate|ModDate) \(D:[^)]*\)"
    assert re.sub(dates, b"", first) == re.sub(dates, b"", again)
    assert not list(home.rglob("*"))
    page.write_text("<!doctype html><title>x</title><p>x")
    deep = tmp_path / ("d" * 150) / ("e" * 150)  # a socket's path may have 107 characters
    assert len(write_pdf(page, deep / "page.pdf", BROWSER).read_bytes()) > 1000
    assert [path.name for path in deep.iterdir()] == ["page.pdf"]


def test_results_speak_in_a_notebook_and_escape() -> None:
    run = simulate_readings(1, **FEW)
    judged = verdict.verdict(run)
    results = [judged, *hypotheses.evaluate(run), comparison.conditions(run, "slb", "as-delivered")]
    for result in results:
        head = str(result).split("\n")[0]
        assert Reader(result._repr_html_()).text.startswith(" ".join(head.split()))
    assert judged.label in str(judged)
    rows = run.select("conflict", "slb"), run.select("conflict", "as-delivered")
    hostile = comparison.compare(*rows, ("<b>x</b>", "y"), "conflict", "top1")
    assert "<b>" not in hostile._repr_html_()
    assert "&lt;b&gt;x" in hostile._repr_html_()
