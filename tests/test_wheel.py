"""The wheel: one package with all its code and data, built reproducibly, that works beside folders of the same names."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
FOLDERS = ("margins", "probes", "analyses", "reports")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
#: What a user's code may do beside a `reports` package of its own.
CODE = """
import analyses, reports
assert (analyses.NAME, reports.NAME) == ("theirs", "theirs")
import override_gap.reports.page
from override_gap.margins import read_items
from override_gap.probes.items import open_items
assert "site-packages" in override_gap.__file__
print(len(open_items("starter")), "items")
"""


def committed(folder: str) -> list[Path]:
    """Files of a folder that git tracks, relative to the repository."""
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, check=True, capture_output=True, text=True)
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def module_name(folder: Path) -> str:
    """The import name of a folder's package."""
    dotted = ".".join(folder.parts)
    return dotted if folder.parts[0] == "override_gap" else f"override_gap.{dotted}"


def test_pyproject_lists_every_folder_with_python_files() -> None:
    files = [file for name in ("override_gap", *FOLDERS) for file in committed(name)]
    assert set(SETTINGS["packages"]) == {module_name(file.parent) for file in files if file.suffix == ".py"}


def test_package_data_covers_every_data_file() -> None:
    data = {file for name in FOLDERS for file in committed(name) if file.suffix != ".py"}
    covered = {
        file.relative_to(ROOT)
        for package, patterns in SETTINGS["package-data"].items()
        for pattern in patterns
        for file in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    assert data - covered == set()


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[str]]:
    """Two wheels of the checked-out commit, and their sha256."""
    spec = importlib.util.spec_from_file_location("wheel", ROOT / ".ci" / "wheel.py")
    assert spec is not None
    assert spec.loader is not None
    wheel = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(wheel)
    return wheel.build_twice(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_one_package_and_two_builds_are_the_same_file(builds) -> None:
    wheels, digests = builds
    assert digests[0] == digests[1]
    names = zipfile.ZipFile(wheels[0]).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"override_gap"}
    assert "override_gap/margins/data/starter.jsonl" in names
    for split in ("novel", "combination", "conflict", "retention"):
        assert f"override_gap/margins/data/benchmark/{split}.jsonl" in names
    assert any(name.startswith("override_gap/reports/templates/") for name in names)
    assert "override_gap/reports/schema/summary.schema.json" in names


@pytest.fixture(scope="module")
def interpreter(builds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment that holds the wheel and, by a .pth file, sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    paths = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    # a .pth file that is found through another one is not read, so the editable install of this repository is not seen
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (Path(paths.stdout.strip()) / "packages.pth").write_text("\n".join(packages))
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        builds[0][0],
    ]
    subprocess.run(install, check=True)
    return python


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with packages `reports`, `analyses` and `tests` of its own, in which commands run as in a new shell."""
    for name in ("reports", "analyses"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('NAME = "theirs"\n')
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").write_text("")
    (tmp_path / "tests" / "test_theirs.py").write_text(f"def test_theirs():\n    exec({CODE!r}, {{}})\n")
    (tmp_path / "script.py").write_text(CODE)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output_of(*command: str | Path) -> str:
    """What a command prints, errors too where it fails."""
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    return ran.stdout if ran.returncode == 0 else f"{ran.stdout}{ran.stderr}exit code {ran.returncode}"


def test_the_command_works_beside_packages_of_the_same_names(interpreter: Path, project: Path) -> None:
    command = interpreter.with_name("override-gap")
    assert output_of(command, "items", "check", "starter") == "208 items, no defect\n"
    audit = "audit --limit 2 --policies as-delivered --probes margins --out run --quiet".split()
    assert output_of(command, *audit).endswith("report: run/report.html\n")


def test_the_module_works_beside_packages_of_the_same_names(interpreter: Path, project: Path) -> None:
    assert output_of(interpreter, "-m", "override_gap", "items", "check", "starter") == "208 items, no defect\n"


def test_a_script_works_beside_packages_of_the_same_names(interpreter: Path, project: Path) -> None:
    assert output_of(interpreter, "script.py") == "208 items\n"


def test_pytest_works_beside_packages_of_the_same_names(interpreter: Path, project: Path) -> None:
    assert "1 passed" in output_of(interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")


def test_a_notebook_works_beside_packages_of_the_same_names(
    interpreter: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = project / "jupyter" / "kernels" / "wheel"
    kernel.mkdir(parents=True)
    command = [str(interpreter), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "wheel", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", os.fspath(project / "jupyter"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    resources = {"metadata": {"path": str(project)}}
    NotebookClient(notebook, timeout=120, kernel_name="wheel", resources=resources).execute()
    assert notebook.cells[0].outputs[0]["text"] == "208 items\n"
