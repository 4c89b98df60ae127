"""Documents with one adapter and one question each: against PEFT, and against a pass without adapters."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench import kit
from benchmarks.bench.clock import Timed, in_turn
from benchmarks.bench.record import Line
from override_gap.margins.adapter import Adapter
from override_gap.margins.items.item import documents_of
from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.adapted import read_adapted
from override_gap.probes.readings.prior import read_prior
from override_gap.probes.sources.peft_folder import PeftFolder
from override_gap.probes.subject.forward import Batch
from override_gap.probes.subject.model import Subject

TITLE = "One adapter per document, against PEFT"
LIMITS = (
    "Compared with the bare pass, a pass with adapters costs two low-rank products per site and row, and stacking the "
    "adapters of a batch. PEFT's mixed batch runs one product per adapter and site, so it grows with the number of "
    "adapters; all 64 in one batch, padded to the longest, is how its users run them. With the length-sorted batches of "
    "an audit PEFT gains a part of the difference, which is the line without a goal. The ratios against PEFT fall as "
    "questions get longer: what is saved is overhead, padding and logits, not arithmetic. The bare pass here is of the "
    "length-sorted batches, with logits at every position; the minimal pass has them at one position and no adapters, so "
    "its lines are an upper bound for any method that runs the questions in these batches. The first line depends on how "
    "long a product takes compared with launching it: on an Intel Xeon, whose products take less time, it was 7.5 on one "
    "thread and 8.1 on two, and the minimal pass 8.4 and 9.2. On the AMD EPYC of SmolLM2's figures other work ran beside the "
    "lines of two threads, so that their ranges are wide. On the organism a part is stacking 512 "
    "updates, which an audit does once for all its conditions. Tried: updates added in the place of a map's output (kept), no "
    "norms where factors are stacked (kept), the first product the other way round or over padded ranks (slower)."
)
SUBJECTS = ("smollm2", "organism")
COUNT = 64


def ours(subject: Subject, ready: Sequence[tuple[kit.Part, Any]], adapters: dict[str, Adapter]) -> None:
    """The margins of all documents, adapters in memory."""
    ones = torch.ones(COUNT, subject.n_layers)
    for part, prior in ready:
        together = stack(subject, [adapters[item.document] for item in part.items])
        read_adapted(subject, prior, together, ones[: len(part.items)])


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row."""
    wrapped, bare = kit.subject(subject), kit.bare(subject)
    items = kit.conflicts(subject, COUNT)
    adapters, documents = kit.adapters(wrapped, items), documents_of(items)
    parts = kit.parts(wrapped, items)
    # margins need only the question; every side gets the same tokens
    parts = [kit.Part(p.items, p.places, p.batch.only(range(len(p.items)))) for p in parts]
    all_places = [place for p in parts for place in p.places]
    whole = kit.Part(
        [i for p in parts for i in p.items], all_places, Batch.of(all_places, wrapped.device).only(range(COUNT))
    )
    ready = [(part, replace(read_prior(wrapped, part.items, part.places), batch=part.batch)) for part in parts]
    with tempfile.TemporaryDirectory() as scratch:
        folders = kit.saved(adapters, documents, Path(scratch))
        texts = {document.text: n for n, document in enumerate(documents)}
        loaded = load_peft(kit.bare(subject), folders)

        def read_and_run() -> None:
            read = PeftFolder(wrapped, Path(scratch)).encode(documents)
            ours(wrapped, ready, dict(zip([d.text for d in documents], read, strict=True)))

        def load_and_run(act: Any) -> None:
            fresh = load_peft(bare, folders)
            act(fresh, parts, texts)
            fresh.unload()

        sides = {
            "ours": lambda: ours(wrapped, ready, adapters),
            "one by one": lambda: one_by_one(loaded, parts, texts),
            "mixed": lambda: mixed(loaded, [whole], texts),
            "mixed, sorted": lambda: mixed(loaded, parts, texts),
            "bare": lambda: [kit.run_bare(bare, part.batch) for part in parts],
            "least": lambda: [kit.run_bare_last(bare, part.batch) for part in parts],
            "ours with loading": read_and_run,
            "one by one with loading": lambda: load_and_run(one_by_one),
            "mixed with loading": lambda: load_and_run(lambda model, _, texts: mixed(model, [whole], texts)),
        }
        lines = compared(in_turn(sides, repeats), "")
        before, threads = torch.get_num_threads(), min(2, os.cpu_count() or 1)
        torch.set_num_threads(threads)
        try:
            lines += compared(in_turn(sides, repeats, "wall"), f"; {threads} threads, wall clock")
        finally:
            torch.set_num_threads(before)
    return lines, {"documents": COUNT, "rank": kit.RANK, "batches": len(parts)}


def compared(timed: Timed, how: str) -> list[Line]:
    """The lines of one way of timing."""
    seconds = {name: timed.median(name) for name in timed.seconds}
    lines = [
        Line(
            f"speed-up over PEFT{how}",
            against,
            timed.ratio(theirs, mine),
            goal=None if goal is None else ("at least", goal),
            seconds=seconds,
        )
        for against, theirs, mine, goal in (
            ("adapters loaded, set one by one", "one by one", "ours", 7.0),
            ("adapters loaded, one mixed batch of all", "mixed", "ours", 1.7),
            # with the length-sorted batches of an audit
            ("adapters loaded, mixed batches of like length", "mixed, sorted", "ours", None),
            ("including loading, set one by one", "one by one with loading", "ours with loading", 8.0),
            ("including loading, one mixed batch of all", "mixed with loading", "ours with loading", 8.0),
        )
    ]
    lines += [
        Line(f"minimal pass without adapters, speed-up over PEFT{how}", against, timed.ratio(theirs, "least"))
        for against, theirs in (
            ("adapters loaded, set one by one", "one by one"),
            ("adapters loaded, one mixed batch of all", "mixed"),
            ("adapters loaded, mixed batches of like length", "mixed, sorted"),
        )
    ]
    bare = Line(f"seconds{how}", "bare forward, no adapters", timed.ratio("ours", "bare"), goal=("at most", 1.3))
    return [*lines, bare]


def load_peft(bare: Any, folders: Sequence[Path]) -> Any:
    """The model with all adapters, as PEFT loads them."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(bare, folders[0], adapter_name="a0")
    for n, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, adapter_name=f"a{n}")
    return model.eval()


@torch.no_grad()
def one_by_one(model: Any, parts: Sequence[kit.Part], texts: dict[str, int]) -> None:
    """Each question alone and without padding, its adapter set before it."""
    for part in parts:
        for item, place in zip(part.items, part.places, strict=True):
            model.set_adapter(f"a{texts[item.document]}")
            model(input_ids=torch.tensor([place.prefix]), use_cache=False)


@torch.no_grad()
def mixed(model: Any, parts: Sequence[kit.Part], texts: dict[str, int]) -> None:
    """Batches in which PEFT chooses each row's adapter."""
    for part in parts:
        names = [f"a{texts[item.document]}" for item in part.items]
        model(input_ids=part.batch.ids, attention_mask=part.batch.mask, adapter_names=names, use_cache=False)
