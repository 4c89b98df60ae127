"""The page as PDF, printed by headless Chromium if this machine has it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from override_gap.margins.scratch import scratch, scratch_beside
from override_gap.margins.whole_files import is_stream, make_folder, write_bytes

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
NEEDED_BYTES = 32 * 2**20
"""Room for the browser's profile and the PDF, several times what they take."""
_PR_SET_PDEATHSIG = 1


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
    """Print a page to `out`. Raises RuntimeError where the browser writes no PDF within `limit_s` seconds.

    The browser's profile and its temporary files lie beside `out`, under the temporary name that `out` has, until it ends.
    """
    make_folder(out.parent)
    with _scratch_for(out) as folder:
        content = _printed(page, out, program, folder.resolve(), limit_s)
    return write_bytes(out, content)


@contextmanager
def _scratch_for(out: Path) -> Iterator[Path]:
    if is_stream(out):
        with scratch() as name:
            yield Path(name)
    else:
        with scratch_beside(out) as folder:
            yield folder


def _printed(page: Path, out: Path, program: str, folder: Path, limit_s: float) -> bytes:
    """The PDF of a page, printed with nothing written outside `folder`."""
    printed, profile, own = folder / "page.pdf", folder / "profile", "tmp"
    make_folder(folder / own)
    command = [
        os.path.abspath(program), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", f"--user-data-dir={profile}", "--no-pdf-header-footer", f"--print-to-pdf={printed}",
        page.resolve().as_uri(),
    ]  # fmt: skip
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "TMPDIR": own},  # not its whole path: that of a socket has at most 107 characters
        start_new_session=True,
        preexec_fn=_ends_with(os.getpid()),
    ) as process:
        try:
            _, said = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired as fault:
            raise RuntimeError(
                f"{program} made no PDF of {page} within {limit_s:g} s; print the page from a browser instead"
            ) from fault
        finally:
            with contextlib.suppress(ProcessLookupError, AttributeError):  # it ended with all of its own; no Unix
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
    content = printed.read_bytes() if printed.is_file() else b""
    if not content.startswith(b"%PDF"):
        message = said.decode("utf-8", "replace").strip().split("\n")[-1]
        full = shutil.disk_usage(folder).free < NEEDED_BYTES or -process.returncode == getattr(signal, "SIGXFSZ", 0)
        remedy = f"; make room for {out}, or write to another disk" if full else ""
        raise RuntimeError(f"{program} made no PDF of {page} (exit code {process.returncode}): {message}{remedy}")
    return content


def _ends_with(parent: int) -> Callable[[], None] | None:
    """What a child does first so that it is killed when this process ends, however it does; None where no system has that."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)

    def ask() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended by now
            os._exit(1)

    return ask
