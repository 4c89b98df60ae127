"""A compact file of 10,000 documents, audited: bytes read of it, and how many adapters are in memory at once."""

from __future__ import annotations

import gc
import resource
import tempfile
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import override_gap as og
from benchmarks.bench.record import Line, single
from override_gap.margins.items.item import Item, documents_of
from override_gap.probes.export_kit import kit
from override_gap.probes.items import open_items
from override_gap.probes.run.units import DOCUMENTS_PER_UNIT
from override_gap.probes.sources.compact import CompactFile
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject

TITLE = "A file of 10,000 documents"
LIMITS = (
    "Made-up factors of rank 16 on the down projections of the organism's last four layers, one item per document, written by "
    "the export kit and audited with `--probes margins`. Bytes are all that the process asks the system to read during the audit "
    "(`rchar` of /proc/self/io), so the run folder's own files count as well; a small audit before has loaded the libraries. The "
    "reader asks for the bytes of a document's tensors and maps nothing into memory, so no page can be read behind the count's "
    "back. The header, which every document's hash is in, is read once and stays in memory. `null-other` reads every item under "
    "another document's adapter; a set this large is cut into units of two groups of neighbours by relation, so that this "
    "other document is mostly in the item's own unit. With units drawn at random, as smaller sets have them, the file was read "
    "1.97 times. Seconds are those of a busy machine: other work filled both cores."
)
SUBJECTS = ("organism",)
COUNT, RANK, LAYERS = 10_000, 16, 4
POLICIES = {"as delivered": "as-delivered", "as delivered and null-other": "as-delivered,null-other"}


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row; counts do not vary, so each is taken once."""
    model, lines = open_subject(subject), []
    items = many_items(COUNT)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        started = time.perf_counter()
        written = write_file(model, items, folder / "large.safetensors")
        lines.append(Line("writing the file", "wall clock", single(time.perf_counter() - started), "s"))
        lines.append(Line("the file", "written", single(written / 2**20), "MiB"))
        write_file(model, items[:40], folder / "small.safetensors")
        for name, policies in POLICIES.items():
            audited(model, folder / "small.safetensors", items[:40], policies, folder / f"{name} small")
            bytes_read, most, seconds = audited(model, folder / "large.safetensors", items, policies, folder / name)
            goal = ("at most", 1.1)
            lines.append(Line(f"{name}: bytes read in the audit", "the file", single(bytes_read / written), goal=goal))
            held = single(most / DOCUMENTS_PER_UNIT)
            lines.append(Line(f"{name}: adapters in memory at once", "those of a unit", held, goal=goal))
            lines.append(Line(f"{name}: the audit", "wall clock", single(seconds), "s"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    lines.append(Line("the process, model and libraries included", "largest resident memory", single(peak), "MiB"))
    return lines, {
        "repeats": 1,
        "documents": COUNT,
        "layers": LAYERS,
        "rank": RANK,
        "documents in a unit": DOCUMENTS_PER_UNIT,
    }


def many_items(count: int) -> list[Item]:
    """Conflicts of the organism's items, each on a document of its own: the item's text and another document's behind it."""
    every = open_items("organism")
    conflicts = [item for item in every if item.split == "conflict"]
    pairs = product(conflicts, dict.fromkeys(item.document for item in every))
    items: dict[str, Item] = {}
    for first, other in pairs:
        text = f"{first.document} {other}"
        items.setdefault(text, replace(first, id=f"item-{len(items)}", document=text))
        if len(items) == count:
            return list(items.values())
    raise ValueError(f"need {count} items, the organism's documents give {len(items)}")


def write_file(subject: Subject, items: Sequence[Item], path: Path) -> int:
    """A file of random factors for the items' documents, of a small size; its bytes."""
    paths = [f"model.layers.{n}.mlp.down_proj" for n in range(subject.n_layers - LAYERS, subject.n_layers)]
    draw = torch.Generator().manual_seed(0)

    def factors() -> Iterator[dict[str, Any]]:
        for _ in items:
            yield {
                path: (
                    torch.randn(RANK, subject.sites[path].d_in, generator=draw) * 0.02,
                    torch.randn(subject.sites[path].d_out, RANK, generator=draw) * 0.02,
                )
                for path in paths
            }

    documents = [{"key": d.key, "ids": d.ids, "points": d.points} for d in documents_of(items)]
    kit.write(path, documents, factors(), method="made-up", scale=1.0, base_fingerprint=subject.fingerprint)
    return path.stat().st_size


def audited(subject: Subject, file: Path, items: Sequence[Item], policies: str, out: Path) -> tuple[int, int, float]:
    """Bytes read in an audit, the most adapters that were in memory at once, and seconds."""
    before, started = bytes_so_far(), time.perf_counter()
    with counting() as most:
        og.audit(subject, f"compact:{file}", list(items), policies=policies, probes="margins", answers=0, out=out)
    return bytes_so_far() - before, most[0], time.perf_counter() - started


@contextmanager
def counting() -> Iterator[list[int]]:
    """Inside the block the most adapters of a compact file that are in memory at once are counted."""
    alive: list[weakref.ref] = []
    most, encode = [0], CompactFile.encode

    def counted(self: CompactFile, documents: Any) -> Any:
        adapters = encode(self, documents)
        gc.collect()  # what only a circle of references holds is not in use
        alive.extend(map(weakref.ref, adapters))
        alive[:] = [ref for ref in alive if ref() is not None]
        most[0] = max(most[0], len(alive))
        return adapters

    with patch.object(CompactFile, "encode", counted):
        yield most


def bytes_so_far() -> int:
    """What this process has asked the system to read so far."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])
