"""Imports point one way: reports -> analyses -> probes -> margins, without a circle; and nothing works at import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = {"margins": 0, "probes": 1, "analyses": 2, "reports": 3}
NAME = "override_gap"
FILES = sorted(file for package in ORDER for file in (ROOT / package).rglob("*.py"))


def module_of(file: Path) -> str:
    """A file's dotted name below `override_gap`."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def imported(file: Path) -> set[str]:
    """The project's own modules that a file imports anywhere in it, in functions too; type checking apart."""
    tree = ast.parse(file.read_text())
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    own = {name.removeprefix(f"{NAME}.") for name in found if name.startswith(f"{NAME}.")}
    return {name for name in own if name in MODULES}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_down_and_by_the_one_import_name(file: Path) -> None:
    own = ORDER[file.relative_to(ROOT).parts[0]]
    for name in imported(file):
        assert ORDER[name.split(".")[0]] <= own, f"{file}: {name} is above it"
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.split(".")[0] in ORDER for name in names), f"{file}: imported without {NAME}"


def circles() -> list[list[str]]:
    """Groups of files that import one another around a circle; imports inside functions count."""
    edges = {
        name: {m for m in imported(file) if m != name and not name.startswith(f"{m}.")}
        for name, file in MODULES.items()
    }
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:  # Tarjan's strongly connected components
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in edges[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for name in edges:
        if name not in index:
            visit(name)
    return found


def test_no_files_import_one_another_around_a_circle() -> None:
    assert circles() == []


def test_analyses_and_margins_open_no_model() -> None:
    for file in FILES:
        package = file.relative_to(ROOT).parts[0]
        if package in ("margins", "analyses"):
            assert "transformers" not in file.read_text(), f"{file} names transformers"


#: The folders and files of a package, from what knows most to what knows nothing of the rest.
FLOORS = {
    "probes": (
        {"applied"},
        {"run"},
        {"items", "readings", "sources"},
        {"attach"},
        {"smollm2"},
        {"subject"},
        {"organism"},
        {"store", "plan"},
        {"code_words"},
        {"timing", "environment", "errors", "catalogue", "export_kit", "source_hash"},
    ),
    "analyses": (
        {"run"},
        {"summary", "calibration"},
        {"planning"},
        {"until_decided"},
        {"hypotheses", "verdict_more"},
        {"one_budget"},
        {"tune"},
        {"hypothesis_tests"},
        {"verdict", "nulls", "cause_groups", "matched_retention", "robustness", "published", "hypothesis"},
        {"searched", "geometry_effects"},
        {"causes"},
        {"price", "equal_cost"},
        {"gain_path"},
        {"components", "layer_choice"},
        {
            "belief",
            "sensitivity",
            "one_item",
            "outcomes",
            "prior_gradient",
            "constancy",
            "criterion",
            "measures",
            "layers",
            "dose_response",
            "sampling",
            "strength",
            "adapter_geometry",
            "prior_dose",
            "neutral_text",
        },
        {"dose_answer"},
        {"dose_slopes", "stored_geometry"},
        {"adjusted_gradient", "pass_through", "dose_rows", "belief_questions"},
        {"compare"},
        {"refusals"},
        {"readings", "looks"},
        {"results", "paper", "mapped_columns"},
        {"stats"},
    ),
}


@pytest.mark.parametrize("package", FLOORS)
def test_the_folders_of_a_package_stand_on_one_another(package: str) -> None:
    floor = {name: height for height, names in enumerate(reversed(FLOORS[package])) for name in names}
    for module, file in MODULES.items():
        top, *inside = module.split(".")
        if top != package or not inside:
            continue
        for name in imported(file):
            other = name.split(".")
            if other[0] == package and len(other) > 1 and other[1] != inside[0]:
                assert floor[other[1]] < floor[inside[0]], f"{file.relative_to(ROOT)}: {name} does not stand below it"
