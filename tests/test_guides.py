"""The guides: commands and Python run and print what the page says; every page is linked, and every link resolves."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from override_gap.reports import figures
from override_gap.reports.cli.main import VERBS, main

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("first-audit", "reading-the-report", "definitions", "statistics", "limits")
AUDIT = "override-gap audit --limit 194 --policies as-delivered,uniform,slb,random-layers --out runs/first"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.S | re.M)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the first guide's audit and what it printed, shared by all pages."""
    folder = tmp_path_factory.mktemp("guide")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        assert main(shlex.split(AUDIT)[1:]) == 0
    return folder, "\n".join(printed)


@pytest.mark.parametrize("name", PAGES)
def test_a_guides_commands_and_code_print_what_it_says(name: str, audited, monkeypatch, capsys) -> None:
    folder, audit_output = audited
    monkeypatch.chdir(folder)
    printed, ran = "", 0
    for language, text in blocks(page(name)):
        if language == "text":
            squeezed = " ".join(printed.split())
            for line in text.strip().split("\n"):
                assert " ".join(line.split()) in squeezed, line
            continue
        ran += 1
        if language == "python":
            exec(compile(text, f"{name}.md", "exec"), {})
        else:
            assert language == "sh"
            for line in text.replace("\\\n", " ").strip().split("\n"):
                words = shlex.split(line, comments=True)
                assert words[0] == "override-gap"
                if line == AUDIT:
                    printed += audit_output
                else:
                    assert main(words[1:]) == 0, line
        printed += capsys.readouterr().out
    assert ran


def test_the_first_guide_begins_with_the_audit_that_the_others_share() -> None:
    assert blocks(page("first-audit"))[0] == ("sh", f"{AUDIT}\n")


def test_every_figure_and_every_measure_is_explained() -> None:
    explained = re.findall(r"^### (\w+)$", page("reading-the-report"), re.M)
    assert explained == [spec.name for spec in figures.FIGURES]
    sections = page("reading-the-report").split("### ")[1:]
    lacking = [
        section.split()[0] for section in sections if "*What would refute this*" not in " ".join(section.split())
    ]
    assert lacking == []


def test_every_function_that_the_statistics_name_exists() -> None:
    named = re.findall(r"`([\w.]+)\.(\w+)` \|", page("statistics"))
    assert len(named) > 15
    for module, function in named:
        assert callable(getattr(importlib.import_module(f"override_gap.analyses.{module}"), function)), (
            f"{module}.{function}"
        )


def test_every_page_is_linked_from_the_index_and_every_link_resolves() -> None:
    linked = {name for name in re.findall(r"\]\(([^)#:]+)\)", page("README")) if not name.startswith("../")}
    pages = {str(file.relative_to(DOCS)) for file in DOCS.rglob("*") if file.suffix in (".md", ".ipynb")} - {
        "README.md"
    }
    # the pages of a folder that has a README are linked there
    beneath = {page for page in pages if "/" in page and not page.endswith("/README.md")}
    beneath = {page for page in beneath if f"{page.split('/')[0]}/README.md" in pages}
    assert linked == pages - beneath
    for file in DOCS.rglob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", file.read_text(encoding="utf-8")):
            assert (file.parent / link).exists(), f"{file.name}: {link}"


def test_commands_in_the_guides_are_verbs_with_flags_that_exist() -> None:
    from override_gap.reports.cli.completion import options

    for file in DOCS.rglob("*.md"):
        for verb, rest in re.findall(r"`override-gap (\w+)([^`]*)`", file.read_text(encoding="utf-8")):
            assert verb in VERBS, f"{file.name}: {verb}"
            known = {flag for action in options(verb)._actions for flag in action.option_strings}
            assert set(re.findall(r"--[\w-]+", rest)) <= known, f"{file.name}: override-gap {verb}{rest}"
