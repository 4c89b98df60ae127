"""The README's Python lines run, its reading order and docs/tree.md name files that exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from override_gap.probes.environment import home
from override_gap.reports.cli import completion
from override_gap.reports.cli.main import VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, start: str = "") -> str:
    """The first fenced block of a language, the first that starts with a text if one is given."""
    return next(text for text in re.findall(rf"```{language}\n(.*?)```", README, re.S) if text.startswith(start))


@pytest.mark.smollm2
@pytest.mark.skipif(not (home() / "smollm2" / "model.safetensors").is_file(), reason="`make smollm2` fetches the model")
def test_the_lines_from_python_run_and_write_a_report(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(block("python"), "README.md", "exec"), names)
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    printed = capsys.readouterr().out
    assert "uniform-1.75" in printed
    assert "as-delivered" in printed


def test_the_commands_are_verbs_with_flags_that_exist() -> None:
    commands = re.findall(r"^override-gap (\w+)(.*)$", README, re.M)
    assert len(commands) > 4
    for verb, rest in commands:
        assert verb in VERBS
        flags = {flag for action in completion.options(verb)._actions for flag in action.option_strings}
        assert set(re.findall(r"--[\w-]+", rest.split("#")[0])) <= flags


def test_the_item_line_has_no_defect(tmp_path: Path) -> None:
    from override_gap.margins import read_items

    (tmp_path / "conflicts.jsonl").write_text(block("json"), encoding="utf-8")
    [item] = read_items(tmp_path / "conflicts.jsonl")
    assert item.defects() == []


def test_every_link_resolves() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_tree_page_is_what_the_docstrings_say() -> None:
    spec = importlib.util.spec_from_file_location("tree", ROOT / ".ci" / "tree.py")
    assert spec is not None
    assert spec.loader is not None
    tree = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tree)
    assert tree.PAGE.read_text(encoding="utf-8") == tree.page(), "run `make tree`"
    assert [line for line in tree.page().splitlines() if line.endswith(".py")] == [], "a file has no docstring"
