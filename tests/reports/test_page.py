"""The page: self-contained, traceable to the summary, unharmed by hostile text."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import vl_convert

from override_gap.reports import figures, page
from override_gap.reports.export.plain import paragraphs
from override_gap.reports.page.assets import VEGA_SHA256, vega
from override_gap.reports.page.explorer import explorer
from override_gap.reports.page.headline import value_at
from override_gap.reports.text import escape_control_characters
from tests.reports import synthetic
from tests.reports.hostile import HOSTILE, with_texts
from tests.reports.reader import Reader, decoded, numerals


@pytest.fixture
def one_figure(monkeypatch):
    """Draw a single figure, where the test is about something else."""
    monkeypatch.setattr(figures, "FIGURES", figures.FIGURES[2:3])


@pytest.fixture(scope="module")
def read(written):
    return Reader(written.text)


def test_nothing_is_loaded_from_anywhere(read):
    for tag, attributes in read.tags:
        assert tag not in {"iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "xlink:href", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)


def test_the_policy_forbids_loading_and_allows_the_pages_own_scripts_and_sheet_alone(read):
    policy = next(a["content"] for _, a in read.tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"].split() == [digest(script) for script in read.scripts]
    assert rules["style-src-elem"].split() == [digest(sheet) for sheet in read.styles]
    assert len(read.scripts) == 2
    assert not {"unsafe-eval", "http:", "https:", "*"} & set(policy.replace("'", " ").replace(";", " ").split())
    first = next(n for n, (tag, _) in enumerate(read.tags) if tag in {"script", "style", "link"})
    assert first > next(n for n, (tag, a) in enumerate(read.tags) if a.get("http-equiv"))


def digest(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_every_number_of_the_first_screen_traces_to_a_key_of_the_summary(read, summary):
    """Walk the texts of the header and the verdict: each number must be one that its nearest `data-key` holds."""
    walked = Counter()
    for around, text in read.texts:
        if not any(tag == "header" or a.get("id") == "verdict" for tag, a in around):
            continue
        if any(
            tag in {"time", "dt", "h2", "nav"} or {"fine", "meaning"} & set(a.get("class", "").split())
            for tag, a in around
        ):
            continue  # labels, and the definitions of terms, whose numbers are those of rules: test_glossary
        keys = [a["data-key"] for _, a in around if "data-key" in a]
        for number, decimals in numerals(text):
            assert keys, f"{number} in {text!r} names no key"
            held = list(leaves(value_at(summary, keys[-1])))
            assert any(agrees(number, decimals, leaf) for leaf in held), (number, text, keys[-1], held)
            walked[keys[-1]] += 1
    assert {"verdict.sentence", "items", "verdict.label"} <= set(walked) | {
        a["data-key"] for _, a in read.tags if "data-key" in a
    }
    assert sum(walked.values()) > 20


def leaves(found):
    if isinstance(found, dict):
        for own in found.values():
            yield from leaves(own)
    elif found is not None and not isinstance(found, list):
        yield found


def agrees(number, decimals, leaf):
    """Is this numeral the leaf, as it stands or in per cent, rounded as shown?"""
    if isinstance(leaf, str):
        return number in [own for own, _ in numerals(leaf)]
    room = 0.5001 * 10.0**-decimals
    return any(abs(number - scale * leaf) <= room for scale in (1, 100))


def test_the_bound_value_of_each_fact_is_the_summarys(read, summary):
    bound = [attributes for tag, attributes in read.tags if tag == "data"]
    assert len(bound) >= 6
    assert {"prior_gradient.gap", "items.measured"} <= {attributes["data-key"] for attributes in bound}
    for attributes in bound:
        found = value_at(summary, attributes["data-key"])
        found = found["value"] if isinstance(found, dict) else found
        assert float(attributes["value"]) == pytest.approx(found)


def test_the_result_comes_first_then_hypotheses_figures_and_folds(written, read, summary):
    order = ["verdict", "hypotheses", "figures", "more", "verdict-in-full", "limits", "items", "methods", "terms"]
    ids = [a["id"] for _, a in read.tags if a.get("id") in order]
    assert ids == order
    drawn = [a["id"] for _, a in read.tags if a.get("id", "").startswith("figure-")]
    assert sorted(drawn) == sorted({f"figure-{sheet.name}" for sheet in figures.FIGURES} & set(drawn))
    assert len(drawn) == len(set(drawn))


def test_four_figures_stand_open_and_every_other_is_in_one_fold(run, summary, written, read):
    parser = [(around, dict(around)) for around, _ in read.texts]
    folded, opened = set(), set()
    for around, _ in parser:
        for tag, attributes in around:
            if tag == "figure" and attributes.get("id", "").startswith("figure-"):
                inside = any(tag == "details" and "fold" in a.get("class", "") for tag, a in around)
                (folded if inside else opened).add(attributes["id"])
    assert len(opened) == 4
    assert not opened & folded
    assert {f"figure-{sheet.name}" for sheet in figures.FIGURES} == opened | folded
    assert not [a for tag, a in read.tags if tag == "details" and "fold" in a.get("class", "") and "open" in a]


def test_every_fold_says_what_it_found(read):
    folds = Counter()
    for around, text in read.texts:
        fold = next((a["id"] for tag, a in around if tag == "details" and "fold" in a.get("class", "")), None)
        if (
            fold
            and any("finding" in a.get("class", "") for _, a in around)
            and any(tag == "summary" for tag, _ in around)
        ):
            folds[fold] += len(text.strip()) > 10
    assert {a["id"] for tag, a in read.tags if tag == "details" and "fold" in a.get("class", "")} == {
        fold for fold, count in folds.items() if count
    }


def test_hypotheses_show_claim_rule_and_status(read, summary):
    for own in summary["hypotheses"]:
        assert own["claim"] in read.text
        assert own["rule"] in read.text
    shown = Counter(a["data-status"] for tag, a in read.tags if "data-status" in a)
    assert shown == Counter(own["status"] for own in summary["hypotheses"])


def test_both_intervals_of_hypotheses_and_verdict_are_on_the_page(run, summary, tmp_path):
    both = {"clusters": 9, "low_point": 0.123, "high_point": 0.987, "low_cluster": 0.012, "high_cluster": 0.998}
    changed = copy.deepcopy(summary)
    changed["hypotheses"][0]["estimate"] = {**summary["hypotheses"][0]["estimate"], **both}
    changed["verdict"]["held"] = {**summary["verdict"]["rescued"], **both}
    changed["verdict"]["sentences"] = ["The first says why.", "The second says what it costs."]
    shown = Reader(page.write_page(tmp_path, run, changed).read_text(encoding="utf-8")).text
    assert "(by knowledge point [0.123, 0.987], by relation [0.012, 0.998])" in shown
    assert "The shares behind the verdict" in shown
    assert "[12, 98.7]" in shown
    assert "[1.2, 99.8]" in shown
    assert (
        shown.index("Hypotheses H1")
        < shown.index("The second says what it costs.")
        < shown.index("The shares behind the verdict")
    )


def test_ids_are_unique_and_every_reference_has_one(read):
    ids = Counter(a["id"] for _, a in read.tags if "id" in a)
    assert [name for name, count in ids.items() if count > 1] == []
    wanted = {a[name][1:] for _, a in read.tags for name in ("href", "xlink:href") if a.get(name, "").startswith("#")}
    assert wanted <= set(ids)


def test_methods_name_versions_hashes_and_parity(read, run):
    for part in ("2.13.0", "ab" * 32, "cd" * 32, "tolerance 0.001", run.manifest["finished"]):
        assert part in read.text


def test_items_that_could_not_be_measured_are_counted_with_their_reason(read):
    assert "1 of 241 items could not be measured under at least one condition, 1 of them under none" in read.text
    assert "the two answers share every token" in read.text


def test_the_same_run_gives_the_same_page_and_figures(run, summary, written, tmp_path):
    again = page.write_page(tmp_path, run, summary)
    assert again.read_bytes() == written.path.read_bytes()
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {f"{sheet.name}.{end}" for sheet in figures.FIGURES for end in figures.FORMS}
    for name in names:
        assert (tmp_path / "figures" / name).read_bytes() == (written.folder / "figures" / name).read_bytes(), name
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_out_chooses_the_file(run, summary, tmp_path, one_figure):
    wanted = tmp_path / "elsewhere" / "mine.html"
    assert page.write_page(tmp_path / "run", run, summary, wanted) == wanted
    assert wanted.is_file()
    assert (tmp_path / "run" / "figures").is_dir()


@pytest.mark.usefixtures("svg_only")
def test_an_absent_section_leaves_its_figure_out_with_the_reason(run, summary, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "dose_response.svg").write_text("left by an earlier run")
    changed = {**summary, "dose": None, "verdict": None, "hypotheses": [],
            "notes": {"dose": "only the delivered gain was measured", "verdict": "no failures to rescue"}}  # fmt: skip
    read = Reader(page.write_page(tmp_path, run, changed).read_text(encoding="utf-8"))
    assert "Left out: only the delivered gain was measured" in read.text
    assert "No verdict: no failures to rescue" in read.text
    assert not [1 for _, a in read.tags if a.get("id") == "figure-dose_response"]
    assert not (tmp_path / "figures" / "dose_response.svg").exists()


def test_one_question_of_one_knowledge_point_is_counted_in_the_singular(run, summary, tmp_path, one_figure):
    for count, words in ((1, "1, 1"), (2, "2, 2")):
        items = {**summary["items"], "n": count, "points": count}
        shown = Reader(page.write_page(tmp_path, run, {**summary, "items": items}).read_text(encoding="utf-8"))
        assert words in shown.text


@pytest.mark.usefixtures("svg_only")
def test_an_almost_empty_summary_still_gives_a_page(run, tmp_path):
    read = Reader(
        page.write_page(tmp_path, run, {"schema": 1, "outcomes": [], "notes": {}}).read_text(encoding="utf-8")
    )
    assert "No verdict" in read.text
    assert "Left out" in read.text


def test_a_failed_parity_check_and_an_unfinished_run_are_announced(run, summary, tmp_path, one_figure):
    parity = {**run.manifest["parity"], "passed": False}
    troubled = replace(run, manifest={**run.manifest, "complete": False, "parity": parity})
    read = Reader(page.write_page(tmp_path, troubled, summary).read_text(encoding="utf-8"))
    assert "This run is not complete" in read.text
    assert "The parity check failed" in read.text


def test_a_run_that_stopped_early_says_so_once_and_of_how_many_items(run, summary, tmp_path, one_figure):
    says = "Stopped early, at look 4 of at most 5, after 469 of 620 items."
    verdict = {**summary["verdict"], "sentences": [summary["verdict"]["sentence"], says]}
    items = {**summary["items"], "n": 469, "measured": 469, "excluded": 0}
    stopped = {"units": 4, "items": 469, "unmeasured": 151}
    early = {**summary, "verdict": verdict, "items": items, "until": {"says": says, "stopped": stopped}}
    text = Reader(page.write_page(tmp_path, run, early).read_text(encoding="utf-8")).text
    assert text.count(says) == 1
    assert "of 620 in the item set; stopped early" in text
    assert "all were measured" not in text
    verdict["sentence"] = " ".join(verdict["sentences"])
    assert sum(paragraph.count(says) for paragraph in paragraphs(early)) == 1


def test_twenty_hostile_items_change_nothing_but_their_own_text(run, summary, tmp_path, one_figure):
    """The page with twenty harmless items, and with hostile ones in their place: the same outside of their texts."""
    harmless = [f"text {number}" for number in range(len(HOSTILE))]
    pages = [
        page.write_page(tmp_path / name, with_texts(run, texts), summary).read_bytes().decode("utf-8")
        for name, texts in (("harmless", harmless), ("hostile", HOSTILE))
    ]
    outside = [re.sub(r'(<script type="application/json" id="item-data">).*?</script>', r"\1", text) for text in pages]
    assert outside[0] == outside[1]
    assert not set("\x00\u202e\u2066\u2028\ufeff") & set(pages[1])
    before, after = (decoded(json.loads(Reader(text).data["item-data"])) for text in pages)
    assert list(before) == list(after)
    for number, item in enumerate(before):
        for key, value in before[item].items():
            if number < len(HOSTILE) and value == harmless[number]:
                assert after[item][key] == escape_control_characters(HOSTILE[number]), (item, key)
            else:
                assert after[item][key] == value, (item, key)


def test_hostile_names_and_sentences_stay_text(run, summary, written, tmp_path):
    changed = copy.deepcopy(summary)
    changed["errors"]["by_reason"][0]["reason"] = HOSTILE[1]
    changed["verdict"]["sentence"] = f"{HOSTILE[4]} {summary['verdict']['sentence']}"  # the same terms are explained
    subject, adapters = ({**run.manifest[key], "name": HOSTILE[n]} for key, n in (("subject", 0), ("adapters", 5)))
    manifest = {**run.manifest, "subject": subject, "adapters": adapters}
    spoiled = replace(with_texts(run, HOSTILE), manifest=manifest)
    path = page.write_page(tmp_path, spoiled, changed)
    before, after = Reader(written.text), Reader(path.read_text(encoding="utf-8"))
    assert [tag for tag, _ in after.tags] == [tag for tag, _ in before.tags]
    assert after.scripts == before.scripts


def test_the_explorers_data_are_the_readings(read, run):
    data = json.loads(read.data["item-data"])
    assert data["conditions"] == synthetic.CONDITIONS
    shown = decoded(data)
    rows = run.readings.set_index(["item", "condition"])
    assert list(shown) == list(run.readings["item"].unique())
    for item in list(shown)[::17]:
        for condition in data["conditions"]:
            row, own = rows.loc[(item, condition)], shown[item]
            assert own["status", condition] == row["status"]
            assert own["question"] == row["question"]
            if row["status"] == "ok" and row["adapter_margin"] == row["adapter_margin"]:
                assert own["adapter_margin", condition] == pytest.approx(row["adapter_margin"], rel=1e-3)
                assert own["success_top1", condition] == row["success_top1"]
                assert own["top_token", condition] == row["top_token"]


def test_the_explorers_layers_are_the_attributions_moved(read, run):
    data = json.loads(read.data["item-data"])
    item = data["items"]["item"].index(data["texts"].index("conflict-003"))
    own = run.layers[run.layers["item"] == "conflict-003"].set_index(["condition", "layer"])
    for place, layer in enumerate(data["layers"]["layer"]):
        moved = own.loc[("base", layer), "attribution"] - own.loc[("as-delivered", layer), "attribution"]
        assert data["layers"]["moved"][item][place] == pytest.approx(moved, rel=1e-3)
    assert data["layers"]["norm"][item][0] is None  # the input has no update


def test_500_items_under_12_conditions_with_long_answers_stay_below_8_megabytes(tmp_path, one_figure):
    run = synthetic.run(conflicts=200, others=100)
    run.readings["answer_text"] = [f"{number} <\u00e9" + "<\u00e9" * 5_000 for number in range(len(run.readings))]
    path = page.write_page(tmp_path, run, synthetic.summary(run))
    assert path.stat().st_size < 8_000_000
    data = json.loads(Reader(path.read_text(encoding="utf-8")).data["item-data"])
    assert len(data["items"]["item"]) == 501
    longest = max(data["texts"], key=len)
    assert re.search(r"\[the first [\d,]+ of 10,00\d characters; the rest is in readings/\*\.parquet\]$", longest)


def test_a_text_is_stored_once_and_whole_where_there_is_room(run):
    long = "x" * 10_000
    data = explorer(replace(run, readings=run.readings.assign(answer_text=long, document=long)), {})
    assert data["texts"].count(long) == 1
    assert len(data["texts"]) == len(set(data["texts"]))


def test_the_plotting_script_that_is_installed_is_the_one_whose_digest_is_stated():
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    assert hashlib.sha256(script.encode()).hexdigest() == VEGA_SHA256


def test_a_stored_plotting_script_is_used_only_if_it_is_the_right_one(tmp_path, monkeypatch):
    monkeypatch.setenv("OVERRIDE_GAP_HOME", str(tmp_path))
    (tmp_path / "vega.js").write_text("window.vegaEmbed = alert;")
    first = str(vega.__wrapped__())
    assert hashlib.sha256(first.encode()).hexdigest() == VEGA_SHA256
    assert (tmp_path / "vega.js").read_text(encoding="utf-8") == first, "the wrong one was replaced"
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda _: pytest.fail("the stored script serves"))
    assert str(vega.__wrapped__()) == first


def test_a_page_is_written_where_nothing_can_be_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OVERRIDE_GAP_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda _: "window.vegaEmbed = made;")
    assert vega.__wrapped__() == "window.vegaEmbed = made;"


def test_the_plotting_script_is_the_same_in_every_process():
    code = "import hashlib; from override_gap.reports.page.assets import vega; print(hashlib.sha256(vega().encode()).hexdigest())"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.strip()
    assert again == hashlib.sha256(vega().encode()).hexdigest()
