"""The page as PDF, printed by a headless Chromium where this machine has one."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def browser() -> str:
    """Path of the first browser found. Raises RuntimeError where there is none."""
    for name in BROWSERS:
        found = shutil.which(name)
        if found:
            return found
    raise RuntimeError(
        f"--format pdf needs a headless Chromium, and none of {', '.join(BROWSERS)} is on the PATH; "
        "install one, or print report.html to PDF from any browser"
    )


def write_pdf(page: Path, out: Path, program: str, limit_s: float = 120) -> Path:
    """Print a page. Raises RuntimeError where the browser leaves no PDF."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        made = Path(profile) / "page.pdf"
        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            f"--user-data-dir={profile}", "--no-pdf-header-footer", f"--print-to-pdf={made}", page.resolve().as_uri(),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired as fault:
            raise RuntimeError(
                f"{program} made no PDF of {page} within {limit_s:g} s; print the page by hand"
            ) from fault
        if not made.is_file() or not made.read_bytes().startswith(b"%PDF"):
            said = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
            raise RuntimeError(f"{program} made no PDF of {page} (exit code {done.returncode}): {said}")
        shutil.copyfile(made, out)
    return out
