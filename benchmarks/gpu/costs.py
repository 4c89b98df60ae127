"""The costs on one shape: readings, adapters per row, many conditions, answers, fitting, in bf16 against the bare model."""

from __future__ import annotations

import copy
import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.bench import kit
from benchmarks.bench.record import Line, single, spread
from benchmarks.bench.rows.documents import load_peft, mixed
from benchmarks.gpu import ceilings
from benchmarks.gpu.models import build, conflicts, words
from benchmarks.gpu.steps import Clock, Step
from override_gap.margins.adapter import Adapter
from override_gap.margins.condition_parser import parse_conditions
from override_gap.margins.items.item import Item, documents_of
from override_gap.margins.updates import LowRank
from override_gap.probes.attach.stack import stack
from override_gap.probes.readings.adapted import read_adapted, read_base
from override_gap.probes.readings.generation import generate
from override_gap.probes.readings.layers import read_layers
from override_gap.probes.readings.prior import read_prior
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.unit import measure
from override_gap.probes.run.units import DOCUMENTS_PER_UNIT
from override_gap.probes.sources.document_tokens import document_tokens
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.subject.model import Subject, wrap
from override_gap.probes.subject.tokens import pad

CONDITIONS = "as-delivered,uniform,slb,ca,random-layers,bottom-layers,margin-matched"
RANK, TOGETHER, NEW, FIT_STEPS = 8, 64, 16, 4


@dataclass(frozen=True, eq=False)
class Shape:
    """One shape on a device: the model is built when a figure first needs it."""

    name: str
    device: str
    count: int
    repeats: int

    def steps(self) -> list[Step]:
        """The figures of this shape, the dearest last; the dearest two on one shape alone."""
        parts: dict[str, Callable[[], Sequence[Line]]] = {
            "readings": self.readings,
            "conditions": self.conditions,
            "precision": self.precision,
            "answers": self.answers,
            "fitted": self.fitted,
        }
        if self.name not in ("qwen3-4b", "mistral-7b"):
            parts |= {"PEFT": self.against_peft, "gain path": self.gain_path}
        parts["release"] = self.release
        return [Step(f"{self.name}, {name}", act) for name, act in parts.items()]

    def release(self) -> list[Line]:
        """Free what was built, for the next shape."""
        for name in [name for name in vars(self) if name not in self.__dataclass_fields__]:
            vars(self).pop(name)
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        return []

    @cached_property
    def clock(self) -> Clock:
        """Seconds on this device."""
        return Clock(self.device)

    @cached_property
    def bare(self) -> Any:
        """The model as the library makes it."""
        return build(self.name, self.device)

    @cached_property
    def subject(self) -> Subject:
        """The same weights, wrapped."""
        return wrap(copy.deepcopy(self.bare), words(), self.name)

    @cached_property
    def items(self) -> list[Item]:
        """All items."""
        return conflicts(self.count)

    @cached_property
    def few(self) -> list[Item]:
        """As many as are compared with other tools."""
        return self.items[:TOGETHER]

    @cached_property
    def adapters(self) -> dict[str, Adapter]:
        """One per document, by its text."""
        draw = torch.Generator().manual_seed(0)
        sites = {path: site for path, site in self.subject.sites.items() if path.endswith("down_proj")}
        most = RANK * max(max(site.d_in, site.d_out) for site in sites.values())
        # parts of one draw: a billion numbers would take longer than what is measured
        drawn = torch.randn(most + 10 * self.count * len(sites), generator=draw) * 0.02

        def part(n: int, rows: int, columns: int) -> torch.Tensor:
            return drawn[10 * n : 10 * n + rows * columns].reshape(rows, columns).clone()

        made = {}
        for number, document in enumerate(documents_of(self.items)):
            first = number * len(sites)
            updates = {
                path: LowRank(part(first + n, RANK, site.d_in), part(first + n, site.d_out, RANK))
                for n, (path, site) in enumerate(sites.items())
            }
            made[document.text] = Adapter(f"document-{number}", updates)
        return made

    @cached_property
    def parts(self) -> list[kit.Part]:
        """The batches of the few."""
        return kit.parts(self.subject, self.few, TOGETHER)

    def ratio(self, seconds: dict[str, list[float]], side: str, other: str, factor: float = 1.0) -> dict[str, Any]:
        """One side's seconds per second of another's, repeat by repeat."""
        return spread([a / b * factor for a, b in zip(seconds[side], seconds[other], strict=True)])

    def readings(self) -> list[Line]:
        """All layers' readings, and one adapter per document, against the bare forward of the same batches."""
        ready = [(p, read_prior(self.subject, p.items, p.places)) for p in self.parts]
        stacks = [stack(self.subject, [self.adapters[i.document] for i in p.items]) for p in self.parts]

        def all_layers() -> None:
            for part in self.parts:
                prior = read_prior(self.subject, part.items, part.places, layers=True)
                read_layers(self.subject, prior, read_base(prior, self.subject))

        def adapted() -> None:
            for (part, prior), acting in zip(ready, stacks, strict=True):
                read_adapted(self.subject, prior, acting, torch.ones(len(part.items), self.subject.n_layers))

        seconds = self.clock.in_turn(
            {
                "bare": lambda: [kit.run_bare(self.bare, part.batch) for part in self.parts],
                "least": lambda: [kit.run_bare_last(self.bare, part.batch) for part in self.parts],
                "readings": all_layers,
                "adapted": adapted,
            },
            self.repeats,
        )
        what = "prior, margin, attribution and lens of all layers"
        each = f"{len(self.few)} documents, one adapter each"
        return [
            Line("bare forward", "wall clock", spread([1e3 * s for s in seconds["bare"]]), "ms"),
            Line(what, "bare forward", self.ratio(seconds, "readings", "bare"), goal=("at most", 1.05)),
            Line(what, "bare forward, logits at one position", self.ratio(seconds, "readings", "least")),
            Line(each, "bare forward", self.ratio(seconds, "adapted", "bare"), goal=("at most", 1.30)),
            Line(each, "bare forward, logits at one position", self.ratio(seconds, "adapted", "least")),
        ]

    def conditions(self) -> list[Line]:
        """The base and conditions on all items, in units as an audit makes them, with the batch size that the toolkit finds."""
        conditions = parse_conditions(CONDITIONS)
        setup = MeasurementSetup(self.subject, conditions, frozenset({"margins"}), 0, 0)
        measure(setup, self.few, EncodedDocuments(self.adapters), frozenset())  # warms
        on_gpu = self.device.startswith("cuda")
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        units = [self.items[n : n + DOCUMENTS_PER_UNIT] for n in range(0, len(self.items), DOCUMENTS_PER_UNIT)]

        def whole() -> None:
            for unit in units:
                own = {item.document: self.adapters[item.document] for item in unit}
                measure(setup, unit, EncodedDocuments(own), frozenset())

        taken = self.clock(whole)
        parts = [part for unit in units for part in kit.parts(self.subject, unit)]
        bare = self.clock(lambda: [kit.run_bare(self.bare, part.batch) for part in parts])
        tokens = sum(len(place.fed) for part in parts for place in part.places)
        least = ceilings.measured(self.device).least_seconds(self.bare, tokens, len(conditions), len(parts))
        goal = ("at most", 60.0) if self.name == "gemma-2-2b" else None
        what = f"{len(self.items)} items x {len(conditions) - 1} conditions and the base, in {len(units)} units"
        lines = [
            Line(what, "wall clock", single(taken), "s", goal),
            Line(what, f"{len(conditions) - 1} bare forwards", single(taken / bare / (len(conditions) - 1))),
            ceilings.floor_line(taken, least),
            Line("rows of a batch, as found", "memory", single(max(len(part.items) for part in parts)), "rows"),
        ]
        if on_gpu:
            lines.append(Line("peak memory", "the card", single(torch.cuda.max_memory_allocated() / 2**30), "GiB"))
        return lines

    def precision(self) -> list[Line]:
        """Margins against products of the same states in float64, and what the model's own format would give.

        Logits near 20 step by 0.125 in bf16, so that a margin read from them is off by as much; a float32 product is not.
        """
        ours, rounded = [], []
        for part in self.parts:
            prior = read_prior(self.subject, part.items, part.places)
            hidden, weight = prior.hidden.double(), self.subject.unembedding
            rows = (weight[prior.pre].double() - weight[prior.doc].double()) * self.subject.logit_scale
            uncapped = replace(self.subject, cap=None)
            exact = (hidden * rows).sum(-1)
            float32 = uncapped.token_logits(prior.hidden, prior.pre) - uncapped.token_logits(prior.hidden, prior.doc)
            low = prior.hidden.to(self.subject.dtype)
            logits = [(low * weight[t]).sum(-1) for t in (prior.pre, prior.doc)]
            ours.append((float32.double() - exact).abs().max().item())
            rounded.append(((logits[0] - logits[1]).double() - exact).abs().max().item())
        against = "float64 products of the same states"
        return [
            Line("largest error of a margin, float32 products", against, single(max(ours)), "nats"),
            Line("largest error of a margin in the model's format", against, single(max(rounded)), "nats"),
        ]

    def against_peft(self) -> list[Line]:
        """PEFT's mixed batch of all documents, adapters loaded."""
        ready = [(p, read_prior(self.subject, p.items, p.places)) for p in self.parts]
        documents = documents_of(self.few)
        with tempfile.TemporaryDirectory() as scratch:
            folders = kit.saved(self.adapters, documents, Path(scratch))
            loaded = load_peft(copy.deepcopy(self.bare), folders)
        names = {document.text: n for n, document in enumerate(documents)}

        def ours() -> None:
            for part, prior in ready:
                acting = stack(self.subject, [self.adapters[i.document] for i in part.items])
                read_adapted(self.subject, prior, acting, torch.ones(len(part.items), self.subject.n_layers))

        seconds = self.clock.in_turn({"ours": ours, "PEFT": lambda: mixed(loaded, self.parts, names)}, self.repeats)
        speedup = self.ratio(seconds, "PEFT", "ours")
        each = f"{len(self.few)} documents, one adapter each, stacked anew: speed-up"
        return [Line(each, "PEFT, adapters loaded, mixed batch", speedup, goal=("at least", 1.5))]

    def gain_path(self) -> list[Line]:
        """The exact split over layers and maps, against every layer alone and removed."""
        conditions = parse_conditions("as-delivered")
        encoded = EncodedDocuments({item.document: self.adapters[item.document] for item in self.few})

        def with_probes(*probes: str) -> Callable[[], Any]:
            setup = MeasurementSetup(self.subject, conditions, frozenset({"margins", "layers", *probes}), TOGETHER, 0)
            return lambda: measure(setup, self.few, encoded, frozenset())

        sides = {"none": with_probes(), "path": with_probes("gain-path"), "causal": with_probes("causal")}
        seconds = self.clock.in_turn(sides, 1)
        beyond = {
            name: [a - b for a, b in zip(seconds[name], seconds["none"], strict=True)] for name in ("path", "causal")
        }
        return [
            Line(
                "gain-path attribution of all layers and maps",
                "every layer alone and removed",
                self.ratio(beyond, "path", "causal"),
                goal=("at most", 0.5),
            )
        ]

    def answers(self) -> list[Line]:
        """Greedy answers with an adapter per row, against the model's own `generate` without adapters."""
        items = self.few[:TOGETHER]
        together = stack(self.subject, [self.adapters[item.document] for item in items])
        ones = torch.ones(len(items), self.subject.n_layers)
        ids, mask = (t.to(self.device) for t in pad([self.subject.tokenize(i.question) for i in items], "left"))
        self.bare.generation_config.eos_token_id = None

        def theirs() -> Any:
            return self.bare.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=NEW,
                min_new_tokens=NEW,
                do_sample=False,
                pad_token_id=0,
            )

        def ours() -> None:
            with patch("override_gap.probes.readings.generation.stop_tokens", lambda _: frozenset()):
                generate(self.subject, items, together, ones, new_tokens=NEW)

        seconds = self.clock.in_turn({"ours": ours, "generate": theirs}, min(3, self.repeats))
        return [
            Line(
                f"tokens per second, {len(items)} rows, an adapter each",
                "`model.generate` without adapters",
                self.ratio(seconds, "generate", "ours"),
                goal=("at least", 1.0),
            )
        ]

    def fitted(self) -> list[Line]:
        """Fitting adapters to documents, against as many Adam steps of the bare model's own down projections."""
        documents = documents_of(self.few)
        source = FittedAdapters(self.subject, steps=FIT_STEPS, rank=RANK, batch=len(documents))
        ids, mask = (t.to(self.device) for t in pad(document_tokens(self.subject, documents, "fitted")))
        weights = [p for name, p in self.bare.named_parameters() if name.endswith("down_proj.weight")]

        def bare() -> None:
            moved = [weight.detach().clone() for weight in weights]
            adam = torch.optim.Adam([weight.requires_grad_() for weight in weights], lr=1e-6)
            for _ in range(FIT_STEPS):
                adam.zero_grad()
                logits = self.bare(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
                loss.backward()
                adam.step()
            with torch.no_grad():
                for weight, before in zip(weights, moved, strict=True):
                    weight.requires_grad_(False).copy_(before)
                    weight.grad = None

        seconds = self.clock.in_turn({"ours": lambda: source.encode(documents), "bare": bare}, min(2, self.repeats))
        return [
            Line(
                f"fitting {len(documents)} documents, {FIT_STEPS} steps",
                "as many Adam steps of the model's down projections",
                self.ratio(seconds, "ours", "bare"),
                goal=("at most", 1.2),
            )
        ]
