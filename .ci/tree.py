"""Write docs/tree.md, every file of the packages with the first sentence of its docstring: python tree.py."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tree.md"
FOLDERS = ("override_gap", "margins", "probes", "analyses", "reports")
WIDTH = 28
HEAD = """# The tree

For those who want to read or change the code: every folder and file, with one sentence on what it holds (the first of its
docstring; `make tree` writes this page). Imports point one way: reports -> analyses -> probes -> margins, from pages over
statistics and measurements down to definitions. The README has an order to read them in.

"""


def first_sentence(file: Path) -> str:
    """The first sentence of a file's docstring, without its full stop."""
    paragraph = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return re.split(r"(?<=[.?!])\s", " ".join(paragraph.split()))[0].removesuffix(".")


def lines_of(folder: Path, depth: int = 0) -> list[str]:
    """A folder, its files, then the folders in it, indented by depth."""
    indent = "  " * depth
    lines = [f"{f'{indent}{folder.name}/':<{WIDTH}} {first_sentence(folder / '__init__.py')}"]
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            lines.append(f"{f'{indent}  {file.name}':<{WIDTH}} {first_sentence(file)}")
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").is_file():
            lines += lines_of(inner, depth + 1)
    return lines


def page() -> str:
    """The whole page."""
    lines = [line for name in FOLDERS for line in lines_of(ROOT / name)]
    return f"{HEAD}```\n" + "\n".join(lines) + "\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
