"""The site that `make site` builds: whole without a network, searched without a server, refused where a link leads nowhere."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from override_gap.reports.export.pdf import BROWSERS

ROOT = Path(__file__).parent.parent
BUILD = ROOT / ".ci" / "website" / "build.py"
#: The environment that `make site` made, or this one where the extra is installed in it.
OWN = ROOT / ".venv-site" / "bin" / "python"
HERE = all(importlib.util.find_spec(name) for name in ("sphinx", "myst_parser", "furo"))
PYTHON = OWN if OWN.is_file() else Path(sys.executable) if HERE else None
PROGRAM = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_extra = pytest.mark.skipif(PYTHON is None, reason="the extra `site` is not installed: `make site` installs it")
#: Elements by which a page loads something when it is opened; a link is only followed.
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;\\\"]+)", text, re.M))


def test_the_extra_is_pinned_and_installed_by_hash() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["site"]
    held = (ROOT / ".ci" / "site.txt").read_text()
    assert pins("\n".join(extra)).items() <= pins(held).items(), "run `make hashes`"
    assert len(pins("\n".join(extra))) == len(extra)
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=[\w.-]+==)", held.strip()))
    assert not re.search(r"://|index-url|find-links", held)


class Loaded(HTMLParser):
    """What a page loads, the places that it has, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        self.loads += [held[LOADED[tag]] or ""] if held.get(LOADED.get(tag, "")) else []
        self.links += [held["href"] or ""] if tag == "a" and "href" in held else []
        self.places |= {held["id"] or ""} if "id" in held else set()


def built(pages: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Sphinx on a folder of pages, as the site is built."""
    code = f"import sys; sys.path.insert(0, {str(BUILD.parent)!r}); from pathlib import Path; import build\n"
    code += f"sys.exit(build.html(Path({str(pages)!r}), Path({str(site)!r})))"
    return subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, check=False)


@needs_extra
@pytest.mark.parametrize("link", ["missing.md", "other.md#nowhere"])
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, link: str) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    tree = "```{toctree}\nother\n```\n"
    (pages / "other.md").write_text("# Other\n\n## Somewhere\n\nWords.\n")
    (pages / "index.md").write_text(f"# Pages\n\n[right](other.md#somewhere)\n\n{tree}")
    assert built(pages, tmp_path / "right").returncode == 0
    (pages / "index.md").write_text(f"# Pages\n\n[wrong]({link})\n\n{tree}")
    ran = built(pages, tmp_path / "wrong")
    assert ran.returncode != 0
    assert "xref_missing" in ran.stderr
    assert link.split("#")[-1] in ran.stderr


@needs_extra
def test_a_folder_that_no_build_wrote_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("kept")
    ran = subprocess.run([str(PYTHON), str(BUILD), str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "name an empty one" in ran.stderr
    assert (tmp_path / "theirs.txt").read_text() == "kept"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once."""
    folder = tmp_path_factory.mktemp("built") / "site"
    ran = subprocess.run([str(PYTHON), str(BUILD), str(folder)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture(scope="module")
def contents(site: Path) -> dict[Path, Loaded]:
    return {file: Loaded(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}


@needs_extra
def test_every_page_is_there_and_loads_only_what_lies_beside_it(contents: dict[Path, Loaded], site: Path) -> None:
    names = {file.relative_to(site).as_posix() for file in contents}
    assert {"index.html", "docs/glossary.html", "docs/python.html", "docs/first_look.html", "gallery.html"} <= names
    for file, page in contents.items():
        for target in page.loads:
            parts = urlsplit(target)
            assert parts.scheme in ("", "data"), f"{file.name} loads {target}"
            assert not parts.netloc, f"{file.name} loads {target}"
            assert parts.scheme or not parts.path or (file.parent / unquote(parts.path)).is_file(), (
                f"{file.name} lacks {target}"
            )
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


@needs_extra
def test_every_link_and_anchor_of_the_built_pages_is_there(contents: dict[Path, Loaded]) -> None:
    lost = []
    for file, page in contents.items():
        for target in page.links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = file if not parts.path else (file.parent / unquote(parts.path)).resolve()
            if not there.is_file() or (
                parts.fragment and there in contents and unquote(parts.fragment) not in contents[there].places
            ):
                lost.append(f"{file.name}: {target}")
    assert lost == []


@needs_extra
@pytest.mark.skipif(PROGRAM is None, reason=f"none of {', '.join(BROWSERS)} here: install chromium")
def test_search_from_a_file_finds_a_page_and_the_pages_request_nothing_else(site: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
    asked: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        faults: list[str] = []
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        for name in ("index", "gallery", "docs/definitions", "docs/policies", "docs/first_look", "docs/python"):
            page.goto((site / f"{name}.html").as_uri())
        page.goto((site / "search.html").as_uri() + "?q=critical+gain")
        page.wait_for_selector("ul.search li a")
        found = page.eval_on_selector_all("ul.search li a", "links => links.map(link => link.getAttribute('href'))")
        browser.close()
    assert any("definitions.html" in link for link in found)
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data"}
    assert faults == []


@needs_extra
def test_a_build_that_fails_leaves_the_former_site(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / ".buildinfo").write_text("")
    (site / "index.html").write_text("former")
    code = f"import sys; sys.path.insert(0, {str(BUILD.parent)!r}); from pathlib import Path; import build, stage\n"
    code += (
        "stage.stage = lambda pages: (pages.mkdir(), (pages / 'index.md').write_text('# P\\n\\n[x](missing.md)\\n'))\n"
    )
    code += f"sys.exit(build.build(Path({str(site)!r})))"
    ran = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert (site / "index.html").read_text() == "former"
