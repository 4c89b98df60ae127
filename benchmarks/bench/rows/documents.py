"""Documents with an adapter each, one question each: against PEFT, and against a pass with no adapters at all."""

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

TITLE = "An adapter a document, against PEFT"
LIMITS = (
    "A pass under adapters costs two thin products a site and row beside the bare pass, and putting the adapters of a batch "
    "side by side. PEFT's mixed batch runs one product an adapter and site, so it grows with the number of adapters; all 64 "
    "in one batch is how its users give them, and padded to the longest. Handed the length-sorted batches of an audit it has "
    "a part of what is measured here, which is the line without a goal. The ratios against PEFT fall as questions get longer: "
    "what is saved is overhead, padding and logits, not arithmetic. The bare pass here is of the length-sorted batches, with "
    "logits at every position; the least pass has them at one position and no adapters, so its lines are what no route that "
    "runs the questions in these batches can exceed. How long products take beside starting them decides the first line: on an "
    "AMD EPYC, whose products take longer, it was 4.5 on one thread and 6.0 on two, and the least pass 5.0 and 6.9. On the "
    "organism a third of the time is putting 512 updates side by side, which an audit does once for all its conditions."
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
    own, bare = kit.subject(subject), kit.bare(subject)
    items = kit.conflicts(subject, COUNT)
    made, documents = kit.adapters(own, items), documents_of(items)
    parts = kit.parts(own, items)
    # margins need the question alone; every side is given the same tokens
    parts = [kit.Part(p.items, p.places, p.batch.only(range(len(p.items)))) for p in parts]
    every = [place for p in parts for place in p.places]
    whole = kit.Part([i for p in parts for i in p.items], every, Batch.of(every, own.device).only(range(COUNT)))
    ready = [(part, replace(read_prior(own, part.items, part.places), batch=part.batch)) for part in parts]
    with tempfile.TemporaryDirectory() as scratch:
        folders = kit.saved(made, documents, Path(scratch))
        texts = {document.text: n for n, document in enumerate(documents)}
        loaded = load_peft(kit.bare(subject), folders)

        def read_and_run() -> None:
            read = PeftFolder(own, Path(scratch)).encode(documents)
            ours(own, ready, dict(zip([d.text for d in documents], read, strict=True)))

        def load_and_run(act: Any) -> None:
            fresh = load_peft(bare, folders)
            act(fresh, parts, texts)
            fresh.unload()

        sides = {
            "ours": lambda: ours(own, ready, made),
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
            lines += compared(in_turn(sides, repeats, "wall"), f"; {threads} threads, by the clock")
        finally:
            torch.set_num_threads(before)
    return lines, {"documents": COUNT, "rank": kit.RANK, "batches": len(parts)}


def compared(timed: Timed, how: str) -> list[Line]:
    """The lines of one way to time the sides."""
    seconds = {name: timed.median(name) for name in timed.seconds}
    found = [
        Line(
            f"times faster than PEFT{how}",
            against,
            timed.ratio(theirs, mine),
            goal=None if goal is None else ("at least", goal),
            seconds=seconds,
        )
        for against, theirs, mine, goal in (
            ("adapters loaded, set one by one", "one by one", "ours", 7.0),
            ("adapters loaded, one mixed batch of all", "mixed", "ours", 1.5),
            # handed the length-sorted batches that an audit makes
            ("adapters loaded, mixed batches of like length", "mixed, sorted", "ours", None),
            ("loading counted, set one by one", "one by one with loading", "ours with loading", 8.0),
            ("loading counted, one mixed batch of all", "mixed with loading", "ours with loading", 8.0),
        )
    ]
    found += [
        Line(f"least pass without adapters, times faster than PEFT{how}", against, timed.ratio(theirs, "least"))
        for against, theirs in (
            ("adapters loaded, set one by one", "one by one"),
            ("adapters loaded, one mixed batch of all", "mixed"),
            ("adapters loaded, mixed batches of like length", "mixed, sorted"),
        )
    ]
    bare = Line(f"seconds{how}", "bare forward, no adapters", timed.ratio("ours", "bare"), goal=("at most", 1.10))
    return [*found, bare]


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
