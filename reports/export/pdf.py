"""The page as PDF, printed by headless Chromium if this machine has it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from override_gap.margins.scratch import scratch, scratch_beside
from override_gap.margins.whole_files import is_stream, make_folder, write_bytes, write_text

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
NEEDED_BYTES = 32 * 2**20
"""Room for the browser's profile and the PDF, several times what they take."""
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-pdf-header-footer",
    # The page needs no network, and a browser asks for updates, models and accounts: no name is looked up.
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-domain-reliability",
    "--disable-extensions", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
_SCRIPT = re.compile(r"<script\b.*?</script>\s*", re.DOTALL)
_CLOSED = re.compile(r"<details\b(?! open)")
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


def printable(html: str) -> str:
    """The page without its scripts and their data, with every fold open.

    They draw the explorer, which is not printed. Whether it is drawn by the time that the browser prints is chance, and the
    names of a PDF's elements count those that it made: without them the same page gives the same PDF but for its dates.
    """
    return _CLOSED.sub("<details open", _SCRIPT.sub("", html))


def _printed(page: Path, out: Path, program: str, folder: Path, limit_s: float) -> bytes:
    """The PDF of a page, printed with nothing read from it or written to it but `folder`."""
    copy, printed, profile, own = folder / "page.html", folder / "page.pdf", folder / "profile", "tmp"
    make_folder(folder / own)
    write_text(copy, printable(page.read_text(encoding="utf-8")))
    command = [
        os.path.abspath(program), *FLAGS, f"--user-data-dir={profile}", f"--print-to-pdf={printed}", copy.as_uri(),
    ]  # fmt: skip
    instead = f"print {page} from a browser instead"
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=_environment(profile, own),
            start_new_session=True,
            preexec_fn=_ends_with(os.getpid()),
        )
    except OSError as fault:
        raise RuntimeError(f"{program}: cannot be run: {fault.strerror}; {instead}") from fault
    with process:
        try:
            _, said = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired as fault:
            raise RuntimeError(f"{program} made no PDF of {page} within {limit_s:g} s; {instead}") from fault
        finally:
            with contextlib.suppress(ProcessLookupError, AttributeError):  # it ended with all of its own; no Unix
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
    content = printed.read_bytes() if printed.is_file() else b""
    if not (content.startswith(b"%PDF") and b"%%EOF" in content[-1024:]):
        message = said.decode("utf-8", "replace").strip().split("\n")[-1] or "it said nothing"
        full = shutil.disk_usage(folder).free < NEEDED_BYTES or -process.returncode == getattr(signal, "SIGXFSZ", 0)
        remedy = f"make room for {out}, or write to another disk" if full else instead
        raise RuntimeError(f"{program} made no PDF of {page} (exit code {process.returncode}): {message}; {remedy}")
    return content


def _environment(profile: Path, own: str) -> dict[str, str]:
    """The browser's environment: its settings, caches, crash reports and temporary files lie beside the PDF, too."""
    return {
        **os.environ,
        "TMPDIR": own,  # not its whole path: that of a socket has at most 107 characters
        "XDG_CONFIG_HOME": str(profile),
        "XDG_CACHE_HOME": str(profile),
    }


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
