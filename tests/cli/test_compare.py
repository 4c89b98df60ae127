"""`override-gap compare` on stored runs: page, table and JSON agree; what cannot be compared ends in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from override_gap.analyses.compare.methods import side_by_side
from override_gap.analyses.readings import RunFrame, load
from override_gap.reports.cli.compare import named, table
from override_gap.reports.cli.main import main
from override_gap.reports.page import write_comparison
from tests.reports.test_page import HOSTILE, Reader
from tests.simulate import simulate_readings

FEW = {"conditions": ("base", "as-delivered", "slb"), "others": 20, "with_layers": False}


def stored(run: RunFrame, folder: Path) -> Path:
    """The run as a run folder."""
    (folder / "readings").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(run.manifest))
    run.readings.to_parquet(folder / "readings" / "all.parquet")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    faults = ("magnitude", "mixture", "no-failure")
    return [stored(simulate_readings(1, fault=fault, **FEW), tmp_path / fault) for fault in faults]


def test_table_page_and_json_say_the_same(folders, tmp_path, capsys) -> None:
    out = tmp_path / "deep" / "side.html"
    words = ["compare", *map(str, folders), "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr().out.split("\n")
    assert max(map(len, said[:-2])) <= 80
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [own["name"] for own in found["methods"]] == [
        "simulated magnitude",
        "simulated mixture",
        "simulated no-failure",
    ]
    row = next(
        own for own in found["pairs"]
        if (own["split"], own["tier"], own["measure"], own["population"]) == ("conflict", None, "top1", "all")
    )  # fmt: skip
    value = row["difference"]["value"]
    assert any(f"{value:+.2f} [" in line for line in said)
    page = Reader(out.read_text(encoding="utf-8"))
    assert f"{100 * value:.0f} pp" in page.text.replace("\u2212", "-")
    assert sum(tag == "svg" for tag, _ in page.tags) == 2
    assert not page.scripts
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert str(attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)


def test_another_condition(folders, tmp_path, capsys) -> None:
    assert main(["compare", *map(str, folders), "--condition", "slb", "--out", str(tmp_path / "c.html"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    run = load(folders[0]).select("conflict", "slb")
    mean = run["success_top1"].astype(float).mean()
    row = next(own for own in found["outcomes"] if own["split"] == "conflict" and own["measure"] == "top1")
    assert row["value"] == pytest.approx(mean)


def test_the_same_comparison_gives_the_same_bytes(folders, tmp_path, capsys) -> None:
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    for page in pages:
        assert main(["compare", *map(str, folders[:2]), "--out", str(page)]) == 0
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_hostile_text_changes_nothing_but_itself(tmp_path) -> None:
    runs = {}
    for name, fault in (
        ("<script>alert(1)</script>\u202e", "magnitude"),
        ("\"'><img src=x onerror=alert(1)>" * 9, "mixture"),
    ):
        plain = simulate_readings(1, fault=fault, **FEW)
        texts = [text for text in HOSTILE if text != "\ud800"]  # no Parquet file can hold it
        worst = [texts[number % len(texts)] for number in range(plain.readings["item"].nunique())]
        texts = dict(zip(sorted(plain.readings["item"].unique()), worst, strict=True))
        rows = plain.readings.assign(**{
            column: [texts[item] for item in plain.readings["item"]] for column in ("question", "answer", "document")
        })  # fmt: skip
        rows["item"] = [f"{item}{texts[item]}" for item in rows["item"]]
        runs[name] = RunFrame(plain.manifest, rows, plain.layers)
    clean = {str(k): simulate_readings(1, fault=fault, **FEW) for k, fault in enumerate(("magnitude", "mixture"))}
    found = side_by_side(runs).as_json()
    page = write_comparison(found, tmp_path / "hostile.html").read_text(encoding="utf-8")
    calm = write_comparison(side_by_side(clean).as_json(), tmp_path / "calm.html").read_text(encoding="utf-8")
    ours, theirs = Reader(page), Reader(calm)
    drawn = ("path", "use", "g", "defs", "rect", "clippath", "style")  # letters of the labels
    assert [tag for tag, _ in ours.tags if tag not in drawn] == [tag for tag, _ in theirs.tags if tag not in drawn]
    assert "<script>alert(1)</script>" in ours.text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x07]", page)
    lines = table(found).split("\n")
    assert max(map(len, lines)) <= 80
    assert not re.search("[\u202a-\u202e\x00-\x09\x1b]", "".join(lines))


def test_methods_are_told_apart_by_the_shortest_name_that_does() -> None:
    folders = [Path("x/a"), Path("y/b")]
    assert named(folders, ["one", "two"]) == ["one", "two"]
    assert named(folders, ["one", "one"]) == ["a", "b"]
    assert named([Path("x/a"), Path("y/a")], ["one", "one"]) == ["x/a", "y/a"]
    assert len(set(named([Path("x/a"), Path("x/a")], ["one", "one"]))) == 2


def refused(words: list[str], message: str, capsys) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().split("\n")) == 1
    assert message in said.err


def test_what_cannot_be_compared_ends_in_one_line(folders, tmp_path, capsys) -> None:
    one = str(folders[0])
    out = ["--out", str(tmp_path / "no.html")]
    refused(["compare", one, *out], "two run folders", capsys)
    refused(["compare", one, str(tmp_path / "nowhere"), *out], "no manifest.json", capsys)
    refused(["compare", one, str(folders[1]), "--out", str(tmp_path)], "is a folder", capsys)
    refused(["compare", one, str(folders[1]), "--condition", "ca", *out], "no measured reading under 'ca'", capsys)
    manifest = json.loads((folders[1] / "manifest.json").read_text())
    manifest["subject"]["fingerprint"] = "1" * 16
    (folders[1] / "manifest.json").write_text(json.dumps(manifest))
    refused(["compare", one, str(folders[1]), *out], "different base models", capsys)
    other = stored(simulate_readings(2, fault="magnitude", **FEW), tmp_path / "other")
    refused(["compare", one, str(other), *out], "do not share items", capsys)
    assert not (tmp_path / "no.html").exists()
