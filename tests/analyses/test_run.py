"""A run's analyses as methods: tables, texts, and the same numbers as summary.json."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from override_gap.analyses import Run, load
from override_gap.analyses.results import ResultRows, ResultSection
from override_gap.analyses.summary import clean, summarise
from tests.simulate import simulate_readings

SECTIONS = {
    "prior_gradient": "prior_gradient",
    "margins": "margins",
    "dose": "dose_response",
    "matched_retention": "matched_retention",
    "layers": "layer_profile",
    "comparisons": "comparisons",
    "disagreements": "disagreements",
    "measures": "disagreement",
    "hypotheses": "hypotheses",
    "verdict": "verdict",
    "power": "sensitivity",
    "sampled": "sampled",
    "references": "references",
}


@pytest.fixture(scope="module")
def run() -> Run:
    return Run.of(simulate_readings(0, 24, 60, others=20))


@pytest.fixture(scope="module")
def summary(run: Run) -> dict:
    return summarise(run)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_analysis_gives_a_table_a_text_and_its_section(run: Run, summary: dict, section: str) -> None:
    result = getattr(run, SECTIONS[section])()
    stored = summary[section]
    if section == "verdict":  # beside it stand tables of other analyses
        stored = {
            name: value
            for name, value in stored.items()
            if name not in ("more", "null", "causes_by_prior", "cause_examples")
        }
    assert clean(result.as_json()) == stored
    assert isinstance(result.frame(), pd.DataFrame)
    assert result.summary() == str(result)
    assert result._repr_html_().startswith("<p>")


def test_outcomes_are_a_table_of_the_summary(run: Run, summary: dict) -> None:
    table = run.outcomes()
    assert len(table) == len(summary["outcomes"])
    assert table["value"].tolist() == pytest.approx([row["value"] for row in summary["outcomes"]])


def test_a_stored_run_is_loaded_with_its_analyses(run: Run, tmp_path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(run.manifest))
    (tmp_path / "readings").mkdir()
    run.readings.convert_dtypes().to_parquet(tmp_path / "readings" / "0.parquet")
    stored = load(tmp_path)
    assert stored.verdict() == run.verdict()
    pd.testing.assert_frame_equal(stored.outcomes(), run.outcomes())


def test_the_text_of_a_run_names_it_its_verdict_and_its_hypotheses(run: Run) -> None:
    lines = run.summary().split("\n")
    assert lines[0] == repr(run)
    assert lines[1].startswith(f"{run.verdict().label}: ")
    assert [line.split()[0] for line in lines if line.startswith("H")] == ["H1", "H2", "H3", "H4", "H5", "H6"]


def test_a_long_table_prints_its_first_rows_and_says_how_many_follow() -> None:
    rows = ResultRows("Rows", tuple({"name": f"r{n}", "value": n / 2, "low": 0.0, "high": None} for n in range(30)))
    text = str(rows).split("\n")
    assert text[:2] == ["Rows: 30 rows", "  r0: 0 [0, -]"]
    assert text[-1] == "  and 18 more rows: frame() has them all"
    assert len(rows.frame()) == len(rows) == 30


def test_a_section_names_its_tables() -> None:
    section = ResultSection("Section", {"first": [{"a": 1}], "second": [{"b": {"low": 2}}], "note": ""}, "first")
    assert section.tables == ["first", "second"]
    assert section.frame()["a"].tolist() == [1]
    assert section.frame("second")["b.low"].tolist() == [2]
    with pytest.raises(KeyError, match="there are first, second"):
        section.frame("third")


def test_a_title_and_a_cell_are_text_in_a_notebook() -> None:
    shown = ResultRows("net margin > 0 <b>", ({"condition": "<script>x</script>"},))._repr_html_()
    assert "net margin &gt; 0 &lt;b&gt;" in shown
    assert "<script>" not in shown
