"""The page as PDF, printed by headless Chromium if this machine has it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from override_gap.margins.whole_files import make_folder, write_whole

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def browser() -> str:
    """Path of the first browser found. Raises RuntimeError where there is none."""
    for name in BROWSERS:
        program = shutil.which(name)
        if program:
            return program
    raise RuntimeError(
        f"--format pdf needs a headless Chromium, and none of {', '.join(BROWSERS)} is on the PATH; "
        "install one, or print report.html to PDF from any browser"
    )


def write_pdf(page: Path, out: Path, program: str, limit_s: float = 120) -> Path:
    """Print a page to `out`. Raises RuntimeError where the browser writes no PDF within `limit_s` seconds."""
    make_folder(out.parent)
    with tempfile.TemporaryDirectory(prefix="override-gap-") as profile:
        printed = Path(profile) / "page.pdf"
        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            f"--user-data-dir={profile}", "--no-pdf-header-footer", f"--print-to-pdf={printed}", page.resolve().as_uri(),
        ]  # fmt: skip
        try:
            process = subprocess.run(command, capture_output=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired as fault:
            raise RuntimeError(
                f"{program} made no PDF of {page} within {limit_s:g} s; print the page from a browser instead"
            ) from fault
        if not printed.is_file() or not printed.read_bytes().startswith(b"%PDF"):
            message = process.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
            raise RuntimeError(f"{program} made no PDF of {page} (exit code {process.returncode}): {message}")
        return write_whole(out, lambda file: shutil.copyfile(printed, file))
