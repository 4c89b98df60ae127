"""The site's navigation: the sections of docs/README.md, and the pages that each links, in that order."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INDEX = Path("docs/README.md")
LINK = re.compile(r"\]\(([^)#:\s]+\.(?:md|ipynb))(?:#[^)\s]*)?\)")


@dataclass(frozen=True)
class Section:
    """One heading of the navigation: its name, and its pages as paths from the repository."""

    name: str
    pages: tuple[Path, ...]


def linked(page: Path) -> tuple[Path, ...]:
    """The pages that a page links, as paths from the repository, in its order and once each."""
    return _links(page, (ROOT / page).read_text(encoding="utf-8"))


def _links(page: Path, text: str) -> tuple[Path, ...]:
    targets = (Path(os.path.normpath(page.parent / link)) for link in LINK.findall(text))
    return tuple(dict.fromkeys(target for target in targets if target != page))


def sections() -> list[Section]:
    """Every `##` heading of docs/README.md with the pages that its table links."""
    parts = re.split(r"^## (.+)$", (ROOT / INDEX).read_text(encoding="utf-8"), flags=re.M)[1:]
    return [
        Section(name, _links(INDEX, text))
        for name, text in zip(parts[::2], parts[1::2], strict=True)
        if LINK.search(text)
    ]


def children(page: Path) -> tuple[Path, ...]:
    """The pages beneath a folder's README: those that it links in its own folder."""
    if page.name != "README.md" or page == INDEX:
        return ()
    return tuple(child for child in linked(page) if child.parent == page.parent)


def all_pages() -> list[Path]:
    """Every page of the navigation."""
    return [page for section in sections() for own in section.pages for page in (own, *children(own))]
