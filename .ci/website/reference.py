"""The page of the front door: each name that `import override_gap` offers, with its signature and docstring.

It is read from the source, so that nothing of the package, and no torch, is imported when the site is built.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The order in which the page explains the names; a test compares it with `__all__`.
ORDER = {
    "Measure": ("audit", "measure", "load", "report", "compare", "tune", "figures"),
    "Questions and documents": ("Item", "Document", "read_items", "open_items"),
    "Models and methods": ("open_subject", "open_source", "applied"),
    "Adapters": ("Adapter", "AdapterSource", "LowRank", "Dense", "Vector", "Prefix"),
    "Definitions and settings": ("Margins", "Plan"),
}
HEAD = """# From Python

What `import override_gap as og` offers to a notebook or script: the functions that measure, read and report, and the objects
that they take. Each entry is the docstring of the code itself. For a first example see [the overview](../index.md), for the
words [the glossary](glossary.md).
"""


def homes() -> dict[str, tuple[Path, str]]:
    """Each public name with the file that defines it and its name there, as the front door states them."""
    tree = ast.parse((ROOT / "override_gap" / "__init__.py").read_text(encoding="utf-8"))
    table = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(name, ast.Name) and name.id == "_HOME" for name in node.targets)
    )
    found = {}
    for name, home in ast.literal_eval(table).items():
        module, _, attribute = home.partition(":")
        file = ROOT.joinpath(*module.split("."))
        inner = file / name
        file = inner if inner.is_dir() else file
        found[name] = (file / "__init__.py" if file.is_dir() else file.with_suffix(".py"), attribute or name)
    return found


def _definition(file: Path, name: str) -> ast.FunctionDef | ast.ClassDef | ast.Module:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
    return tree


def _signature(node: ast.FunctionDef, skip: int = 0) -> str:
    arguments = node.args
    arguments.args = arguments.args[skip:]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(arguments)}){returns}"


def _fields(node: ast.ClassDef) -> str:
    """What a dataclass is made with."""
    own = [
        ast.unparse(line)
        for line in node.body
        if isinstance(line, ast.AnnAssign) and not ast.unparse(line).startswith("_")
    ]
    return f"({', '.join(own)})" if own else ""


def _docstring(node: ast.AST) -> str:
    """A docstring as Markdown: angle brackets of prose are not HTML."""
    text = ast.get_docstring(node) or ""  # type: ignore[arg-type]
    lines = [line if line.startswith("    ") else re.sub(r"<(?=\w)", "&lt;", line) for line in text.splitlines()]
    return "\n".join(lines)


def entry(name: str, file: Path, attribute: str) -> str:
    """One name: a function, a class with its public methods, or a module."""
    node = _definition(file, attribute)
    if isinstance(node, ast.Module):
        return f"````{{py:module}} override_gap.{name}\n````\n\n{_docstring(node)}\n"
    if isinstance(node, ast.FunctionDef):
        return f"````{{py:function}} {name}{_signature(node)}\n\n{_docstring(node)}\n````\n"
    parts = [f"`````{{py:class}} {name}{_fields(node)}\n\n{_docstring(node)}\n"]
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
            kinds = {ast.unparse(mark) for mark in method.decorator_list}
            if "property" in kinds:
                head = f"py:property}} {method.name}"
            else:
                options = (
                    ":classmethod:\n"
                    if "classmethod" in kinds
                    else ":staticmethod:\n"
                    if "staticmethod" in kinds
                    else ""
                )
                head = f"py:method}} {method.name}{_signature(method, 0 if 'staticmethod' in kinds else 1)}\n{options}".rstrip()
            parts.append(f"````{{{head}\n\n{_docstring(method)}\n````\n")
    return "\n".join(parts) + "`````\n"


def page() -> str:
    """The whole page."""
    found = homes()
    blocks = [HEAD, "```{py:currentmodule} override_gap\n```\n"]
    for heading, names in ORDER.items():
        blocks += [f"## {heading}\n", *(entry(name, *found[name]) for name in names if name in found)]
    return "\n".join(blocks)
