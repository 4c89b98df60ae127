"""The gallery: reports of real runs, made by their commands into runs/gallery, shown with a picture of their first screen.

    python .ci/website/gallery.py [--organism] [--rewrite] [--command .venv/bin/override-gap]

makes what is missing; --organism leaves out the runs of the fetched model, which take minutes. A finished report stays, unless
--rewrite has it written again, by this code from the stored readings.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "runs" / "gallery"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SCREEN = "1280,800"


@dataclass(frozen=True)
class Report:
    """One page of the gallery: the command that makes it writes the run folder or file `target` in the cache."""

    name: str
    title: str
    about: str
    command: str
    target: str
    needs: str = "organism"
    shown: bool = True

    @property
    def page(self) -> Path:
        """The report itself."""
        file = CACHE / self.target
        return file if file.suffix else file / "report.html"


REPORTS = (
    Report(
        "default-audit",
        "The default audit",
        "What `make audit` writes: the tiny shipped model (the organism), whose knowledge is known, with the method that was "
        "trained for it. Conflicts fail because the adapters are too weak, as this model was built to show.",
        "audit --out {cache}/organism",
        "organism",
    ),
    Report(
        "fitted",
        "A second method on the same model",
        "Adapters fitted to each document by gradient descent, on the same questions.",
        "audit --adapters fitted:steps=40,lr=1e-2 --policies as-delivered,uniform-0.0625,uniform-0.125,uniform-0.25,uniform-0.5 "
        "--probes margins --out {cache}/organism-fitted",
        "organism-fitted",
        shown=False,
    ),
    Report(
        "comparison",
        "Two methods compared",
        "The method of the default audit beside adapters that were fitted to each document by gradient descent: the same "
        "questions, each method under one budget of unrelated answers kept.",
        "compare {cache}/organism {cache}/organism-fitted --keep 0.95 --out {cache}/comparison.html",
        "comparison.html",
    ),
    Report(
        "smollm2",
        "A real model",
        "SmolLM2-135M-Instruct, a language model as it was published, with the hypernetwork that is shipped for it and the whole "
        "benchmark of 668 questions.",
        "audit --subject smollm2 --adapters hypernetwork --items benchmark --policies as-delivered,uniform,slb "
        "--out {cache}/smollm2",
        "smollm2",
        needs="smollm2",
    ),
)
HEAD = """# Gallery

What a report looks like: the pages that this tool wrote for real runs, each as one file that opens in a browser and needs no
network. Click a picture to read the report. `make gallery` makes them all; [reading the report](docs/reading-the-report.md)
explains every figure.

"""


def make(command: str, needs: tuple[str, ...], rewrite: bool) -> None:
    """Run the command of every report that is missing, in order: a comparison reads the runs before it."""
    for report in REPORTS:
        words = report.command.format(cache=CACHE.relative_to(ROOT)).split()
        if report.page.is_file():
            if not rewrite:
                continue
            if words[0] == "audit":
                words = ["report", words[-1]]
        elif report.needs not in needs:
            continue
        print(f"gallery: override-gap {' '.join(words)}", flush=True)
        subprocess.run([command, *words], cwd=ROOT, check=True)


def picture(page: Path, image: Path) -> bool:
    """A PNG of a page's first screen; false where no browser is installed."""
    if image.is_file() and image.stat().st_mtime > page.stat().st_mtime:
        return True
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        return False
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    where = [f"--window-size={SCREEN}", f"--screenshot={image}", page.resolve().as_uri()]
    subprocess.run([program, *flags, *where], check=False, capture_output=True, timeout=120)
    return image.is_file()


def page() -> str:
    """The page of the gallery; `publish` puts what it links beside it."""
    cards, missing = [], []
    for report in REPORTS:
        line = report.command.format(cache=CACHE.relative_to(ROOT))
        if not report.shown:
            continue
        if not report.page.is_file():
            missing.append(f"- {report.title}: `override-gap {line}`")
            continue
        seen, image = "", CACHE / f"{report.name}.png"
        if picture(report.page, image):
            seen = f'<img src="gallery/{image.name}" alt="The first screen of the report">'
        link = f'<a class="report" href="gallery/{report.name}.html">{seen}<span>Open the report</span></a>'
        cards.append(f"## {report.title}\n\n{report.about}\n\n{link}\n\n```sh\noverride-gap {line}\n```\n")
    if missing:
        cards.append("## Not made yet\n\n" + "\n".join(missing) + "\n")
    return HEAD + "\n".join(cards)


def publish(site: Path) -> None:
    """Copy the finished reports and their pictures into the built site."""
    (site / "gallery").mkdir(parents=True, exist_ok=True)
    for report in REPORTS:
        if report.shown and report.page.is_file():
            shutil.copyfile(report.page, site / "gallery" / f"{report.name}.html")
            image = CACHE / f"{report.name}.png"
            if image.is_file():
                shutil.copyfile(image, site / "gallery" / image.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--organism", action="store_true", help="only the runs of the shipped model")
    parser.add_argument("--rewrite", action="store_true", help="write the finished reports again from their readings")
    parser.add_argument("--command", default="override-gap", help="the command line of this package")
    options = parser.parse_args()
    make(options.command, ("organism",) if options.organism else ("organism", "smollm2"), options.rewrite)
