"""A source of the current folder: found there without PYTHONPATH, while nothing in the folder replaces an installed module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from override_gap.probes.errors import AdapterError
from override_gap.probes.sources.custom import load_object

#: Names that the toolkit uses inside its own package, and names of libraries and standard modules that it imports.
INNER = ("margins", "probes", "analyses", "reports", "tests")
OUTER = ("torch", "numpy", "regex", "json", "difflib")

METHOD = """
import torch
from my_helper import SIZE
from override_gap.margins.adapter import Adapter
from override_gap.margins.updates import LowRank
import reports  # the user's own

class MyMethod:
    name, settings = "my-method", {}

    def __init__(self, subject):
        from my_other_helper import PATH
        self.path = next(path for path in subject.sites if path.endswith(PATH))
        self.site = subject.sites[self.path]

    def encode(self, documents):
        from my_late_helper import draw
        A, B = draw(2, self.site.d_in), draw(self.site.d_out, 2)
        return [Adapter(d.key, {self.path: LowRank(A, B, SIZE)}) for d in documents]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder: a method with three helpers, among packages of the user's own and files with unlucky names."""
    for name in INNER:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    for name in OUTER:
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} of the current folder was imported')\n")
    (tmp_path / "my_method.py").write_text(METHOD)
    (tmp_path / "my_helper.py").write_text("import tests\nSIZE = 0.5 if tests.MINE else 0\n")
    (tmp_path / "my_other_helper.py").write_text("PATH = 'down_proj'\n")
    (tmp_path / "my_late_helper.py").write_text("import torch\ndraw = torch.ones\n")
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


EXPORT = ("adapters", "export", "--limit", "1", "--quiet", "--device", "cpu", "--out", "out.safetensors", "--adapters")


@pytest.mark.parametrize(
    "command", [(str(Path(sys.executable).parent / "override-gap"),), (sys.executable, "-m", "override_gap")]
)
def test_the_command_line_finds_a_source_of_the_current_folder(command: tuple[str, ...], folder: Path) -> None:
    done = run(folder, *command, *EXPORT, "my_method:MyMethod")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 adapter: --adapters compact:out.safetensors\n"
    assert (folder / "out.safetensors").is_file()


@pytest.mark.parametrize("where", ["beside the method", "elsewhere"])
def test_a_script_finds_a_source_of_the_current_folder(where: str, folder: Path) -> None:
    """Python itself puts a script's folder first, so there the names of libraries are the user's; the toolkit's own are not."""
    script = folder / "scripts" / "script.py" if where == "elsewhere" else folder / "script.py"
    script.parent.mkdir(exist_ok=True)
    for name in OUTER:
        (folder / f"{name}.py").unlink()
    script.write_text(
        "import sys\n"
        "import override_gap.analyses.verdict, override_gap.reports.text\n"
        "from override_gap.probes.sources.custom import load_object\n"
        "before = list(sys.path)\n"
        "print(load_object('my_method:MyMethod').name, sys.path == before)\n"
    )
    done = run(folder, sys.executable, str(script))
    assert (done.stdout, done.stderr) == ("my-method True\n", "")


def test_an_installed_module_goes_first_and_the_message_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    before = list(sys.path)
    with pytest.raises(AdapterError, match=r"json is the installed module .*before json\.py .*: rename your file"):
        load_object("json:source")
    assert sys.path == before


def test_a_module_that_lacks_another_is_not_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_broken_method.py").write_text("import no_such_helper\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        AdapterError, match=r"'my_broken_method' cannot be imported: .*No module named 'no_such_helper'"
    ):
        load_object("my_broken_method:source")


def test_a_folder_that_the_user_put_on_the_path_stays_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_path_method.py").write_text(
        "import os, sys\nsys.path.insert(0, os.getcwd())\nsource = 'from the current folder'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_object("my_path_method:source") == "from the current folder"
    assert sys.path.count(str(tmp_path)) == 1
    assert sys.path[0] == str(tmp_path)
