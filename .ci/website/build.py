"""Build the site from the pages of the repository: python .ci/website/build.py SITE. A warning is an error."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import gallery
import stage
from sphinx.cmd.build import main

HERE = Path(__file__).resolve().parent


def build(site: Path) -> int:
    """Stage the pages, build them into the folder `site`, and put the gallery's reports beside them."""
    with tempfile.TemporaryDirectory() as scratch:
        pages, trees = Path(scratch, "pages"), Path(scratch, "trees")
        stage.stage(pages)
        words = ["-q", "-W", "--keep-going", "-E", "-b", "html", "-c", HERE, "-d", trees, pages, site]
        code = main([str(word) for word in words])
    if code == 0:
        gallery.publish(site)
    return code


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1] if len(sys.argv) > 1 else "site")))
