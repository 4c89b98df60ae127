"""The pages as Sphinx reads them: copied into one folder, with links to source files led to pages that show those files."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import gallery
import navigation
import notebook
import reference

ROOT = navigation.ROOT
HOME = Path("README.md")
REFERENCE = Path("docs/python.md")
GALLERY = Path("gallery.md")
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=(?:#[^)\s]*)?\))")
FENCE = re.compile(r"^(```+|~~~+).*?^\1\s*$", re.M | re.S)
LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".sh": "sh", ".c": "c"}


def pages() -> list[Path]:
    """Every page of the repository that the site shows, as paths from its root."""
    own = sorted(file.relative_to(ROOT) for file in (ROOT / "docs").rglob("*.md"))
    beside = [page for page in navigation.all_pages() if page.suffix == ".md"]
    return list(dict.fromkeys([HOME, *own, *beside]))


def staged(page: Path) -> Path:
    """Where a page lies in the folder that Sphinx reads: the README is the front page, a notebook becomes Markdown."""
    return Path("index.md") if page == HOME else page.with_suffix(".md")


def _source_page(file: Path) -> Path:
    return Path("source") / file.with_name(f"{file.name}.md")


def _code_page(file: Path) -> str:
    text = (ROOT / file).read_text(encoding="utf-8").rstrip("\n")
    return f"---\norphan: true\n---\n# {file}\n\n`````{LANGUAGES.get(file.suffix, '')}\n{text}\n`````\n"


def relinked(page: Path, text: str, shown: set[Path], files: set[Path]) -> str:
    """A page's text with every link led to the staged place of what it names; source files that it names are added to `files`."""
    at = staged(page).parent

    def target(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(page.parent / match[1]))
        if path in shown:
            return os.path.relpath(staged(path), at)
        if (ROOT / path).is_file() and path.suffix in LANGUAGES:
            files.add(path)
            return os.path.relpath(_source_page(path), at)
        if path == Path("docs"):
            return os.path.relpath(navigation.INDEX, at)
        return os.path.relpath(path, at)

    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(target, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join(parts) + LINK.sub(target, text[end:])


def _tree(caption: str, names: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}" if caption else "", "", *names, "```", ""])


def _navigation() -> str:
    """The hidden tables of contents of the front page, one per section of docs/README.md."""
    trees = []
    for section in navigation.sections():
        names = [staged(page).with_suffix("").as_posix() for page in section.pages]
        extra = {"Start": [GALLERY], "Reference": [REFERENCE]}.get(section.name, [])
        trees.append(_tree(section.name, names + [page.with_suffix("").as_posix() for page in extra]))
    return "\n".join(["", _tree("", ["docs/README"]), *trees])


def stage(into: Path) -> None:
    """Write all pages, pictures and generated pages into a folder that is emptied first."""
    shutil.rmtree(into, ignore_errors=True)
    shown = {*pages(), *(page for page in navigation.all_pages() if page.suffix == ".ipynb")}
    files: set[Path] = set()
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in shown if page.suffix == ".md"}
    for page in shown - set(texts):
        texts[page] = notebook.page(ROOT / page, into / page.parent / "cells")
    for page, text in texts.items():
        whole = relinked(page, text, shown, files)
        if page == HOME:
            whole += _navigation()
        if below := navigation.children(page):
            whole += "\n" + _tree("", [child.stem for child in below])
        _write(into / staged(page), whole)
    for file in files:
        _write(into / _source_page(file), _code_page(file))
    _write(into / REFERENCE, reference.page())
    _write(into / GALLERY, gallery.page())
    shutil.copytree(ROOT / "docs" / "figures", into / "docs" / "figures", dirs_exist_ok=True)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
