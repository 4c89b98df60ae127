"""How fast a run's page is in a real browser: python -m benchmarks.page_speed RUN [--repeats N].

RUN is a run folder with its report, or a report. Printed are the size of the file; the time from the request until the
explorer's plot is drawn, beside that of an empty page; and for each filter the time from the change of its control until the
rows that are left are in the table and laid out (the plot is drawn in the same step, so that it counts as well). Every opening
is in a window of its own; filters are measured within the page, by performance.now. Exit code 1 where a median misses its goal.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench.arguments import positive_integer
from benchmarks.bench.record import Line, RecordError, single, spread
from override_gap.reports.export.pdf import BROWSERS

OPENS_S, FILTER_MS, SIZE_MB = 2.0, 50.0, 8.0
#: Filters by the names of their controls, each with the value that is chosen; "" is every item.
FILTERS = (("outcome", "failure"), ("condition", "0"), ("split", ""), ("succeeds under", "base"))
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
WATCH = """new MutationObserver((_, own) => {
  if (!document.querySelector("[data-drawn]")) return;
  window.drawnAt = performance.now();
  own.disconnect();
}).observe(document, { attributes: true, childList: true, subtree: true, attributeFilter: ["data-drawn"] });"""
OPEN = "for (let own = document.querySelector('#explorer'); own; own = own.parentElement) own.open = true"
ADD = """() => {
  const add = [...document.querySelectorAll("#explorer select")].find((own) => own.labels[0]?.firstChild.data === "filter by");
  add.value = "success";
  add.dispatchEvent(new Event("change"));
}"""
CHANGE = """([name, value, repeats]) => {
  const box = [...document.querySelectorAll("#explorer select")].find((own) => own.labels[0]?.firstChild.data === name);
  const before = box.value, body = document.querySelector("#explorer .list tbody"), spent = [];
  for (let turn = 0; turn < 2 * repeats; turn++) {
    const row = body.firstChild, from = performance.now();
    box.value = turn % 2 ? before : value;
    box.dispatchEvent(new Event("change"));
    document.body.offsetHeight; // the layout of the new rows
    spent.push(performance.now() - from);
    if (body.firstChild === row) throw new Error(`the filter ${name} left the table as it was`);
  }
  return spent;
}"""


def lines_of(report: Path, repeats: int) -> list[Line]:
    """The figures of one report. Raises RecordError where there is no browser."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        raise RecordError(f"the page's speed needs playwright and one of {', '.join(BROWSERS)}; install both")
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        empty = Path(folder) / "empty.html"
        empty.write_text("<!doctype html><body><p data-drawn='true'>", encoding="utf-8")
        opened: dict[Path, list[float]] = {report: [], empty: []}
        filtered: dict[str, list[float]] = {}
        for turn in range(repeats):
            for file, spent in opened.items():
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                spent.append(_opening(page, file))
                if file is report and turn == repeats - 1:
                    filtered = _filters(page, repeats)
                page.close()
        browser.close()
    return [
        Line("the page until its explorer is drawn", "wall clock", spread(opened[report]), "s", ("at most", OPENS_S)),
        Line("an empty page", "wall clock", spread(opened[empty]), "s"),
        *(
            Line(f"filter: {name}", "wall clock", spread(spent), "ms", ("at most", FILTER_MS))
            for name, spent in filtered.items()
        ),
        Line("the file", "size", single(report.stat().st_size / 1e6), "MB", ("at most", SIZE_MB)),
    ]


def _opening(page: Any, file: Path) -> float:
    """Seconds from the request until the plot is drawn."""
    page.add_init_script(WATCH)
    page.goto(file.resolve().as_uri())
    page.evaluate(OPEN)  # in a shut fold it is drawn once that is opened
    page.locator("[data-drawn]").wait_for(state="attached")
    return page.evaluate("window.drawnAt") / 1000


def _filters(page: Any, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every change of each filter, and back."""
    page.evaluate(ADD)
    return {name: page.evaluate(CHANGE, [name, value, repeats]) for name, value in FILTERS}


def main(argv: Sequence[str]) -> int:
    """Print a line per figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page_speed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder with its report.html, or a report")
    parser.add_argument("--repeats", type=positive_integer, default=7, help="openings, and changes of each filter")
    args = parser.parse_args(argv)
    report = args.run / "report.html" if args.run.is_dir() else args.run
    if not report.is_file():
        parser.error(f"{report}: no such report; make it with `override-gap report {args.run}`")
    try:
        lines = lines_of(report, args.repeats)
    except RecordError as fault:
        parser.error(str(fault))
    for line in lines:
        goal = "" if line.goal is None else f"  {line.goal[0]} {line.goal[1]:g}: {'met' if line.met else 'MISSED'}"
        v = line.value
        print(f"{line.measure:<40} {v['median']:.3g} [{v['low']:.3g}, {v['high']:.3g}] {line.unit}{goal}")
    return int(any(line.met is False for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
