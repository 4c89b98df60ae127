"""A command loads no heavy library before its arguments and paths are checked. benchmarks/start.py measures the times."""

from __future__ import annotations

import subprocess
import sys

import pytest

from override_gap.reports.cli.list import KINDS
from override_gap.reports.cli.main import VERBS

#: Each of these takes a tenth of a second to several seconds to import.
HEAVY = frozenset(
    "torch transformers transformer_lens peft accelerate jaxtyping numpy pandas pyarrow scipy statsmodels seaborn "
    "matplotlib jinja2 rich vl_convert shtab fsspec ray datasets".split()
)
RUN = "import sys; from override_gap.reports.cli.main import main; code = main(sys.argv[1:]); print('', code, *sys.modules)"


def exit_code_and_libraries(*words: str) -> tuple[int, set[str]]:
    """A command's exit code, and which heavy libraries a fresh interpreter has loaded when it ends."""
    ran = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, check=True)
    code, *modules = ran.stdout.rsplit("\n", 2)[-2].split()
    return int(code), {module.split(".")[0] for module in modules} & HEAVY


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_command_loads_no_heavy_library(verb: str) -> None:
    assert exit_code_and_libraries(verb, "--help") == (0, set())


def test_the_general_help_and_the_version_load_no_heavy_library() -> None:
    assert exit_code_and_libraries("--help") == (0, set())
    assert exit_code_and_libraries("--version") == (0, set())


@pytest.mark.parametrize("kind", KINDS)
def test_list_loads_no_heavy_library(kind: str) -> None:
    assert exit_code_and_libraries("list", kind) == (0, set())


@pytest.mark.parametrize(
    "words",
    [
        ["report", "nowhere"],
        ["report", "nowhere", "--format", "docx"],
        ["compare", "nowhere", "elsewhere"],
        ["index", "nowhere"],
        ["items", "check", "nowhere.jsonl"],
        ["organism", "train", "--out", __file__],
        ["calibrate", "--seeds", "0"],
    ],
    ids=" ".join,
)
def test_a_wrong_path_or_argument_loads_no_heavy_library(words: list[str]) -> None:
    assert exit_code_and_libraries(*words) == (2, set())


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = f"import sys, override_gap; print(*({set(HEAVY)} & {{name.split('.')[0] for name in sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
