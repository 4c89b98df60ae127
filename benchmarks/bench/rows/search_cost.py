"""What the verdict's search costs, in rows and tokens run through the model, beside the search that it replaced."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import override_gap as og
from benchmarks.bench.record import Line, single
from override_gap.probes.readings import adapted, prior, unrelated
from override_gap.probes.subject import forward as passes

TITLE = "The verdict's search"
LIMITS = (
    "Rows and tokens that go through the model beside the sweep of uniform gains, counted at `subject.forward` on the "
    "organism's 620 items; tokens are without padding, and a pass that resumes at a layer counts by the share of layers that "
    "it runs. Before there was a search the verdict's shares came from the sweep, and critical gains from a grid up to gain 4 "
    "halved five times, for every item: 3,001 rows of 19,369 tokens, counted once by the same wrapper at commit 38e5e6a "
    "(probes `margins,critical` less `margins`). Now every failure is searched until it flips with content or the model breaks, "
    "each document's adapter is read on eight unrelated rows at every gain up to the one that breaks it, and critical gains "
    "start from what was read. A null is searched likewise; its row per item at gain 1 belongs to the conditions."
)
SUBJECTS = ("organism",)
BEFORE = {"rows": 3001, "tokens": 19369}
SWEEP = "as-delivered,uniform"
NULLS = {
    "own adapters": "",
    "own and null-other": ",null-other",
    "own and three nulls": ",null-other,null-mean,null-random",
}
MOST = 3


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row; counts do not vary, so each is taken once."""
    lines = []
    for name, nulls in NULLS.items():
        searched = counted(subject, SWEEP + nulls, "margins,search,critical") - counted(
            subject, SWEEP + nulls, "margins"
        )
        for what, before in BEFORE.items():
            goal = ("at most", MOST)
            measure = f"search of {name} and critical gains, {what}"
            lines.append(Line(measure, f"{before:,} before", single(searched[what] / before), goal=goal))
            lines.append(Line(measure, "counted", single(searched[what]), what))
    return lines, {"items": 620, "policies": SWEEP}


def counted(subject: str, policies: str, probes: str) -> Counter[str]:
    """Rows and tokens of an audit's passes with these probes; answers in words are no part of it."""
    with counting() as count, tempfile.TemporaryDirectory() as folder:
        og.audit(subject, policies=policies, probes=probes, answers=0, out=Path(folder) / "run")
    return count


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Inside the block rows and tokens of every pass are counted; a pass that resumes at a layer counts by its share."""
    count: Counter[str] = Counter()
    run_pass = passes.forward

    def forward(subject: Any, batch: Any, read: Any, **settings: Any) -> Any:
        resume = settings.get("resume")
        share = 1 - (resume.layer / subject.n_layers if resume is not None else 0)
        count["rows"] += share * len(batch.ids)
        count["tokens"] += share * int(batch.mask.sum())
        return run_pass(subject, batch, read, **settings)

    with ExitStack() as undo:
        for module in (passes, adapted, prior, unrelated):
            undo.enter_context(patch.object(module, "forward", forward))
        yield count
