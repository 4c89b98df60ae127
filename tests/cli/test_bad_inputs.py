"""Bad inputs of every kind: each ends in one clear line and exit code 2, and nothing is written anywhere."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from override_gap.probes.run import audit
from override_gap.probes.sources import peft_patterns
from override_gap.probes.subject import file_checks, load
from override_gap.reports.cli.main import main
from tests.cli.bad_inputs import adapters, items_and_plans, runs  # noqa: F401 (each registers its cases)
from tests.cli.bad_inputs.cases import CASES, write_file
from tests.cli.bad_inputs.models import model


@cache
def tiny_model() -> Any:
    """The tiny model, wrapped once."""
    from tests.conftest import tiny

    return tiny("llama")


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in, with the home and the temporary folder beside it."""
    for name, variables in (
        ("work", ()),
        ("home", ("HOME", "XDG_CACHE_HOME", "OVERRIDE_GAP_HOME")),
        ("tmp", ("TMPDIR",)),
    ):
        (tmp_path / name).mkdir()
        for variable in variables:
            monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "work")
    for module in (load, audit):

        def open_subject(spec: str, real=module.open_subject, **settings: Any) -> Any:
            return tiny_model() if spec == "tiny" else real(spec, **settings)

        monkeypatch.setattr(module, "open_subject", open_subject)
    return tmp_path


def listing(root: Path) -> dict[str, tuple[int, int, str]]:
    """Every file, folder and link with size, time and target, which change if a file is written to.

    A folder's own time is left out: commands try whether it can be written to, and nothing stays of that.
    """
    entries = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        target = str(path.readlink()) if path.is_symlink() else ""
        is_folder = path.is_dir() and not path.is_symlink()
        size, time = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
        entries[str(path.relative_to(root))] = (size, time, target)
    return entries


@pytest.mark.parametrize("name", CASES)
def test_a_bad_input_is_refused_in_one_line_and_leaves_no_files(name: str, sandbox: Path, monkeypatch, capsys) -> None:
    words, message = CASES[name](sandbox / "work")
    if "hole" in name:
        monkeypatch.setattr(file_checks, "total_memory", lambda: 2**20)
    monkeypatch.setattr(peft_patterns, "SECONDS", 0.2)
    capsys.readouterr()
    before = listing(sandbox)
    assert main(words) == 2
    printed = capsys.readouterr()
    lines = printed.err.strip().split("\n")
    # what a default policy cannot be asked of one adapter for all documents is said before, and is no error
    lines = [line for line in lines if not line.startswith("not measured: null-other")]
    assert len(lines) == 1, printed.err
    assert message in lines[0]
    assert len(lines[0]) < 1200
    assert "Traceback" not in printed.err
    assert not {c for c in printed.err if ord(c) < 32 or 0x7F <= ord(c) < 0xA0} - {"\n"}
    assert "--debug shows where" not in printed.err
    assert printed.out == ""
    assert listing(sandbox) == before


def test_there_are_a_hundred_cases_or_more() -> None:
    assert len(CASES) >= 100


def test_a_models_own_code_runs_with_the_flag(sandbox: Path, capsys) -> None:
    """The other side of the refusal: the same folder, with the flag, is run; its code is a Llama under another name."""
    folder = sandbox / "work"
    names = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnLM"}
    words, _ = model(folder, model_type="own", auto_map=names, architectures=["OwnLM"])
    code = """from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path('ran').write_text('x')
class Own(LlamaConfig):
    model_type = 'own'
class OwnLM(LlamaForCausalLM):
    config_class = Own
"""
    write_file(folder, "model/own.py", code)
    main([*words, "--trust-remote-code", "--limit", "1"])
    assert (folder / "ran").exists(), capsys.readouterr().err
