"""An audit on a GPU: randomly initialised models of the exact shapes of Gemma-2-2B and Mistral-7B, since only cost is measured.

python -m benchmarks.gpu [--shapes gemma-2-2b,mistral-7b] [--device cuda] [--items 489] [--repeats 5] [--out FILE]
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from benchmarks.bench import kit
from benchmarks.bench.arguments import positive_integer
from benchmarks.bench.record import RESULTS, Line, machine, single, spread
from benchmarks.bench.rows.documents import load_peft, mixed
from override_gap.margins.items.item import Item, documents_of
from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.adapted import read_adapted, read_base
from override_gap.probes.readings.layers import read_layers
from override_gap.probes.readings.prior import read_prior
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.unit import measure
from override_gap.probes.subject.model import Subject, wrap

SMALL = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
SHAPES: dict[str, Callable[[], Any]] = {
    # the published configurations, whose defaults in transformers these two classes carry
    "gemma-2-2b": lambda: Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=256000,
            hidden_size=2304,
            intermediate_size=9216,
            num_hidden_layers=26,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=256,
        )
    ),
    "mistral-7b": lambda: MistralForCausalLM(
        MistralConfig(
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
        )
    ),
    "small-gemma": lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, **HEADS)),
    "small-mistral": lambda: MistralForCausalLM(MistralConfig(**SMALL, **HEADS)),
}
#: An H100's published peaks: bf16 operations and bytes per second.
PEAK_OPERATIONS, PEAK_BYTES = 989e12, 3.35e12
CONDITIONS = "as-delivered,uniform,slb,ca,random-layers,bottom-layers,margin-matched"
RANK, TOGETHER = 8, 64


def main(argv: Sequence[str]) -> int:
    """Measure each shape and write the figures."""
    from override_gap.margins.condition_parser import parse_conditions

    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--shapes", default="gemma-2-2b,mistral-7b", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--items", type=positive_integer, default=489)
    parser.add_argument("--repeats", type=positive_integer, default=5)
    parser.add_argument(
        "--out", type=Path, help="file for the figures (default: benchmarks/results/gpu.json on a GPU, none on a CPU)"
    )
    args = parser.parse_args(argv)
    shapes = [name.strip() for name in args.shapes.split(",")]
    unknown = [name for name in shapes if name not in SHAPES]
    if unknown:
        parser.error(f"no shape {unknown[0]!r}; known: {', '.join(SHAPES)}")
    if args.device != "cpu" and not args.device.startswith("cuda"):
        parser.error(f"--device needs cuda, cuda:N or cpu, got {args.device!r}")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu with --shapes small-gemma,small-mistral checks that it runs")
    out = args.out or (None if args.device == "cpu" else RESULTS / "gpu.json")
    if out is not None and not out.parent.is_dir():
        parser.error(f"--out {out}: there is no folder {out.parent}")
    conditions = parse_conditions(CONDITIONS)
    figures = {}
    for name in shapes:
        lines = measured(name, args.device, args.items, args.repeats, conditions)
        figures[name] = [asdict(line) | {"met": line.met} for line in lines]
        for line in lines:
            print(f"{name}: {line.measure} / {line.against}: {line.value['median']:.4g} {line.unit}", flush=True)
    content = {"machine": machine(), "torch": torch.__version__, "rank": RANK, "items": args.items, "shapes": figures}
    if out is not None:
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(name: str, device: str, count: int, repeats: int, conditions: Any) -> list[Line]:
    """All figures of one shape."""
    torch.manual_seed(0)
    model = SHAPES[name]().eval().to(device, torch.bfloat16)
    items = conflicts(count)
    few = items[:TOGETHER]
    clock = Clock(device)
    # copies, since wrapping changes a model's modules
    bare, theirs = copy.deepcopy(model), copy.deepcopy(model)
    subject = wrap(model, words(), name)
    made = kit.adapters(subject, items, rank=RANK)
    parts = kit.parts(subject, few, TOGETHER)
    ready = [(p, read_prior(subject, p.items, p.places)) for p in parts]
    stacks = [stack(subject, [made[i.document] for i in p.items]) for p in parts]

    def readings() -> None:
        for part in parts:
            prior = read_prior(subject, part.items, part.places, layers=True)
            read_layers(subject, prior, read_base(prior, subject))

    def adapted() -> None:
        for (part, prior), acting in zip(ready, stacks, strict=True):
            read_adapted(subject, prior, acting, torch.ones(len(part.items), subject.n_layers))

    with tempfile.TemporaryDirectory() as scratch:
        documents = documents_of(few)
        loaded = load_peft(theirs, kit.saved(made, documents, Path(scratch)))
    names = {document.text: n for n, document in enumerate(documents)}
    acts: dict[str, Callable[[], Any]] = {
        "bare": lambda: [kit.run_bare(bare, part.batch) for part in parts],
        "readings": readings,
        "adapted": adapted,
        "mixed": lambda: mixed(loaded, parts, names),
    }
    sides: dict[str, list[float]] = {side: [] for side in acts}
    for repeat in range(repeats + 1):
        for side, act in acts.items():
            seconds = clock(act)
            # the first turn only warms
            sides[side] += [seconds] if repeat else []
    bench = MeasurementSetup(subject, conditions, frozenset({"margins"}), TOGETHER, 0)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    whole = clock(lambda: measure(bench, items, EncodedDocuments(made), frozenset()))
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.startswith("cuda") else float("nan")
    tokens = sum(len(p.fed) for part in kit.parts(subject, items, TOGETHER) for p in part.places)
    floor = least_seconds(model, tokens, len(conditions), len(items) / TOGETHER)

    def ratio(side: str, other: str = "bare") -> dict[str, Any]:
        return spread([a / b for a, b in zip(sides[side], sides[other], strict=True)])

    lines = [
        Line(
            "prior, margin, attribution and lens of all layers",
            "bare forward",
            ratio("readings"),
            goal=("at most", 1.05),
        ),
        Line(f"{len(few)} documents, one adapter each", "bare forward", ratio("adapted"), goal=("at most", 1.10)),
        Line(
            "the same, speed-up",
            "PEFT, adapters loaded, mixed batch",
            ratio("mixed", "adapted"),
            goal=("at least", 1.5),
        ),
        Line(
            f"{len(items)} items x {len(conditions) - 1} conditions",
            "wall clock",
            single(whole),
            "s",
            ("at most", 60) if name == "gemma-2-2b" else None,
        ),
        Line("the same", "the floor by operations and bytes of an H100", single(whole / floor)),
    ]
    if peak == peak:
        lines.append(Line("peak memory of that", "the device", single(peak), "GiB"))
    return lines + precision(subject, few, parts)


def precision(subject: Subject, items: Sequence[Item], parts: Sequence[kit.Part]) -> list[Line]:
    """Margins against float32 products of the same states in float64, and what the model's own format would give.

    Logits near 20 step by 0.125 in bf16, so that a margin read from them is off by as much; a float32 product is not.
    """
    ours, rounded = [], []
    for part in parts:
        prior = read_prior(subject, part.items, part.places)
        hidden, weight = prior.hidden.double(), subject.unembedding
        rows = (weight[prior.pre].double() - weight[prior.doc].double()) * subject.logit_scale
        uncapped = replace(subject, cap=None)
        exact = (hidden * rows).sum(-1)
        float32 = uncapped.token_logits(prior.hidden, prior.pre) - uncapped.token_logits(prior.hidden, prior.doc)
        low = prior.hidden.to(subject.dtype)
        logits = [(low * weight[t]).sum(-1) for t in (prior.pre, prior.doc)]
        ours.append((float32.double() - exact).abs().max().item())
        rounded.append(((logits[0] - logits[1]).double() - exact).abs().max().item())
    return [
        Line(
            "largest error of a margin, float32 products",
            "float64 products of the same states",
            single(max(ours)),
            "nats",
        ),
        Line("largest error of a margin read in the model's format", "the same", single(max(rounded)), "nats"),
    ]


def least_seconds(model: Any, tokens: int, passes: int, batches: float) -> float:
    """Least seconds of the passes at an H100's peaks: two operations per weight and token, or the weights read once per batch."""
    weights = sum(p.numel() for p in model.parameters())
    operations = 2 * weights * tokens * passes / PEAK_OPERATIONS
    return max(operations, 2 * weights * passes * batches / PEAK_BYTES)


class Clock:
    """Seconds of a call, including the device's work."""

    def __init__(self, device: str) -> None:
        self.wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def __call__(self, act: Callable[[], Any]) -> float:
        self.wait()
        start = time.perf_counter()
        act()
        self.wait()
        return time.perf_counter() - start


def words() -> PreTrainedTokenizerFast:
    """A tokenizer of 200 made-up words."""
    vocabulary = {f"w{n}": n for n in range(200)} | {"<unk>": 200}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<unk>", eos_token="<unk>")


def conflicts(count: int) -> list[Item]:
    """Conflicts of eight to sixteen words, drawn from a fixed seed."""
    draw = torch.Generator().manual_seed(0)
    items = []
    for n in range(count):
        size = int(torch.randint(8, 17, (1,), generator=draw))
        picked = torch.randperm(200, generator=draw)[: size + 2].tolist()
        question, answer, prior = " ".join(f"w{k}" for k in picked[:-2]), f"w{picked[-2]}", f"w{picked[-1]}"
        items.append(
            Item(f"c{n}", f"p{n}", "conflict", f"{question} {answer} w{n % 200}", question, answer, prior_answer=prior)
        )
    return items


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
