"""`override-gap compare` on stored runs: page, table and JSON agree; what cannot be compared ends in one line."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest

from override_gap.analyses.compare.methods import side_by_side
from override_gap.analyses.readings import RunFrame, load
from override_gap.reports.cli.compare import table
from override_gap.reports.cli.main import main
from override_gap.reports.comparison import conditions_of, method_names
from override_gap.reports.page import write_comparison
from tests.reports.test_page import HOSTILE, Reader
from tests.simulate import simulate_readings

PLACE = ("conflict", None, "top1", "all")
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


def test_table_page_and_json_show_the_same_numbers(folders, tmp_path, capsys) -> None:
    out = tmp_path / "deep" / "side.html"
    words = ["compare", *map(str, folders), "--out", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out.split("\n")
    assert max(map(len, printed[:-2])) <= 80
    assert main([*words, "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert [method["name"] for method in comparison["methods"]] == [
        "simulated magnitude",
        "simulated mixture",
        "simulated no-failure",
    ]
    row = next(
        pair for pair in comparison["pairs"]
        if (pair["split"], pair["tier"], pair["measure"], pair["population"]) == ("conflict", None, "top1", "all")
    )  # fmt: skip
    for verdict, folder in zip(comparison["verdicts"], folders, strict=True):
        failures = load(folder).select("conflict", "as-delivered", "known")["success_top1"].astype(float).eq(0)
        assert verdict["failing"]["value"] == pytest.approx(failures.mean())
        assert any(line.split()[-1] == verdict["label"] for line in printed if "simulated" in line), printed
    value = row["difference"]["value"]
    assert any(f"{value:+.2f} [" in line for line in printed)
    page = Reader(out.read_text(encoding="utf-8"))
    assert f"{100 * value:.0f} pp" in page.text.replace("\u2212", "-")
    # the answer's picture, over the budgets, by method, differences: each wide and narrow
    assert sum(tag == "svg" for tag, _ in page.tags) == 8
    assert not page.scripts
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert str(attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)


def test_a_note_of_a_run_that_was_looked_at_ends_with_one_full_stop(folders, tmp_path, capsys) -> None:
    manifest = json.loads((folders[0] / "manifest.json").read_text())
    looks = [{"units": 1, "share": 0.5}]
    stopped = {"units": 1, "items": 60, "unmeasured": 90}
    manifest["until"] = {"rule": "decided", "units_at_looks": [1, 2], "looks": looks, "stopped": stopped}
    (folders[0] / "manifest.json").write_text(json.dumps(manifest))
    out = tmp_path / "c.html"
    assert main(["compare", *map(str, folders[:2]), "--out", str(out)]) == 0
    assert "from the bounds of the label</bdi>." in out.read_text(encoding="utf-8")


def test_another_condition_can_be_compared(folders, tmp_path, capsys) -> None:
    assert main(["compare", *map(str, folders), "--condition", "slb", "--out", str(tmp_path / "c.html"), "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    run = load(folders[0]).select("conflict", "slb")
    mean = run["success_top1"].astype(float).mean()
    row = next(row for row in comparison["outcomes"] if row["split"] == "conflict" and row["measure"] == "top1")
    assert row["value"] == pytest.approx(mean)


def test_the_same_comparison_gives_the_same_page_byte_for_byte(folders, tmp_path, capsys) -> None:
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    for page in pages:
        assert main(["compare", *map(str, folders[:2]), "--out", str(page)]) == 0
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_hostile_text_is_shown_as_text(tmp_path) -> None:
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
    comparison = side_by_side(runs).as_json()
    page = write_comparison(comparison, tmp_path / "hostile.html").read_text(encoding="utf-8")
    harmless = write_comparison(side_by_side(clean).as_json(), tmp_path / "harmless.html").read_text(encoding="utf-8")
    ours, theirs = Reader(page), Reader(harmless)
    drawn = ("path", "use", "g", "defs", "rect", "clippath", "style")  # letters of the labels
    assert [tag for tag, _ in ours.tags if tag not in drawn] == [tag for tag, _ in theirs.tags if tag not in drawn]
    assert "<script>alert(1)</script>" in ours.text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x07]", page)
    lines = table(comparison).split("\n")
    assert max(map(len, lines)) <= 80
    assert not re.search("[\u202a-\u202e\x00-\x09\x1b]", "".join(lines))


def test_methods_get_the_shortest_names_that_differ() -> None:
    folders = [Path("x/a"), Path("y/b")]
    assert method_names(folders, ["one", "two"]) == ["one", "two"]
    assert method_names(folders, ["one", "one"]) == ["a", "b"]
    assert method_names([Path("x/a"), Path("y/a")], ["one", "one"]) == ["x/a", "y/a"]
    assert len(set(method_names([Path("x/a"), Path("x/a")], ["one", "one"]))) == 2


def test_a_run_may_be_given_a_condition_of_its_own_or_several() -> None:
    folders, names = [Path("x/a"), Path("x/b")], ["one", "two"]
    both = {"one": ["slb"], "two": ["slb"]}
    assert conditions_of(["slb"], folders, names) == both
    assert conditions_of(["slb", "x/a=ca"], folders, names) == both | {"one": ["ca"]}
    assert conditions_of(["a=ca", "one=uniform-2", "one=ca"], folders, names) == {
        "one": ["ca", "uniform-2"],
        "two": ["as-delivered"],
    }
    for wrong in ("c=ca", "a=", "=ca"):
        with pytest.raises(ValueError, match="need RUN=NAME with RUN one of one, two"):
            conditions_of([wrong], folders, names)
    with pytest.raises(ValueError, match="more than one"):
        conditions_of(["a=ca"], [Path("x/a"), Path("y/a")], names)


def test_conditions_of_one_run_are_compared_like_methods(folders, tmp_path, capsys) -> None:
    words = ["compare", str(folders[0]), "--condition", "as-delivered,slb", "--out", str(tmp_path / "c.html"), "--json"]
    assert main(words) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert [m["condition"] for m in comparison["methods"]] == ["as-delivered", "slb"]
    assert comparison["condition"] == "as-delivered, slb"
    rows = [load(folders[0]).select("conflict", name) for name in ("as-delivered", "slb")]
    gap = [row["success_top1"].astype(float).mean() for row in rows]
    row = next(r for r in comparison["pairs"] if (r["split"], r["tier"], r["measure"], r["population"]) == PLACE)
    assert row["difference"]["value"] == pytest.approx(gap[0] - gap[1])


def test_the_answer_comes_first_and_is_of_the_budget(folders, tmp_path, capsys) -> None:
    words = ["compare", *map(str, folders[:2]), "--out", str(tmp_path / "c.html")]
    assert main([*words, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert (plain["budget"]["keep"], plain["answer"]["basis"]) == (0.95, "budget")
    assert main([*words, "--keep", "0.8", "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    budget, answer = comparison["budget"], comparison["answer"]
    differs = {"answer", "budget"}
    assert {key: value for key, value in comparison.items() if key not in differs} == {
        key: value for key, value in plain.items() if key not in differs
    }
    assert (budget["keep"], budget["kl"], budget["measure"]) == (0.8, None, "top1")
    text = (tmp_path / "c.html").read_text(encoding="utf-8")
    seen = re.sub(r'<span class="meaning".*?</span>', "", text, flags=re.S)  # what terms mean is not seen at first
    shown = " ".join(unescape(re.sub(r"<[^>]+>", "", seen)).split())
    places = [
        shown.index(" ".join(text.split()))
        for text in (*(answer[key] for key in ("compared", "found", "do")), budget["says"])
    ]
    assert places == sorted(places)
    assert places[-1] < shown.index("How often does each method succeed")
    assert main([*words, "--keep", "0.8"]) == 0
    printed = capsys.readouterr().out.split("\n")
    assert printed[0].startswith("simulated magnitude and simulated mixture on ")
    assert " ".join(printed).find("With at least 80% of unrelated answers kept") > 0
    assert max(map(len, printed[:-2])) <= 80
    assert "share of unrelated answers above 0 and below 1" in error_line([*words, "--keep", "95"], capsys)


def without_unrelated(folder: Path, into: Path) -> Path:
    """A copy of a run in which no unrelated question was asked."""
    run = load(folder)
    return stored(RunFrame(run.manifest, run.readings[run.readings["split"] != "retention"]), into)


def test_where_retention_was_not_measured_the_page_says_so_and_draws_no_empty_box(folders, tmp_path, capsys) -> None:
    bare = [without_unrelated(folder, tmp_path / f"bare-{folder.name}") for folder in folders[:2]]
    words = ["compare", *map(str, bare), "--out", str(tmp_path / "c.html")]
    assert main([*words, "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert "budget" not in comparison
    assert comparison["answer"]["basis"] == "as given"
    assert "at a price that is unknown" in comparison["answer"]["do"]
    page = Reader((tmp_path / "c.html").read_text(encoding="utf-8"))
    assert "Not drawn: unrelated answers were not measured" in " ".join(page.text.split())
    assert sum(tag == "svg" for tag, _ in page.tags) == 4
    assert main([*words, "--keep", "0.9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"]["label"] == "alone"


def error_line(words: list[str], capsys) -> str:
    """The one line on stderr with which a command ends in exit code 2."""
    code, streams = main(words), capsys.readouterr()
    lines = streams.err.strip().split("\n")
    if (code, streams.out, len(lines)) != (2, "", 1):
        raise AssertionError(f"exit code {code}, stdout {streams.out!r}, stderr {streams.err!r}")
    return lines[0]


def test_runs_that_cannot_be_compared_are_refused_in_one_line(folders, tmp_path, capsys) -> None:
    first, second = map(str, folders[:2])
    out = ["--out", str(tmp_path / "no.html")]
    assert "two or more run folders" in error_line(["compare", first, *out], capsys)
    assert "no manifest.json" in error_line(["compare", first, str(tmp_path / "nowhere"), *out], capsys)
    assert "is a folder" in error_line(["compare", first, second, "--out", str(tmp_path)], capsys)
    other_condition = ["compare", first, second, "--condition", "ca", *out]
    assert "no measured reading under 'ca'" in error_line(other_condition, capsys)
    manifest = json.loads((folders[1] / "manifest.json").read_text())
    manifest["subject"]["fingerprint"] = "1" * 16
    (folders[1] / "manifest.json").write_text(json.dumps(manifest))
    assert "different base models" in error_line(["compare", first, second, *out], capsys)
    other_items = stored(simulate_readings(2, fault="magnitude", **FEW), tmp_path / "other")
    assert "do not share items" in error_line(["compare", first, str(other_items), *out], capsys)
    assert not (tmp_path / "no.html").exists()
