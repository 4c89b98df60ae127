"""Twelve conditions on all conflicts of the benchmark, against as many bare forwards of the same tokens."""

from __future__ import annotations

from benchmarks.bench import kit
from benchmarks.bench.clock import in_turn
from benchmarks.bench.record import Line
from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.condition_parser import parse_conditions
from override_gap.probes.run.batch import MeasurementSetup
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.run.unit import measure

TITLE = "Twelve conditions"
LIMITS = (
    "Measured is all that an audit does with items and adapters in memory: the base's pass, every condition's pass, gains, "
    "rows. The base as a condition costs nothing, a row whose gains were run before (a policy that falls back on as-delivered) "
    "is not run again, a pass under adapters ends where the question ends, and a pass takes up the base's or the delivered "
    "one at the first layer where it differs. A sweep of every layer shares nothing below, so adapters on every layer stand "
    "for the worst case; adapters on the upper third share two thirds of every pass. On the organism a "
    "pass is a few milliseconds, and gains, rows and the products of the updates in Python weigh two thirds as much again "
    "(3.2 and 1.65 while passes ran through TransformerBridge in batches of 32, on an AMD EPYC)."
)
SUBJECTS = ("smollm2", "organism")
CONDITIONS = "as-delivered,uniform,slb,ca,random-layers,bottom-layers,margin-matched"
COUNT, PASSES = 194, 12


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row."""
    own, bare = kit.subject(subject), kit.bare(subject)
    items = kit.questions(subject, COUNT)
    conditions = parse_conditions(CONDITIONS)
    assert len(conditions) == PASSES + 1, "twelve beside the base"
    bench = MeasurementSetup(own, conditions, frozenset({"margins"}), 0, 0)
    made = kit.adapters(own, items)
    upper = {text: upper_third(adapter, own.n_layers) for text, adapter in made.items()}
    parts = kit.parts(own, items)
    timed = in_turn(
        {
            "every layer": lambda: measure(bench, items, EncodedDocuments(made), frozenset()),
            "upper third": lambda: measure(bench, items, EncodedDocuments(upper), frozenset()),
            "bare": lambda: [kit.run_bare(bare, part.batch) for part in parts],
        },
        repeats,
        warm=False,
    )
    seconds = {name: timed.median(name) for name in timed.seconds}
    lines = []
    for side, goal in (("every layer", ("at most", 1.15)), ("upper third", ("at most", 1.0))):
        ratio = {k: v / PASSES if k != "n" else v for k, v in timed.ratio(side, "bare").items()}
        what = f"{PASSES} conditions and the base, adapters on {side}"
        lines.append(Line(what, f"{PASSES} bare forwards of the same batches", ratio, goal=goal, seconds=seconds))
    return lines, {"conflicts": len(items), "conditions": PASSES, "rank": kit.RANK, "batches": len(parts)}


def upper_third(adapter: Adapter, n_layers: int) -> Adapter:
    """The adapter's updates of the last third of the layers."""
    kept = {path: u for path, u in adapter.updates.items() if (layer_of(path) or 0) >= n_layers - n_layers // 3}
    return Adapter(adapter.name, kept)
