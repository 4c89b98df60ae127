"""ROME, MEMIT and GRACE of the repository EasyEdit on SmolLM2: audited by command, and compared with their own edited models.

    python benchmarks/real/editors.py REPOSITORY OUT --python PYTHON [--methods rome,grace,memit] [--documents 8]

ROME and GRACE run in this environment, through the source of `easyedit_source.py`; MEMIT in the repository's own (PYTHON),
through `easyedit_export.py` and the export kit. Per method: the commands, timed; then, for every question of every document, the
largest difference between the logits as delivered here and those of the model that the method's own function edits; then the
mistakes that its author could make, how far each is from the method's own logits, and what the handshake says of it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from override_gap.margins.adapter import Adapter, AnyAdapter, LowRank, NativeExample
from override_gap.margins.items.files import write_items
from override_gap.margins.items.item import Document, Item, documents_of
from override_gap.probes.attach.hooks import attached
from override_gap.probes.attach.runtime import RuntimeBatch, batched, final_states
from override_gap.probes.environment import home
from override_gap.probes.items import open_items
from override_gap.probes.run.handshake import check_adapters
from override_gap.probes.sources import open_source
from override_gap.probes.subject.forward import Batch, forward
from override_gap.probes.subject.load import open_subject
from override_gap.probes.subject.model import Subject

HERE = Path(__file__).parent
AUDIT = ["--policies", "as-delivered,null-other", "--probes", "margins"]


def chosen(count: int) -> list[Item]:
    """The items of the benchmark's first documents that state a conflict, retention questions among them."""
    items = open_items("benchmark")
    texts = list(dict.fromkeys(item.document for item in items if item.split == "conflict"))[:count]
    return [item for item in items if item.document in texts]


@torch.no_grad()
def logits(subject: Subject, adapter: AnyAdapter, ids: Sequence[int]) -> Tensor:
    """[vocab] at the last of `ids` under the adapter as delivered, through what an audit reads with."""
    row, none = torch.tensor([list(ids)]), torch.zeros(1, dtype=torch.long)
    batch = Batch(row, torch.ones_like(row), torch.tensor([len(ids) - 1]), none)
    together = batched(subject, [adapter], [len(ids)])
    if isinstance(together, RuntimeBatch):
        return subject.logits(final_states(subject, batch, together, [0]))[0]
    with attached(subject, together, torch.ones(1, subject.n_layers)):
        return subject.logits(forward(subject, batch, batch.at[:, None]).final[:, 0])[0]


@dataclass
class Mistaken:
    """A source whose adapters are changed as its author could have got them wrong; `told` is whether it has native logits."""

    source: Any
    change: Callable[[AnyAdapter], AnyAdapter]
    told: bool = True

    def __post_init__(self) -> None:
        self.name, self.settings = self.source.name, self.source.settings
        self.static = getattr(self.source, "static", True)
        self.native_logits = getattr(self.source, "native_logits", None) if self.told else None
        stored = getattr(self.source, "native_examples", None)
        if self.told and stored is not None:
            self.native_examples = lambda: [replace(e, adapter=self.change(e.adapter)) for e in stored()]

    def encode(self, documents: Sequence[Any]) -> list[AnyAdapter]:
        """The source's adapters, changed."""
        return [self.change(adapter) for adapter in self.source.encode(documents)]


def rescaled(adapter: AnyAdapter, times: float) -> AnyAdapter:
    """Every update so many times as large."""
    assert isinstance(adapter, Adapter)
    return replace(
        adapter,
        updates={p: LowRank(u.A, u.B, u.scale * times) for p, u in adapter.updates.items() if isinstance(u, LowRank)},
    )


def exchanged(adapter: AnyAdapter) -> AnyAdapter:
    """Key side and value side taken for each other: the update transposed."""
    assert isinstance(adapter, Adapter)
    return replace(
        adapter,
        updates={p: LowRank(u.B.T, u.A.T, u.scale) for p, u in adapter.updates.items() if isinstance(u, LowRank)},
    )


class FixedPlace:
    """GRACE's codebook asked at the token at which the edit was made, as the method's own call leaves it."""

    def __init__(self, adapter: Any) -> None:
        self.adapter, self.name, self.place = adapter, adapter.name, adapter.edited_at

    @contextmanager
    def acting(self, subject: Subject, question: Tensor):
        """As the codebook acts, at its own place."""
        with self.adapter.acting(subject, question):
            self.adapter.module.key_id = self.place
            yield


class Louder:
    """GRACE's codebook with its values so many times as large."""

    def __init__(self, adapter: Any, times: float) -> None:
        self.adapter, self.name, self.times = adapter, adapter.name, times

    @contextmanager
    def acting(self, subject: Subject, question: Tensor):
        """As the codebook acts, with other values."""
        values = self.adapter.module.values
        with self.adapter.acting(subject, question), torch.no_grad():
            values.mul_(self.times)
            try:
                yield
            finally:
                values.div_(self.times)


WEIGHT_MISTAKES = {
    "scale 8": lambda adapter: rescaled(adapter, 8.0),
    "scale 1/8": lambda adapter: rescaled(adapter, 0.125),
    "scale 16": lambda adapter: rescaled(adapter, 16.0),
    "transposed": exchanged,
}
ROUTER_MISTAKES = {
    "values 8 times": lambda adapter: Louder(adapter, 8.0),
    "looked up where the edit was": FixedPlace,
}


def in_process(subject: Subject, source: Any, items: Sequence[Item]) -> Iterator[NativeExample]:
    """Every question of every document, read by the method's own edited model."""
    for document in documents_of(items):
        [adapter], own = source.encode([document]), source.edited(document)
        for asked in document.questions:
            ids = subject.tokenize(asked.prompt)
            with torch.no_grad():
                theirs = source.fresh(own)(input_ids=torch.tensor([ids])).logits[0, -1]
            yield NativeExample(adapter, tuple(ids), asked.prompt, theirs)


def stored(source: Any, documents: Sequence[Document], file: Path) -> Iterator[NativeExample]:
    """The same, as the method's own environment wrote it."""
    adapters = {document.key: adapter for document, adapter in zip(documents, source.encode(documents), strict=True)}
    with safe_open(file, "pt") as stream:
        index, theirs = json.loads(stream.metadata()["index"]), stream.get_tensor("logits")
    for row, logits_there in zip(index, theirs, strict=True):
        yield NativeExample(adapters[row["document"]], tuple(row["ids"]), row["text"], logits_there)


def measured(subject: Subject, source: Any, items: Sequence[Item], examples: Iterable[NativeExample]) -> None:
    """Print how far the adapters, and the mistaken ones, are from the method's own models, and what the handshake says."""
    mistakes = {"as delivered": lambda adapter: adapter}
    mistakes |= WEIGHT_MISTAKES if getattr(source, "static", True) else ROUTER_MISTAKES
    far: dict[str, list[float]] = {name: [] for name in ("base", *mistakes)}
    for example in examples:
        with torch.no_grad():
            base = subject.model(input_ids=torch.tensor([example.ids])).logits[0, -1]
        far["base"].append((base - example.logits).abs().max().item())
        for name, change in mistakes.items():
            if name != "transposed":  # it does not fit: the map is not square
                ours = logits(subject, change(example.adapter), example.ids)
                far[name].append((ours - example.logits).abs().max().item())
    print(f"{source.name}: {len(documents_of(items))} documents, {len(far['base'])} questions")
    for name, gaps in far.items():
        if gaps:
            moved = sum(gap > 1e-3 for gap in gaps)
            print(f"  {name}: largest difference {max(gaps):.2g} nats, smallest {min(gaps):.2g}; above 1e-3 on {moved}")
    for name, change in mistakes.items():
        for told in (True, False) if name == "as delivered" else (True,):
            result = check_adapters(subject, Mistaken(source, change, told), items)
            shown = [check for check in result.checks if check.name == "native" or check.passed is False]
            says = "; ".join(f"{check.name}: {check.says}" for check in shown)
            how = name if told else "no native logits"
            print(f"  handshake, {how}: {'FAILED' if result.failed else 'passed'}; {says}", flush=True)


def timed(
    module: str | None, words: list[str], python: str = sys.executable, more: Mapping[str, str] | None = None
) -> None:
    """Run a command beside this file and print it with its minutes, and those on a core."""
    started, before = time.monotonic(), on_a_core()
    first = [python, *([] if module is None else ["-m", module])]
    subprocess.run([*first, *words], cwd=HERE, check=True, env={**os.environ, **(more or {})})
    minutes, core = (time.monotonic() - started) / 60, (on_a_core() - before) / 60
    shown = "python" if module is None else "override-gap"
    print(f"{shown} {' '.join(words)}\n  {minutes:.1f} minutes, {core:.1f} of a core", flush=True)


def on_a_core() -> float:
    """CPU seconds of the commands run so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Audit and compare each method."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--python", default=sys.executable, help="the Python of the repository's own environment")
    parser.add_argument("--methods", default="rome,grace,memit")
    parser.add_argument("--documents", type=int, default=8)
    parser.add_argument("--no-audit", action="store_true", help="compare alone")
    args = parser.parse_args()
    os.environ["EASYEDIT"] = str(args.repository.resolve())
    os.environ["EASYEDIT_STATS"] = str(args.out.resolve() / "stats")
    args.out.mkdir(parents=True, exist_ok=True)
    items, items_file = chosen(args.documents), args.out.resolve() / "items.jsonl"
    write_items(items, items_file)
    import easyedit_source

    subject = open_subject("smollm2", device="cpu")
    for name in args.methods.split(","):
        adapters = f"easyedit_source:{name}"
        if name == "memit":
            file = args.out.resolve() / "memit.safetensors"
            adapters = f"compact:{file}"
            if not args.no_audit:
                documents, kit = args.out.resolve() / "documents.jsonl", args.out.resolve() / "kit"
                timed("override_gap", ["items", "documents", str(items_file), "--out", str(documents)])
                timed("override_gap", ["adapters", "kit", "--out", str(kit)])
                words = [str(HERE / "easyedit_export.py"), str(home() / "smollm2"), str(documents), str(file)]
                timed(None, words, args.python, {"PYTHONPATH": str(kit)})
        if not args.no_audit:
            words = ["audit", "--subject", "smollm2", "--adapters", adapters, "--items", str(items_file), *AUDIT]
            timed("override_gap", [*words, "--out", str(args.out.resolve() / name)])
        if name == "memit":
            source = open_source(adapters, subject)
            examples = stored(source, documents_of(items), Path(f"{file}.native"))
        else:
            source = getattr(easyedit_source, name)(subject)
            examples = in_process(subject, source, items)
        measured(subject, source, items, examples)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
