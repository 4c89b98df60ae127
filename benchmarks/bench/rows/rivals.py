"""The same readings with TransformerLens and with nnsight: seconds and memory."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from benchmarks.bench import kit
from benchmarks.bench.clock import in_turn, peak_bytes
from benchmarks.bench.record import Line, single
from benchmarks.bench.rows.probes import readings
from override_gap.margins.items.divergence import Divergence
from override_gap.probes.readings.prior import read_prior
from override_gap.probes.subject.forward import Batch
from override_gap.probes.subject.model import Subject

TITLE = "Readings against TransformerLens and nnsight"
LIMITS = (
    "Both rivals run the whole forward pass, unembedding at every position, and differ by what they store. A cache of "
    "everything stores every activation of every layer. A filter, or a trace that saves one position, stores as little "
    "as the readings do: the ratio is then that of the unembedding and of the rival's own bookkeeping. Readings at no "
    "cost at all would be as fast as the bare pass with logits at one position, which is also measured: where its "
    "speed-up is below 1.3, no readings in this model's own pass can be 1.3 times faster. TransformerLens's sides run "
    "through TransformerBridge's components, the readings and nnsight in the model's own modules. On a model of half a "
    "million parameters the readings' small operations add a third to the pass. Memory is what resident memory rises "
    "above its level before a side runs, less what the bare pass with logits at one position takes."
)
SUBJECTS = ("smollm2", "organism")
COUNT = 32
WIDE, WHOLE = 32, 64


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row."""
    ours, bare = kit.subject(subject), kit.bare(subject)
    parts = kit.parts(ours, kit.conflicts(subject, COUNT))
    priors = [read_prior(ours, part.items, part.places) for part in parts]
    pairs = [(part, prior.pre, prior.doc) for part, prior in zip(parts, priors, strict=True)]
    names = ["blocks.0.hook_in", *(f"blocks.{n}.hook_out" for n in range(ours.n_layers))]
    sides: dict[str, Any] = {
        "readings": lambda: [readings(ours, part) for part in parts],
        "cache": lambda: [cached(ours, part, pre, doc, None) for part, pre, doc in pairs],
        "filtered": lambda: [cached(ours, part, pre, doc, names) for part, pre, doc in pairs],
    }
    sides["least"] = lambda: [kit.run_bare_last(bare, part.batch) for part in parts]
    if importlib.util.find_spec("nnsight"):
        traced = traced_model(bare, ours.tokenizer)
        sides["trace"] = lambda: [trace(traced, part, pre, doc) for part, pre, doc in pairs]
    timed = in_turn(sides, repeats)
    seconds = {name: timed.median(name) for name in timed.seconds}
    rivals = {
        "cache": "TransformerLens run_with_cache and logit_attrs",
        "filtered": "the same, cache filtered to the stream",
        "trace": "nnsight trace, one position of every layer saved",
    }
    lines = [
        Line(
            "the readings, speed-up",
            rivals[name],
            timed.ratio(name, "readings"),
            # the filter is a harder rival than the one that the goal names
            goal={"cache": ("at least", 1.2), "trace": ("at least", 1.3)}.get(name),
            seconds=seconds,
        )
        for name in rivals
        if name in sides
    ]
    lines += [
        Line("the bare pass with logits at one position, speed-up", rivals[name], timed.ratio(name, "least"))
        for name in ("filtered", "trace")
        if name in sides
    ]
    if "trace" in sides:
        lines += batches_of_64(ours, traced, repeats)
    return lines + memory(ours, bare, kit.parts(ours, kit.conflicts(subject, 8), 8)[0]), {
        "conflicts": COUNT,
        "nnsight": "trace" in sides,
    }


def batches_of_64(ours: Subject, traced: Any, repeats: int) -> list[Line]:
    """The readings against the trace where both run batches of 64 questions."""
    parts = kit.parts(ours, kit.questions(ours.name, WHOLE), WHOLE)
    priors = [read_prior(ours, part.items, part.places) for part in parts]
    pairs = [(part, prior.pre, prior.doc) for part, prior in zip(parts, priors, strict=True)]
    timed = in_turn(
        {
            "readings": lambda: [readings(ours, part) for part in parts],
            "trace": lambda: [trace(traced, part, pre, doc) for part, pre, doc in pairs],
        },
        repeats,
    )
    against = f"nnsight trace, batches of up to {max(len(part.items) for part in parts)}"
    return [Line("the readings, speed-up", against, timed.ratio("trace", "readings"), goal=("at least", 1.5))]


def memory(ours: Subject, bare: Any, part: kit.Part) -> list[Line]:
    """Peak memory at two widths: what the readings and the cache need on top of the bare pass, and how that grows."""
    peaks: dict[str, list[int]] = {"readings": [], "cache": []}
    for width in (WIDE, 4 * WIDE):
        wide = widened(part, width)
        least = peak_bytes(lambda wide=wide: kit.run_bare_last(bare, wide.batch))
        peaks["readings"].append(peak_bytes(lambda wide=wide: readings(ours, wide)) - least)
        pre = torch.zeros(len(wide.items), dtype=torch.long)
        peaks["cache"].append(peak_bytes(lambda wide=wide, pre=pre: cached(ours, wide, pre, pre + 1, None)) - least)
    mib = 2**20
    return [
        Line(
            f"memory on top of a bare pass with logits at one position: {name}",
            f"{len(part.items)} rows of {width} positions",
            single(n / mib),
            "MiB",
        )
        for name, values in peaks.items()
        for width, n in zip((WIDE, 4 * WIDE), values, strict=True)
    ]


def widened(part: kit.Part, width: int) -> kit.Part:
    """The batch's rows repeated to a width, read where they were."""
    ids = part.batch.ids.repeat(1, -(-width // part.batch.ids.shape[1]))[:, :width]
    return kit.Part(part.items, part.places, Batch(ids, torch.ones_like(ids), part.batch.at, part.batch.shift))


@torch.no_grad()
def cached(
    ours: Subject, part: kit.Part, pre: torch.Tensor, doc: torch.Tensor, names: list[str] | None
) -> torch.Tensor:
    """Margin, attribution over layers and lens as TransformerLens gives them: from a cache, at the reading position."""
    batch, places = part.batch, part.places
    filters = {} if names is None else {"names_filter": [*names, "ln_final.hook_scale", "ln_final.hook_normalized"]}
    with ours.bridged.as_bridge() as bridge:
        logits, cache = bridge.run_with_cache(batch.ids, attention_mask=batch.mask, **filters)
    rows = torch.arange(len(pre))
    strength = strength_of(logits, places)
    direction = ours.unembedding[pre] - ours.unembedding[doc]
    points = ["blocks.0.hook_in", *(f"blocks.{n}.hook_out" for n in range(ours.n_layers))]
    stream = torch.stack([cache[name][rows, batch.at] for name in points], dim=1)
    assert ours.norm is not None
    shares = torch.einsum(
        "bld,bd->bl", stream.diff(dim=1) / ours.norm.scale(stream[:, -1:]) * ours.norm.weight, direction
    )
    lens = torch.einsum("bld,bd->bl", ours.norm(stream), direction)
    return torch.cat([shares, lens, strength[:, None]], dim=1)


def traced_model(bare: Any, tokenizer: Any) -> Any:
    """The unwrapped model inside nnsight."""
    import warnings

    from nnsight import LanguageModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LanguageModel(bare, tokenizer=tokenizer)


@torch.no_grad()
def trace(model: Any, part: kit.Part, pre: torch.Tensor, doc: torch.Tensor) -> torch.Tensor:
    """The same readings from a trace that saves each layer's output at the reading position."""
    import nnsight

    batch, places = part.batch, part.places
    rows = torch.arange(len(pre))
    with model.trace({"input_ids": batch.ids, "attention_mask": batch.mask}):
        stream = nnsight.save([])
        stream.append(model.model.embed_tokens.output[rows, batch.at])
        for layer in model.model.layers:
            stream.append(layer.output[rows, batch.at])
        logits = nnsight.save(model.output.logits)
    norm, weight = model.model.norm._module, model.lm_head._module.weight
    residual = torch.stack(stream, dim=1)
    direction = weight[pre] - weight[doc]
    scale = (residual[:, -1:].square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
    shares = torch.einsum("bld,bd->bl", residual.diff(dim=1) / scale * norm.weight, direction)
    scales = (residual.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
    lens = torch.einsum("bld,bd->bl", residual / scales * norm.weight, direction)
    return torch.cat([shares, lens, strength_of(logits, places)[:, None]], dim=1)


def strength_of(logits: torch.Tensor, places: list[Divergence]) -> torch.Tensor:
    """log P of the old answer from the logits of all positions."""
    wanted = [(n, p.start - 1 + k, t) for n, p in enumerate(places) for k, t in enumerate(p.tokens[p.start :])]
    rows, steps, tokens = (torch.tensor(side) for side in zip(*wanted, strict=True))
    each = logits[rows, steps].log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    return torch.zeros(len(places)).index_add_(0, rows, each)
