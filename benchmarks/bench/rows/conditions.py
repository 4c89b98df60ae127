"""Twelve conditions on all conflicts of the benchmark, against as many bare forwards of the same tokens."""

from __future__ import annotations

from benchmarks.bench import kit
from benchmarks.bench.clock import in_turn
from benchmarks.bench.record import Line
from override_gap.margins.adapter import Adapter, layer_of
from override_gap.margins.condition_parser import parse_conditions
from override_gap.probes.run.encode import EncodedDocuments
from override_gap.probes.run.measurement_setup import MeasurementSetup
from override_gap.probes.run.unit import measure

TITLE = "Twelve conditions"
LIMITS = (
    "Measured is everything an audit does once items and adapters are in memory: the base's pass, every condition's "
    "pass, gains, rows. The base as a condition costs nothing, a row whose gains were run before (a policy that falls "
    "back to as-delivered) is not run again, a pass with adapters ends where the question ends, and a pass continues "
    "from the base's or the as-delivered one at the first layer where it differs. Adapters on every layer share no lower "
    "layers, so they are the worst case; adapters on the upper third share two thirds of every pass. On the organism a "
    "pass is a few milliseconds, and gains, rows and the products of the updates in Python add another two thirds (3.2 "
    "and 1.65 while passes ran through TransformerBridge in batches of 32, on an AMD EPYC)."
)
SUBJECTS = ("smollm2", "organism")
CONDITIONS = "as-delivered,uniform,slb,ca,random-layers,margin-matched"
COUNT, PASSES = 194, 12

MOST = {"smollm2": 0.75, "organism": 1.2}
"""Of the bare passes that as many conditions would take, adapters on every layer."""


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row."""
    wrapped, bare = kit.subject(subject), kit.bare(subject)
    items = kit.questions(subject, COUNT)
    conditions = parse_conditions(CONDITIONS)
    assert len(conditions) == PASSES + 1, "twelve conditions and the base"
    setup = MeasurementSetup(wrapped, conditions, frozenset({"margins"}), 0, 0)
    adapters = kit.adapters(wrapped, items)
    upper = {text: upper_third(adapter, wrapped.n_layers) for text, adapter in adapters.items()}
    parts = kit.parts(wrapped, items)
    timed = in_turn(
        {
            "every layer": lambda: measure(setup, items, EncodedDocuments(adapters), frozenset()),
            "upper third": lambda: measure(setup, items, EncodedDocuments(upper), frozenset()),
            "bare": lambda: [kit.run_bare(bare, part.batch) for part in parts],
        },
        repeats,
        warm=False,
    )
    seconds = {name: timed.median(name) for name in timed.seconds}
    lines = []
    for side, goal in (("every layer", ("at most", MOST[subject])), ("upper third", None)):
        ratio = {k: v / PASSES if k != "n" else v for k, v in timed.ratio(side, "bare").items()}
        what = f"{PASSES} conditions and the base, adapters on {side}"
        lines.append(Line(what, f"{PASSES} bare forwards of the same batches", ratio, goal=goal, seconds=seconds))
    return lines, {"conflicts": len(items), "conditions": PASSES, "rank": kit.RANK, "batches": len(parts)}


def upper_third(adapter: Adapter, n_layers: int) -> Adapter:
    """The adapter's updates of the last third of the layers."""
    updates = {path: u for path, u in adapter.updates.items() if (layer_of(path) or 0) >= n_layers - n_layers // 3}
    return Adapter(adapter.name, updates)
