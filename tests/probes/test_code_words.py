"""Words that name code: from a plan file they are refused, from the command line and from Python they are not."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from override_gap.probes import code_words
from override_gap.probes.catalogue import ADAPTERS
from override_gap.probes.code_words import FromFile, named_code
from override_gap.probes.plan import Plan, PlanError, plan_from, read_plan
from override_gap.reports.cli.main import main

CODE = (
    "callable:os:system",
    "callable:subprocess:getoutput",
    "callable:",
    "os:system",
    "a.b.c:D.e",
    "antigravity:x",
    "doc-to-lora:x.bin,repository=evil",
    "doc-to-lora:x.bin,base=b,trust-pickle=true",
)
DATA = (
    "fitted",
    "fitted:steps=8,lr=1e-2",
    "rank-one:layer=9",
    "hypernetwork",
    "hypernetwork:folder=mine",
    "some/folder",
    "unscaled:folder",
    "compact:file.safetensors",
    "compact:file",
    "dense:file",
    "doc-to-lora:file.safetensors",
    "doc-to-lora:checkpoint.bin,base=folder,native=4",
    "generative-adapter:file",
    "shine:file",
    "prefix:file",
    "mispelt",
)


def plan_file(folder: Path, adapters: str, more: str = "") -> Path:
    file = folder / "plan.toml"
    file.write_text(f'adapters = "{adapters}"\n{more}')
    return file


@pytest.mark.parametrize("word", CODE)
def test_a_plan_file_that_names_code_is_refused_and_a_user_who_names_it_is_not(word: str, tmp_path: Path) -> None:
    file = plan_file(tmp_path, word)
    with pytest.raises(PlanError, match="--trust-plan"):
        plan_from(read_plan(file))
    assert plan_from(read_plan(file, trust=True)).adapters == word
    assert plan_from({**read_plan(file), "adapters": word}).adapters == word  # a flag beside the file
    assert Plan(adapters=word).adapters == word


@pytest.mark.parametrize("word", DATA)
def test_a_plan_file_that_names_data_needs_no_flag(word: str, tmp_path: Path) -> None:
    plan = plan_from(read_plan(plan_file(tmp_path, word)))
    assert plan.adapters == word
    assert type(plan.adapters) is str  # nothing else of the package sees where a word came from
    assert replace(plan, limit=3).adapters == word


def test_every_form_of_the_catalogue_is_known_to_name_code_or_data() -> None:
    """A form that is added is looked at here: what it names is one of the two lists above."""
    listed = {word.partition(":")[0] for word in CODE + DATA}
    assert {form.partition(":")[0] for form in ADAPTERS} - {"FOLDER", "MODULE"} <= listed


def test_a_folder_of_that_name_changes_nothing(tmp_path: Path, monkeypatch) -> None:
    """A worker on another machine may lack it, and would then import the module."""
    (tmp_path / "os:system").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError, match="names the Python object system"):
        plan_from(read_plan(plan_file(tmp_path, "os:system")))
    assert plan_from(read_plan(plan_file(tmp_path, "./os:system"))).adapters == "./os:system"


def test_an_installed_source_is_code_too(monkeypatch) -> None:
    monkeypatch.setattr(code_words, "installed_sources", lambda: {"theirs": "theirs.module:source"})
    assert named_code("theirs") is not None
    with pytest.raises(PlanError, match="an installed package"):
        Plan(adapters=FromFile("theirs"))


def test_the_mark_survives_a_copy_to_another_process() -> None:
    assert isinstance(pickle.loads(pickle.dumps(FromFile("os:system"))), FromFile)


@pytest.mark.parametrize("verb", ["audit", "handshake"])
@pytest.mark.parametrize("word", ["callable:pathlib:Path.touch", "own:source"])
def test_the_commands_run_nothing_until_the_plan_is_trusted(
    verb: str, word: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    """The whole command, in a folder that holds a module which leaves a file when it is imported."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text("from pathlib import Path\nPath('ran').touch()\nsource = None\n")
    plan_file(tmp_path, word)
    words = [verb, "--config", "plan.toml"] + (["--out", "run"] if verb == "audit" else [])
    assert main(words) == 2
    assert "give --trust-plan" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["own.py", "plan.toml"]
    if word == "own:source" and verb == "handshake":  # the other side: the flag, or the word on the command line
        for trusted in ([*words, "--trust-plan"], [*words, "--adapters", word]):
            assert main(trusted) == 2  # the source is None
            assert Path("ran").exists()
            Path("ran").unlink()
            monkeypatch.delitem(__import__("sys").modules, "own")


def test_a_plan_does_not_choose_whose_python_trust_remote_code_runs(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    plan_file(tmp_path, "fitted", 'subject = "somebody/model"\n')
    words = ["handshake", "--config", "plan.toml", "--trust-remote-code"]
    assert main(words) == 2
    assert "is named by the plan alone" in capsys.readouterr().err
    for trusted in (["--trust-plan"], ["--subject", "./absent"]):
        assert main([*words, *trusted]) == 2  # no such model here
        assert "named by the plan" not in capsys.readouterr().err
