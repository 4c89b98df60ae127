"""Prior, margin and every layer's attribution and lens, against the forward pass from which they are read."""

from __future__ import annotations

from benchmarks.bench import kit
from benchmarks.bench.clock import in_turn
from benchmarks.bench.record import Line, single
from override_gap.probes.readings.adapted import read_base
from override_gap.probes.readings.batching import padding_waste
from override_gap.probes.readings.layers import read_layers
from override_gap.probes.readings.prior import read_prior
from override_gap.probes.subject.forward import forward
from override_gap.probes.subject.model import Subject

TITLE = "Readings against the bare forward pass"
LIMITS = (
    "The bare pass computes the logits of every position, the readings those of the positions that are read, which is "
    "why the ratio can fall below 1. Against the minimal pass, with logits at one position per row, what remains is the "
    "second position whose distribution is read (the first answer token, where the answers share their beginning) and "
    "one product per further token of the old answer. Tried: the logits of all read positions in one product per batch, "
    "each position once, no log-softmax over the vocabulary for a single token (kept). The model runs its own modules: a "
    "pass in which nothing is read costs what the bare one does, less its logits. The same pass through "
    "TransformerBridge's components is also measured. On the organism, half a million parameters, what is left above the "
    "bare pass is some sixty small operations per batch around a pass of a few milliseconds. Batches are cut to minimise "
    "the cost of padding plus the fixed cost of one more pass: small sets are padded more, an audit's less."
)
SUBJECTS = ("smollm2", "organism")
COUNT, AUDITED = 32, 194
MOST = {"smollm2": 0.90, "organism": 1.15}


def readings(subject: Subject, part: kit.Part) -> None:
    """All readings of one batch."""
    prior = read_prior(subject, part.items, part.places, layers=True)
    read_layers(subject, prior, read_base(prior, subject))


def run_all(subject: Subject, parts: list[kit.Part]) -> None:
    """The batches' passes; one position is read, without logits."""
    for part in parts:
        forward(subject, part.batch, part.batch.at[:, None])


def run_through(subject: Subject, parts: list[kit.Part]) -> None:
    """The same through TransformerLens's components."""
    with subject.bridged.as_bridge():
        run_all(subject, parts)


def run(subject: str, repeats: int) -> tuple[list[Line], dict]:
    """Lines of this row."""
    ours, bare = kit.subject(subject), kit.bare(subject)
    parts = kit.parts(ours, kit.conflicts(subject, COUNT))
    timed = in_turn(
        {
            "readings": lambda: [readings(ours, part) for part in parts],
            "bare": lambda: [kit.run_bare(bare, part.batch) for part in parts],
            "bare, last position": lambda: [kit.run_bare_last(bare, part.batch) for part in parts],
            "own modules": lambda: run_all(ours, parts),
            "bridge's modules": lambda: run_through(ours, parts),
        },
        repeats,
    )
    audited = kit.parts(ours, kit.questions(subject, AUDITED))
    lengths = sorted(len(place.fed) for part in audited for place in part.places)
    waste = padding_waste(lengths, _cuts(audited))
    seconds = {name: timed.median(name) for name in timed.seconds}
    what = "prior, margin, attribution and lens of all layers"
    return [
        Line(
            what,
            "bare forward of the same batches",
            timed.ratio("readings", "bare"),
            goal=("at most", MOST[subject]),
            seconds=seconds,
        ),
        Line(
            what,
            "bare forward, logits at one position",
            timed.ratio("readings", "bare, last position"),
            seconds=seconds,
        ),
        *(
            Line(
                name, "bare forward, logits at one position", timed.ratio(side, "bare, last position"), seconds=seconds
            )
            for name, side in (
                ("the pass itself, nothing read", "own modules"),
                ("the same pass through TransformerBridge's components", "bridge's modules"),
            )
        ),
        Line(
            f"padding in the batches of {sum(lengths):,} tokens",
            "all positions fed",
            single(waste),
            unit="share",
            goal=("at most", 0.10),
        ),
    ], {"conflicts": COUNT, "batches": len(parts), "conflicts whose padding is counted": len(lengths)}


def _cuts(parts: list[kit.Part]) -> list[range]:
    first, cuts = 0, []
    for part in parts:
        cuts.append(range(first, first + len(part.items)))
        first += len(part.items)
    return cuts
