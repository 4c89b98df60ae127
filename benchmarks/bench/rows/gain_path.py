"""The gain path's shares of every layer and map, against every layer alone and removed."""

from __future__ import annotations

from benchmarks.bench import kit
from benchmarks.bench.clock import in_turn
from benchmarks.bench.record import Line
from override_gap.margins.items.item import Document
from override_gap.probes.attach.stack import Stack, part_stacks, stack
from override_gap.probes.readings.adapted import Adapted
from override_gap.probes.readings.layers import read_causal
from override_gap.probes.readings.margin_path import read_margin_path
from override_gap.probes.readings.prior import Prior, read_prior
from override_gap.probes.readings.reuse import ReusedPasses
from override_gap.probes.sources.open import open_source

TITLE = "The gain path"
LIMITS = (
    "Shares of all layers and of every map at once, by slopes at as many gains as their sum needs to agree with the margin, "
    "against two passes per layer: the layer alone, and all but it. The passes of the second side are plain in the first "
    "line; in the second they resume from the as-delivered pass at the layer where they differ, as an audit runs them. A "
    "gain of the path is a pass forward and one back, which on so small a model as the organism costs several forward "
    "passes, so that the ratio falls with depth: eight layers there, thirty in SmolLM2."
)
SUBJECTS = ("smollm2", "organism")
COUNT = {"smollm2": 20, "organism": 194}


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row: adapters of the shipped hypernetwork, since the number of gains depends on what they do."""
    ours = kit.subject(subject)
    items = kit.questions(subject, COUNT[subject])
    encoded = open_source("hypernetwork", ours).encode([Document(item.document) for item in items])
    adapters = {item.id: adapter for item, adapter in zip(items, encoded, strict=True)}
    ready = []
    for part in kit.parts(ours, items):
        own = [adapters[item.id] for item in part.items]
        prior = read_prior(ours, part.items, part.places, layers=True, keep_blocks=True)
        ready.append((prior, stack(ours, own), part_stacks(ours, own)))
    layers = list(range(ours.n_layers))

    def resumable(prior: Prior, own: Stack) -> tuple[ReusedPasses, Adapted]:
        passes = ReusedPasses(ours, prior, own, layers=True)
        return passes, passes.run_delivered()

    # what has been read is kept, so that each turn needs passes of its own
    delivered = [resumable(prior, own)[1] for prior, own, _ in ready]
    fresh = iter([[resumable(prior, own)[0] for prior, own, _ in ready] for _ in range(repeats)])
    timed = in_turn(
        {
            "path": lambda: [
                read_margin_path(ours, prior, parts, now)
                for (prior, _, parts), now in zip(ready, delivered, strict=True)
            ],
            "plain": lambda: [read_causal(ours, prior, own, layers) for prior, own, _ in ready],
            "resumed": lambda: [
                read_causal(ours, prior, own, layers, passes)
                for (prior, own, _), passes in zip(ready, next(fresh), strict=True)
            ],
        },
        repeats,
        warm=False,
    )
    what = "gain-path attribution of all layers and maps"
    return [
        Line(what, "every layer alone and removed", timed.ratio("path", "plain"), goal=("at most", 0.5)),
        Line(what, "the same, resumed where the passes differ", timed.ratio("path", "resumed")),
    ], {"conflicts": len(items), "layers": ours.n_layers}
