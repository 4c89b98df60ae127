"""How fast a run's page is in a real browser: python -m benchmarks.page_speed RUN [--repeats N].

RUN is a run folder with its report, or a report. Printed are the size of the file; the time from the request until the page is
loaded as it opens, with its folds shut, and until the explorer's plot is drawn where its fold is opened at once, beside that of
an empty page; and for each filter the time from the change of its control until the
rows that are left are in the table and laid out (the plot is drawn in the same step, so that it counts as well), by
performance.now. The goals are for these. Beside each stands the processor time of the page's main thread, which other work on
the machine does not lengthen. Every opening is in a window of its own. Exit code 1 where a median misses its goal.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench.arguments import positive_integer
from benchmarks.bench.record import Line, RecordError, single, spread
from override_gap.reports.export.pdf import BROWSERS

OPENS_S, FILTER_MS, SIZE_MB = 2.0, 50.0, 8.0
SHUT = "the page as it opens, folds shut"
OPENING = "the page until its explorer is drawn"
CHANGES = 5
"""And as many back, in each of the repeats."""
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
        found: dict[str, list[tuple[float, float]]] = {}
        for turn in range(repeats):
            for name, file in ((SHUT, report), (OPENING, report), ("an empty page", empty)):
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                spent = page.context.new_cdp_session(page)
                spent.send("Performance.enable", {"timeDomain": "threadTicks"})
                found.setdefault(name, []).append(
                    (_loading(page, file) if name == SHUT else _opening(page, file), _processor(spent))
                )
                if name == OPENING and turn == repeats - 1:
                    found |= _filters(page, spent, repeats)
                page.close()
        browser.close()
    lines = []
    for name, pairs in found.items():
        scale, unit = (1000, "ms") if name.startswith("filter") else (1, "s")
        goal = {SHUT: OPENS_S, OPENING: OPENS_S, "an empty page": None}.get(name, FILTER_MS)
        wall, processor = ([scale * own[side] for own in pairs] for side in (0, 1))
        lines.append(Line(name, "wall clock", spread(wall), unit, None if goal is None else ("at most", goal)))
        lines.append(Line(name, "processor", spread(processor), unit))
    return [*lines, Line("the file", "size", single(report.stat().st_size / 1e6), "MB", ("at most", SIZE_MB))]


def _processor(session: Any) -> float:
    """Seconds of processor time of the page's main thread so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(own["value"] for own in metrics if own["name"] == "TaskDuration")


def _loading(page: Any, file: Path) -> float:
    """Seconds from the request until the page is loaded, its scripts included."""
    page.goto(file.resolve().as_uri())
    return page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000


def _opening(page: Any, file: Path) -> float:
    """Seconds from the request until the plot is drawn."""
    page.add_init_script(WATCH)
    page.goto(file.resolve().as_uri())
    page.evaluate(OPEN)  # in a shut fold it is drawn once that is opened
    page.locator("[data-drawn]").wait_for(state="attached")
    return page.evaluate("window.drawnAt") / 1000


def _filters(page: Any, session: Any, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of a change of each filter, once per repeat: the median by the clock, the mean of the processor."""
    page.evaluate(ADD)
    found: dict[str, list[tuple[float, float]]] = {}
    for name, value in FILTERS:
        for _ in range(repeats):
            before = _processor(session)
            spent = page.evaluate(CHANGE, [name, value, CHANGES])
            processor = (_processor(session) - before) / len(spent)
            found.setdefault(f"filter: {name}", []).append((median(spent) / 1000, processor))
    return found


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
        print(
            f"{line.measure:<38} {line.against:<11} {v['median']:.3g} [{v['low']:.3g}, {v['high']:.3g}] {line.unit}{goal}"
        )
    return int(any(line.met is False for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
