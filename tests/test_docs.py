"""The code in the docs runs, and the numbers in their text are those that it gives."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from override_gap.analyses import readings
from override_gap.analyses.hypotheses import STANDARD
from override_gap.analyses.paper import PAPER_STRONGEST, PAPER_WEAKEST, gap_test, paper_gap
from override_gap.reports.glossary import as_markdown
from tests.simulate import simulate_readings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
HYPOTHESES = (DOCS / "hypotheses.md").read_text()
sys.path.append(str(ROOT / ".ci" / "website"))
import navigation  # noqa: E402
import reference  # noqa: E402

#: Pages that a command writes, and the file that holds their first paragraph.
WRITTEN = {
    "calibration/causes.md": "reports/cli/calibrate.py",
    "calibration/confusion.md": "reports/cli/calibrate.py",
    "calibration/coverage.md": "benchmarks/coverage.py",
    "calibration/early-stopping.md": "benchmarks/early_stopping.py",
    "calibration/false_positives.md": "benchmarks/false_positives.py",
    "calibration/prior-dose.md": "benchmarks/prior_dose.py",
    "calibration/smollm2.md": "benchmarks/plants_on_smollm2.py",
    "calibration/tiers.md": "benchmarks/tiers.py",
    "calibration/worlds.md": "benchmarks/worlds.py",
    "families.md": "benchmarks/families/__main__.py",
    "fuzz.md": "benchmarks/fuzz.py",
    "mechanism.md": "benchmarks/mechanism_page.py",
    "methods-on-smollm2.md": "benchmarks/methods_on_smollm2.py",
    "number-formats.md": "benchmarks/number_formats.py",
    "performance.md": "benchmarks/bench/page.py",
    "policies.md": "benchmarks/policies_tables.py",
    "scale.md": "benchmarks/scale.py",
    "shipped.md": "benchmarks/shipped.py",
    "speed/answers.md": "benchmarks/answers.py",
    "speed/full-audit.md": "benchmarks/full_audit.py",
}


def blocks(text: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_a_hypothesis_of_your_own_is_tested_with_the_others(monkeypatch, capsys) -> None:
    monkeypatch.setattr(readings, "load", lambda _: simulate_readings(0))
    exec(compile(blocks(HYPOTHESES)[0], "hypotheses.md", "exec"), {})
    lines = capsys.readouterr().out.strip().split("\n")
    assert [line.split()[0] for line in lines] == ["H1", "H2", "H3", "H4", "H5", "H6", "U1"]
    assert lines[-1].startswith("U1 supported")


def test_the_published_gap_is_the_one_in_the_text(capsys) -> None:
    exec(compile(blocks(HYPOTHESES)[1], "hypotheses.md", "exec"), {})
    assert "gap 0.52" in capsys.readouterr().out
    for effect in (1.0, 2.0):
        gap = paper_gap(effect)
        assert f"[{100 * gap.low:.0f}, {100 * gap.high:.0f}]" in HYPOTHESES
    assert f"p = {gap_test(PAPER_WEAKEST, PAPER_STRONGEST):.0e}" in HYPOTHESES


def test_every_standard_hypothesis_is_in_the_table() -> None:
    rows = dict(re.findall(r"^\| (H\d) \| ([^|]+) \|", HYPOTHESES, re.M))
    assert set(rows) == {hypothesis.id for hypothesis in STANDARD}


def opening(page: Path) -> tuple[str, str]:
    """A page's title and its first paragraph, on one line each."""
    title, paragraph = page.read_text(encoding="utf-8").split("\n\n")[:2]
    if "\n" in title:  # a heading may stand right above its paragraph
        title, _, paragraph = title.partition("\n")
    return title, " ".join(paragraph.split())


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_every_page_has_a_title_and_begins_with_a_paragraph_in_plain_words(page: Path) -> None:
    title, paragraph = opening(page)
    assert title.startswith("# ")
    assert not re.match(r"[|`#<>-]|\d\.", paragraph), "a table, a list or code"
    assert len(paragraph.split()) >= 20
    assert "`--" not in paragraph, "options belong further down"
    plain = re.sub(r"\([^)]*\)|`[^`]*`", "", paragraph)
    assert not re.search(r"[A-Za-z]_[A-Za-z]", plain), "symbols belong further down"


@pytest.mark.parametrize(("page", "writer"), WRITTEN.items())
def test_the_command_that_writes_a_page_writes_its_first_paragraph(page: str, writer: str) -> None:
    tree = ast.parse((ROOT / writer).read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    written = " ".join(" ".join(texts).split())
    for text in opening(DOCS / page):
        assert text in written


def test_the_glossary_is_what_its_command_prints() -> None:
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    assert page == as_markdown(), "run: python -m override_gap.reports.glossary > docs/glossary.md"


def test_every_page_of_the_docs_is_in_the_sites_navigation_once() -> None:
    pages = [page for page in navigation.all_pages() if page.parts[0] == "docs"]
    there = {file.relative_to(ROOT) for file in DOCS.rglob("*") if file.suffix in (".md", ".ipynb")}
    assert sorted(pages) == sorted(there - {navigation.INDEX})
    assert [section.name for section in navigation.sections()] == ["Start", "Do", "Understand", "Reference", "Evidence"]


def test_the_front_doors_page_explains_every_name_that_it_offers() -> None:
    import override_gap

    assert sorted(name for names in reference.ORDER.values() for name in names) == sorted(override_gap.__all__)
    entries = re.split(r"^`+\{py:(?:function|class|module)\} (?:override_gap\.)?(?=\w)", reference.page(), flags=re.M)[
        1:
    ]
    words = {re.match(r"\w+", entry)[0]: len(entry.split()) for entry in entries}
    assert {name for name in override_gap.__all__ if words[name] <= 10} == set(), "no docstring"
