"""The page: self-contained, traceable to the summary, unharmed by hostile text."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import shutil
import subprocess
import time
from collections import Counter
from html.parser import HTMLParser

import pandas as pd
import pytest

from reports import figures, page
from reports.page.facts import at
from tests.reports import synthetic

HOSTILE = [
    "<script>alert(1)</script>", "</script><script>alert(1)</script>", "<!--", "]]>",
    "\"'`><img src=x onerror=alert(1)>",
    "\u202eevil\u202c", "\u2066unclosed", "\u2028line\u2029", "\x00\x07\x1b[31m", "{{ 7 * 7 }}{% raw %}", "&amp;&lt;",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "", "a" * 10_000, "$\\frac{1}{2}$", "javascript:alert(1)", "\ud800",
    "</style><style>*{display:none}", "\ufeffbom", "<svg onload=alert(1)>",
]  # fmt: skip


class Reader(HTMLParser):
    """Elements, attributes, scripts and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.inside: list[str] = []
        self.script: dict[str, str] = {}
        self.data: list[tuple[dict, str]] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.current = dict(attrs).get("type", "code")
            self.script[self.current] = ""
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self.inside and self.inside[-1] == "script":
            self.script[self.current] += data
        elif not self.inside or self.inside[-1] != "style":
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


@pytest.fixture
def one_figure(monkeypatch):
    """Draw a single figure, where the test is about something else."""
    monkeypatch.setattr(figures, "SHEETS", figures.SHEETS[2:3])


@pytest.fixture(scope="module")
def read(written):
    return Reader(written.text)


def hostile(run):
    """The run with every text that an item file or a model can hold made hostile; numbers untouched."""
    spoiled = copy.copy(run)
    spoiled.readings = rows = run.readings.copy()
    worst = {name: HOSTILE[number % len(HOSTILE)] for number, name in enumerate(dict.fromkeys(rows["item"]))}
    for column in ("question", "document", "answer", "prior_answer", "answer_text", "top_token", "wording", "point"):
        # As objects: pandas' own strings refuse the lone surrogate, a model's answer need not.
        rows[column] = pd.Series([worst[item] for item in rows["item"]], index=rows.index, dtype=object)
    rows["error"] = rows["error"].map(lambda text: None if text is None else HOSTILE[1])
    return spoiled


def test_nothing_is_loaded_from_anywhere(read):
    for tag, attributes in read.tags:
        assert tag not in {"iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "xlink:href", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)


def test_the_policy_forbids_loading_and_allows_this_script_alone(read):
    policy = next(a["content"] for tag, a in read.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    digest = base64.b64encode(hashlib.sha256(read.script["code"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "http" not in policy
    first = next(n for n, (tag, _) in enumerate(read.tags) if tag in {"script", "style", "link"})
    assert first > next(n for n, (tag, a) in enumerate(read.tags) if a.get("http-equiv"))


def test_every_number_of_the_first_screen_is_a_key_of_the_summary(read, summary):
    bound = [attributes for tag, attributes in read.tags if tag == "data"]
    assert len(bound) >= 6
    for attributes in bound:
        found = at(summary, attributes["data-key"])
        found = found["value"] if isinstance(found, dict) else found
        assert float(attributes["value"]) == pytest.approx(found)
    keys = {attributes["data-key"] for attributes in bound}
    assert {"prior_gradient.gap", "verdict.rescued", "items.measured"} <= keys


def test_verdict_comes_first_then_hypotheses_figures_and_methods(written, summary):
    order = ["verdict", "hypotheses", "figures", "tables", "items", "methods"]
    places = [written.text.index(f'<section id="{name}"') for name in order]
    assert places == sorted(places)
    assert written.text.index(summary["verdict"]["sentence"][:30]) < places[1]
    drawn = [written.text.index(f'id="figure-{sheet.name}"') for sheet in figures.SHEETS]
    assert drawn == sorted(drawn)


def test_hypotheses_show_claim_rule_and_status(read, summary):
    for own in summary["hypotheses"]:
        assert own["claim"] in read.text
        assert own["rule"] in read.text
    shown = Counter(a["data-status"] for tag, a in read.tags if "data-status" in a)
    assert shown == Counter(own["status"] for own in summary["hypotheses"])


def test_ids_are_unique_and_every_reference_has_one(read):
    ids = Counter(a["id"] for _, a in read.tags if "id" in a)
    assert [name for name, count in ids.items() if count > 1] == []
    wanted = {a[name][1:] for _, a in read.tags for name in ("href", "xlink:href") if a.get(name, "").startswith("#")}
    assert wanted <= set(ids)


def test_methods_name_versions_hashes_and_parity(read, run):
    for part in ("2.13.0", "ab" * 32, "cd" * 32, "tolerance 0.001", run.manifest["finished"]):
        assert part in read.text


def test_items_that_could_not_be_measured_are_counted_with_their_reason(read):
    assert "1 of 241 items have no numbers" in read.text
    assert "the two answers share every token" in read.text


def test_the_same_run_gives_the_same_page_and_figures(run, summary, written, tmp_path):
    again = page.write(tmp_path, run, summary)
    assert again.read_bytes() == written.path.read_bytes()
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {f"{sheet.name}.{end}" for sheet in figures.SHEETS for end in ("svg", "png")}
    for name in names:
        assert (tmp_path / "figures" / name).read_bytes() == (written.folder / "figures" / name).read_bytes(), name
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_out_chooses_the_file(run, summary, tmp_path, one_figure):
    wanted = tmp_path / "elsewhere" / "mine.html"
    assert page.write(tmp_path / "run", run, summary, wanted) == wanted
    assert wanted.is_file()
    assert (tmp_path / "run" / "figures").is_dir()


def test_an_absent_section_leaves_its_figure_out_with_the_reason(run, summary, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "dose_response.svg").write_text("left by an earlier run")
    told = {**summary, "dose": None, "verdict": None, "hypotheses": [],
            "notes": {"dose": "only the delivered gain was measured", "verdict": "no failures to rescue"}}  # fmt: skip
    read = Reader(page.write(tmp_path, run, told).read_text(encoding="utf-8"))
    assert "Left out: only the delivered gain was measured" in read.text
    assert "No verdict: no failures to rescue" in read.text
    assert not [1 for _, a in read.tags if a.get("id") == "figure-dose_response"]
    assert not (tmp_path / "figures" / "dose_response.svg").exists()


def test_an_almost_empty_summary_still_gives_a_page(run, tmp_path):
    read = Reader(page.write(tmp_path, run, {"schema": 1, "outcomes": [], "notes": {}}).read_text(encoding="utf-8"))
    assert "No verdict" in read.text
    assert "Left out" in read.text


def test_a_failed_parity_check_and_an_unfinished_run_are_said_aloud(run, summary, tmp_path, one_figure):
    troubled = copy.copy(run)
    troubled.manifest = {**run.manifest, "complete": False, "parity": {**run.manifest["parity"], "passed": False}}
    read = Reader(page.write(tmp_path, troubled, summary).read_text(encoding="utf-8"))
    assert "This run is not complete" in read.text
    assert "The parity check failed" in read.text


def test_hostile_text_changes_nothing_but_text(run, summary, written, tmp_path):
    told = copy.deepcopy(summary)
    told["errors"]["by_reason"][0]["reason"] = HOSTILE[1]
    told["verdict"]["sentence"] = HOSTILE[4]
    spoiled = hostile(run)
    spoiled.manifest = {**run.manifest, "subject": {**run.manifest["subject"], "name": HOSTILE[0]},
                        "adapters": {**run.manifest["adapters"], "name": HOSTILE[5]}}  # fmt: skip
    path = page.write(tmp_path, spoiled, told)
    path.read_bytes().decode("utf-8")
    before, after = Reader(written.text), Reader(path.read_text(encoding="utf-8"))
    assert [tag for tag, _ in after.tags] == [tag for tag, _ in before.tags]
    assert after.script["code"] == before.script["code"]
    assert not set("\x00\u202e\u2066\ufeff") & set(path.read_text(encoding="utf-8"))


def test_the_explorers_data_are_the_readings(read, run):
    data = json.loads(read.script["application/json"])
    assert data["conditions"] == synthetic.CONDITIONS
    rows = run.readings.set_index(["item", "condition"])
    place = {name: number for number, name in enumerate(data["fields"])}
    assert len(data["items"]) == run.readings["item"].nunique()
    for own in data["items"][::17]:
        for condition, reading in zip(data["conditions"], own["readings"], strict=True):
            row = rows.loc[(own["item"], condition)]
            assert reading[place["status"]] == row["status"]
            if row["status"] == "ok" and row["adapter_margin"] == row["adapter_margin"]:
                assert reading[place["adapter_margin"]] == pytest.approx(row["adapter_margin"], rel=1e-3)
                assert reading[place["success_top1"]] == row["success_top1"]


def test_500_items_under_12_conditions_with_long_answers_stay_small_and_quick(tmp_path):
    run = synthetic.run(conflicts=200, others=100)
    run.readings["answer_text"] = "<\u00e9" * 5_000
    summary = synthetic.summary(run)
    page.write(tmp_path, synthetic.run(20, 8), summary)  # fonts are found once a process
    start = time.process_time()
    path = page.write(tmp_path, run, summary)
    assert time.process_time() - start < 6
    assert path.stat().st_size < 8_000_000
    data = json.loads(Reader(path.read_text(encoding="utf-8")).script["application/json"])
    assert len(data["items"]) == 500
    assert "10,000 characters in all" in data["items"][0]["readings"][0][data["fields"].index("answer_text")]


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ACTS = """<script>
const wait = (time) => new Promise((done) => setTimeout(done, time));
const rows = () => document.querySelectorAll("#explorer .list tbody tr");
const choose = (label, value) => { const box = [...document.querySelectorAll("#explorer label")].find((own) =>
  own.firstChild.textContent === label).querySelector("select");
  box.value = value; box.dispatchEvent(new Event("change")); };
(async () => {
  const out = {};
  choose("split", ""); out.all = rows().length;
  choose("split", "novel"); out.novel = rows().length;
  choose("split", "conflict"); choose("outcome (top1)", "lost"); out.lost = rows().length;
  choose("condition", "0"); out.lostUnderBase = rows().length;
  choose("condition", "1"); choose("outcome (top1)", "");
  const heads = [...document.querySelectorAll("#explorer th button")];
  const sorter = heads.find((own) => own.textContent.startsWith("adapter"));
  sorter.click(); out.up = [...rows()].slice(0, 5).map((row) => row.children[5].textContent);
  const search = document.querySelector("#explorer input"); search.value = "thing 7?";
  search.dispatchEvent(new Event("input")); await wait(300);
  out.found = [...rows()].map((row) => row.children[0].textContent);
  rows()[0].querySelector("button").click(); out.detail = document.querySelector(".detail").textContent;
  search.value = ""; search.dispatchEvent(new Event("input")); await wait(300);
  const svg = document.querySelector(".plot svg"), box = svg.getBoundingClientRect();
  svg.setPointerCapture = () => {};
  const at = (type, x, y) => svg.dispatchEvent(new PointerEvent(type, { bubbles: true, button: 0, pointerId: 1,
    clientX: box.left + x * box.width, clientY: box.top + y * box.height }));
  at("pointerdown", 0.02, 0.02); at("pointermove", 0.3, 0.5); at("pointerup", 0.5, 0.9); out.brushed = rows().length;
  const result = document.createElement("pre"); result.id = "acted"; result.textContent = JSON.stringify(out);
  document.body.append(result);
})();
</script></body>"""


def browse(path, profile, *more):
    """The page's DOM after its scripts have run, and what the browser said on its console."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", "--no-first-run", f"--user-data-dir={profile}",
               "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", *more, path.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    console = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if "CONSOLE" in line]
    return done.stdout.decode("utf-8", "replace"), console


@pytest.mark.skipif(BROWSER is None, reason="no chromium here: install the package chromium to run the browser tests")
def test_in_a_browser_the_explorer_shows_the_conflicts_and_nothing_is_refused(written, tmp_path, run):
    shown, console = browse(written.path, tmp_path)
    assert console == []
    listed = re.search(r'<div class="list".*?<tbody>(.*?)</tbody>', shown, re.S)
    assert listed
    assert listed[1].count("<tr") == (run.readings.drop_duplicates("item")["split"] == "conflict").sum()


@pytest.mark.skipif(BROWSER is None, reason="no chromium here: install the package chromium to run the browser tests")
def test_in_a_browser_filter_sort_search_detail_and_selection_work(written, tmp_path, run):
    acting = tmp_path / "acting.html"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", written.text)
    acting.write_text(text.replace("</body>", ACTS), encoding="utf-8")
    shown, console = browse(acting, tmp_path / "profile")
    assert console == []
    out = json.loads(Reader(re.search(r'<pre id="acted">.*?</pre>', shown, re.S)[0]).text)
    rows = run.readings
    under = {name: rows[(rows.condition == name) & (rows.split == "conflict") & (rows.status == "ok")]
             for name in ("base", "as-delivered")}  # fmt: skip
    assert out["all"] == rows["item"].nunique()
    assert out["novel"] == (rows.drop_duplicates("item")["split"] == "novel").sum()
    assert out["lost"] == (~under["as-delivered"].success_top1.astype(bool)).sum()
    assert out["lostUnderBase"] == (~under["base"].success_top1.astype(bool)).sum()
    smallest = sorted(under["as-delivered"].adapter_margin)[:5]
    assert [float(text.replace("\u2212", "-")) for text in out["up"]] == pytest.approx(smallest, abs=0.006)
    assert "conflict-007" in out["found"]
    assert len(out["found"]) < 20
    assert "What colour is thing 7?" in out["detail"]
    assert "logit-fusion-1.5" in out["detail"]
    assert 0 < out["brushed"] < len(under["as-delivered"])


@pytest.mark.skipif(BROWSER is None, reason="no chromium here: install the package chromium to run the browser tests")
def test_in_a_browser_hostile_items_run_nothing(run, summary, tmp_path, one_figure):
    path = page.write(tmp_path / "run", hostile(run), summary)
    shown, console = browse(path, tmp_path / "profile")
    assert console == []
    assert not {tag for tag, attributes in Reader(shown).tags if tag == "img" or "onload" in attributes}
