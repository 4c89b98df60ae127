"""The index of a folder of runs: what it says is what the summaries say; hostile and damaged runs are rows with a reason."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from override_gap.analyses.readings import load
from override_gap.analyses.summary import summarise
from override_gap.probes.plan import Plan
from override_gap.probes.run.engine import Local
from override_gap.probes.run.loop import run_plan
from override_gap.probes.run.resolve import resolve
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.checksum import with_checksum
from override_gap.probes.store.folder import Store
from override_gap.probes.store.promised import read_promised
from override_gap.probes.store.sealed import read_sealed
from override_gap.reports.cli.main import main
from override_gap.reports.index import DEEPEST
from tests.conftest import conflict, tiny
from tests.reports.hostile import HOSTILE
from tests.reports.reader import Reader

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run with a summary of its readings."""
    items = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue", tier="deep") for n in range(4)]
    items += [replace(item, id=f"r{item.id}", point=f"r{item.point}", split="retention", prior_answer=None, tier=None)
              for item in items]  # fmt: skip
    plan = Plan("tiny", "fitted", "own", policies="as-delivered,uniform-2", probes=("margins",), batch_size=4)
    subject, out = tiny("llama"), tmp_path_factory.mktemp("index") / "sound"
    run_plan(Local(subject, FittedAdapters(subject, steps=1, lr=3e-2)), resolve(plan, items), out)
    readings = load(out)
    Store(out).write_json("summary.json", with_checksum(summarise(readings) | {"content": readings.content}))
    return out


@pytest.fixture
def runs(run, tmp_path) -> Path:
    shutil.copytree(run, tmp_path / "runs" / "sound")
    return tmp_path / "runs"


def rows(folder: Path, *flags: str, capsys) -> dict[str, dict]:
    capsys.readouterr()
    assert main(["index", str(folder), "--json", *flags]) == 0
    return {row["run"]: row for row in json.loads(capsys.readouterr().out)["runs"]}


def copied(runs: Path, name: str) -> Path:
    shutil.copytree(runs / "sound", runs / name)
    return runs / name


def test_a_row_says_what_the_summary_says(runs, capsys) -> None:
    summary = json.loads((runs / "sound" / "summary.json").read_text())
    own = rows(runs, capsys=capsys)["sound"]
    conflict, kept = (
        next(
            row for row in summary["outcomes"]
            if (row["split"], row["condition"], row["measure"], row["population"], row["tier"])
            == (split, "as-delivered", "top1", "all", None)
        )
        for split in ("conflict", "retention")
    )  # fmt: skip
    assert own["fault"] is None
    assert own["overridden"] == {key: conflict[key] for key in ("value", "low", "high", "n", "points")}
    assert own["kept"]["value"] == kept["value"]
    assert (own["label"], own["conflicts"]) == (summary["verdict"]["label"], conflict["n"])
    assert own["sentence"] == summary["verdict"]["sentences"][0]
    assert own["recommendation"] == summary["tuning"]["recommendation"]
    text = " ".join(Reader((runs / "index.html").read_text(encoding="utf-8")).text.split())
    for part in (own["label"], own["sentence"], own["model"], own["method"]):
        assert part in text
    assert rows(runs, "--check", capsys=capsys)["sound"] == own


def test_a_promised_content_is_the_one_that_reading_every_table_gives(run) -> None:
    assert read_promised(run).content == read_sealed(run, keep=False).content is not None


def damage_manifest(run: Path) -> None:
    (run / "manifest.json").write_text("{")


def cut_table(run: Path) -> None:
    file = sorted((run / "readings").iterdir())[0]
    file.write_bytes(file.read_bytes()[:-20])


def lose_table(run: Path) -> None:
    sorted((run / "readings").iterdir())[0].unlink()


def other_summary(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    summary["verdict"]["label"] = "magnitude" * 2
    (run / "summary.json").write_text(json.dumps(summary))


def no_summary(run: Path) -> None:
    (run / "summary.json").unlink()


def link_within(run: Path) -> None:
    (run / "extra").symlink_to("/etc")


def pipe_within(run: Path) -> None:
    os.mkfifo(run / "pipe")


def not_json_at_all(run: Path) -> None:
    (run / "manifest.json").write_bytes(b"\x00\xff" * 50)


def nested(run: Path) -> None:
    (run / "manifest.json").write_text("[" * 5000)


DAMAGES = {
    damage_manifest: "cannot be read as JSON",
    cut_table: "damaged: readings/",
    lose_table: "missing: readings/",
    other_summary: "no summary of these readings",
    no_summary: "no summary of these readings",
    link_within: "symbolic link",
    pipe_within: "remove it",
    not_json_at_all: "damaged: manifest.json",
    nested: "damaged: manifest.json",
}


def test_damaged_runs_are_rows_with_the_reason_and_others_keep_their_numbers(runs, capsys) -> None:
    for harm in DAMAGES:
        harm(copied(runs, harm.__name__))
    found = rows(runs, capsys=capsys)
    assert len(found) == len(DAMAGES) + 1
    assert found["sound"]["fault"] is None
    for harm, reason in DAMAGES.items():
        own = found[harm.__name__]
        assert reason in own["fault"], own
        assert (own["label"], own["overridden"], own["kept"]) == (None, None, None)
    assert main(["index", str(runs)]) == 0
    printed = capsys.readouterr().out.split("\n")
    assert max(map(len, printed[:-2])) <= 80
    assert not any("Traceback" in line for line in printed)


def test_a_run_that_is_not_finished_and_one_in_a_folder_of_folders(runs, capsys) -> None:
    deep = runs / "group" / "seed-1"
    deep.parent.mkdir()
    shutil.copytree(runs / "sound", deep)
    begun = runs / "begun"
    (begun / "readings").mkdir(parents=True)
    found = rows(runs, capsys=capsys)
    assert found["group/seed-1"]["overridden"] == found["sound"]["overridden"]
    assert "missing: manifest.json" in found["begun"]["fault"]
    page = Reader((runs / "index.html").read_text(encoding="utf-8"))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert all(link == "#runs" or (runs / link).is_file() for link in links)


def test_links_lead_nowhere_and_nothing_else_is_written(runs, tmp_path, capsys) -> None:
    (runs / "away").symlink_to(tmp_path)
    (runs / "loop").symlink_to(runs)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    out = tmp_path / "pages" / "all.html"
    found = rows(runs, "--out", str(out), capsys=capsys)
    assert set(found) == {"sound", "away", "loop"}
    assert all("symbolic link" in found[name]["fault"] for name in ("away", "loop"))
    after = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert set(after) - set(before) == {out, out.parent}
    assert {path for path in before if before[path] != after[path]} <= {tmp_path}
    page = Reader(out.read_text(encoding="utf-8"))
    assert [a["href"] for tag, a in page.tags if tag == "a" and a["href"] != "#runs"] == []


def test_hostile_names_and_texts_are_shown_as_text(runs, tmp_path, capsys) -> None:
    names = [
        "<script>alert(1)<script>", "javascript:alert(1)", "\u202egnp.exe", "a\nb\x1b[31m", "'\"><img src=x onerror=alert(1)>",
        "%2e%2e", "#x?y",
    ]  # fmt: skip
    for name in names:
        (copied(runs, name) / "report.html").write_text("")
    wicked = copied(runs, "wicked")
    manifest = json.loads((wicked / "manifest.json").read_text())
    for text in HOSTILE[:6]:
        manifest["subject"]["name"] += text.replace("\ud800", "")
    for key in ("checksum", "memory", "seals"):
        manifest.pop(key, None)
    (wicked / "manifest.json").write_text(json.dumps(manifest))
    found = rows(runs, capsys=capsys)
    assert len(found) == len(names) + 2
    page = (runs / "index.html").read_text(encoding="utf-8")
    read = Reader(page)
    assert not any(tag == "img" for tag, _ in read.tags)
    assert sum(tag == "script" for tag, _ in read.tags) == 1
    assert not any(character in page for character in "\u202e\x1b\x07")
    for tag, attributes in read.tags:
        assert not any(name.startswith("on") for name in attributes)
        if tag == "a":
            assert attributes["href"].startswith(("./", "#runs")), attributes
    assert main(["index", str(runs)]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\u202e" not in printed


FORGED = [
    {"verdict": "x"},
    {"verdict": {"label": ["a"], "sentences": 7}},
    {"outcomes": {"a": 1}},
    {"outcomes": 3, "verdict": None},
    {"tuning": [1], "outcomes": [None]},
    {"outcomes": [{"split": "conflict", "condition": "as-delivered", "measure": "top1", "tier": None, "population": "all",
                   "value": "9", "low": 0, "high": 1, "n": 3, "points": 1}]},
]  # fmt: skip


def test_a_forged_summary_with_a_right_checksum_is_a_row(runs, capsys) -> None:
    content = json.loads((runs / "sound" / "summary.json").read_text())["content"]
    for number, forged in enumerate(FORGED):
        folder = copied(runs, f"forged-{number}")
        (folder / "summary.json").write_text(json.dumps(with_checksum({**forged, "content": content})))
    found = rows(runs, capsys=capsys)
    assert len(found) == len(FORGED) + 1
    assert found["forged-5"]["fault"]
    assert (runs / "index.html").stat().st_size > 5000


@pytest.mark.parametrize("make", ["nothing", "file", "missing", "run", "folder as page"])
def test_what_cannot_be_listed_is_one_line(runs, tmp_path, capsys, make) -> None:
    words = {
        "nothing": ["index", str(tmp_path / "empty")],
        "file": ["index", str(runs / "sound" / "manifest.json")],
        "missing": ["index", str(tmp_path / "nowhere")],
        "run": ["index", str(runs / "sound")],
        "folder as page": ["index", str(runs), "--out", str(tmp_path)],
    }[make]
    (tmp_path / "empty" / "not-a-run").mkdir(parents=True)
    code, streams = main(words), capsys.readouterr()
    assert (code, streams.out, len(streams.err.strip().split("\n"))) == (2, "", 1), streams
    assert not (tmp_path / "empty" / "index.html").exists()
    assert "give" in streams.err or "needs a file" in streams.err


def test_two_hundred_runs_are_quick(runs, capsys) -> None:
    for number in range(200):
        copied(runs, f"run-{number:03d}")
    start = time.process_time()
    assert main(["index", str(runs)]) == 0
    assert time.process_time() - start < 15
    assert capsys.readouterr().out.count("not measured") == 0
    assert (runs / "index.html").read_text(encoding="utf-8").count('role="rowheader"') == 201


def test_the_same_runs_give_the_same_page(runs) -> None:
    pages = []
    for _ in range(2):
        assert main(["index", str(runs)]) == 0
        pages.append((runs / "index.html").read_bytes())
    assert pages[0] == pages[1]


def test_folders_are_walked_to_a_depth_and_no_further(runs, capsys) -> None:
    place = runs
    for number in range(DEEPEST + 3):
        place = place / f"d{number}"
    shutil.copytree(runs / "sound", place)
    assert set(rows(runs, capsys=capsys)) == {"sound"}
