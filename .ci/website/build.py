"""Build the site from the pages of the repository: python .ci/website/build.py [SITE]. A warning is an error.

Sphinx and not MkDocs: its index is a script that an opened page loads, so that search works from files without a server; that of
MkDocs is fetched, which browsers refuse to pages opened as files. The theme, furo, brings all that it shows with it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import gallery
import stage
from sphinx.cmd.build import main

HERE = Path(__file__).resolve().parent


def html(pages: Path, site: Path) -> int:
    """Build a folder of pages into another with Sphinx; the exit code is not 0 where anything was warned of."""
    with tempfile.TemporaryDirectory() as trees:
        words = ["-q", "-W", "--keep-going", "-E", "-b", "html", "-c", HERE, "-d", trees, pages, site]
        return main([str(word) for word in words])


def build(site: Path) -> int:
    """Stage the pages, build them, and put the gallery's reports beside them; a build that fails leaves the former `site`."""
    if site.exists() and any(site.iterdir()) and not (site / ".buildinfo").is_file():
        print(
            f"{site}: a folder that no earlier build wrote; name an empty one or one that does not exist",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        pages, new = Path(scratch, "pages"), Path(scratch, "site")
        stage.stage(pages)
        if code := html(pages, new):
            return code
        gallery.publish(new)
        shutil.rmtree(site, ignore_errors=True)
        shutil.move(new, site)
    return 0


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1] if len(sys.argv) > 1 else "site")))
