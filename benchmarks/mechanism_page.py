"""The page docs/mechanism.md: tables of what the mechanism probes read, one row per audit, from the runs' own summaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import mechanism_adapters, mechanism_layers
from benchmarks.mechanism_table import estimate, first, table
from override_gap.analyses.dose_rows import UP_TO_SMALL
from override_gap.analyses.readings import RunFrame
from override_gap.analyses.summary import summarise

HEAD = """# Mechanism

A method makes a small change of a model's weights from a document (an adapter), and the model still gives its old answer:
why, above all where the old belief was firm? The usual account says that an adapter always pushes about equally hard, so that
a firmer belief wins. Here that is tested by experiment rather than by correlation, on the models that come with the tool: the
belief itself is made stronger or weaker and the same adapter is applied again, and what the adapter does is followed through
the model's layers. For readers who want to know how far the account holds; words are in the [glossary](glossary.md), the
account's claims in [hypotheses](hypotheses.md).

Is the account right about causes? It says that strong priors win because the adapter's margin is about constant while the prior
margin grows. Here the prior is changed and the same adapter is read on top (`--probes prior-dose`), the adapter margin is split
over layers and maps by an integrated gradient that sums to it (`gain-path`), over components (`components`), and adapters are
compared with each other and on text that has nothing to do with them (`geometry`, `neutral`). Doses are read on conflicts that
the base knows, the other tables on all conflicts; 95% intervals, the wider of those clustered by knowledge point and by relation.

`python benchmarks/mechanism.py --worlds worlds/6 worlds/7 --out runs/mechanism > docs/mechanism.md` writes this page up to its
last three sections. Fitted adapters: `fitted:steps=8,lr=1e-2`. Every table is read from `summary.json` of an audit that
anyone can make: `override-gap audit --probes margins,layers,causal,gain-path,components,prior-dose,geometry,neutral,search`.
"""

SIGNS = ("raised", "lowered", UP_TO_SMALL)
Summaries = Mapping[str, Mapping[str, Any]]


def page(frames: Mapping[str, Mapping[str, RunFrame]]) -> str:
    """The page, as far as the runs allow; a table without rows is left out. `frames`: per subject, a run per set of probes."""
    summaries = {name: joined([summarise(frame) for frame in parts.values()]) for name, parts in frames.items()}
    parts = [HEAD]
    for section in SECTIONS:
        parts += section(summaries)
    return "\n".join(parts)


def joined(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several summaries of one subject as one: of each section the first that is filled; of each hypothesis the first tested."""
    found: dict[str, Any] = {}
    for summary in summaries:
        found |= {key: value for key, value in summary.items() if value and not found.get(key)}
    rows = [row for summary in summaries for row in summary["hypotheses"]]
    tested = [row for row in rows if row["status"] != "not testable"]
    return {**found, "hypotheses": tested + rows}


def dosed(summaries: Summaries) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Name, section `prior_dose` and whole summary of the runs whose prior was changed."""
    for name, summary in summaries.items():
        if summary.get("prior_dose"):
            yield name, summary["prior_dose"], summary


def pass_through(summaries: Summaries) -> list[str]:
    """Causal slopes beside the one that is observed over items."""

    def rows() -> Iterator[Sequence[str]]:
        for name, dose, summary in dosed(summaries):
            slopes = dose["pass_through"]
            own = {"condition": "as-delivered", "update": dose["read"], "doses": "all"}
            every = first(slopes, **own, items="all")
            h6 = first(summary["hypotheses"], id="H6") or {}
            yield (
                name,
                "\N{EN DASH}" if every is None else str(every["n"]),
                estimate(every),
                *(estimate(first(slopes, **{**own, "doses": sign}, items="all")) for sign in SIGNS),
                *(estimate(first(slopes, **own, items=f"{part} third")) for part in ("lowest", "highest")),
                estimate(first(dose["observed"], what="items of the experiment")),
                dose["answer"],
                h6.get("status", ""),
            )

    head = (
        "audit",
        "n",
        "causal",
        "raised",
        "lowered",
        "up to 4",
        "lowest third",
        "highest third",
        "observed",
        "reads as",
        "H6",
    )
    says = (
        "Pass-through: how much of each nat added to the base's prior margin reaches the adapted margin, the same adapter "
        "on top. 1: the adapter margin is constant, as the account says; 0: the adapter sets a level. *causal*: within "
        "each item over doses of -4, -2, 2, 4 and 8 nats, less what the update of another fact does; *raised*, *lowered*: "
        "over the doses above and below 0; *up to 4*: without the dose of 8; *thirds*: items by net margin without a "
        "dose; *observed*: the slope over the same items without any intervention."
    )
    return table("Does a stronger prior win because it is stronger?", says, head, rows())


def by_dose(summaries: Summaries) -> list[str]:
    """What happens dose by dose, under the item's own update."""

    def rows() -> Iterator[Sequence[str]]:
        for name, dose, _ in dosed(summaries):
            for row in dose["doses"]:
                if row["condition"] == "as-delivered" and row["arm"] == "own":
                    yield (
                        name,
                        f"{row['dose']:+g}",
                        f"{row['reached']} of {row['asked']}",
                        estimate(row["moved"], sign=True),
                        estimate(row["adapter_change"], sign=True),
                        estimate(row["success"]),
                        estimate(row["predicted"]),
                    )

    head = ("audit", "dose", "reached", "prior moved", "adapter margin moves", "overridden", "predicted")
    says = (
        "Dose by dose, nats. *predicted*: the share overridden if the adapter margin stayed what it is without a dose. "
        "Items whose dose is not reached are left out of their row."
    )
    return table("Dose by dose", says, head, rows())


def by_step(summaries: Summaries) -> list[str]:
    """Pass-through from each dose to the next."""

    def rows() -> Iterator[Sequence[str]]:
        for name, dose, _ in dosed(summaries):
            if dose.get("steps"):
                yield name, *(estimate(first(dose["steps"], **{"from": low})) for low in (-4.0, -2.0, 0.0, 2.0, 4.0))

    head = ("audit", "-4 to -2", "-2 to 0", "0 to 2", "2 to 4", "4 to 8")
    says = "The same between neighbouring doses alone: where it changes along a row, no single slope describes the adapter."
    return table("From dose to dose", says, head, rows())


def other_conditions(summaries: Summaries) -> list[str]:
    """Pass-through under other adapters, other amplitudes, and updates at other layers."""

    def rows() -> Iterator[Sequence[str]]:
        for name, dose, _ in dosed(summaries):
            slopes = dose["pass_through"]

            def cell(condition: str, update: str, slopes: Any = slopes) -> str:
                return estimate(first(slopes, condition=condition, update=update, doses="all", items="all"))

            yield (
                name,
                *(cell(condition, "own") for condition in ("as-delivered", "uniform-0.5", "null-other")),
                cell("as-delivered", "other-layers"),
                cell("as-delivered", "own less placebo"),
                cell("as-delivered", "own, final norm held"),
            )

    head = (
        "audit",
        "own adapter",
        "at gain 0.5",
        "another document's",
        "update at other layers",
        "less placebo",
        "final norm held",
    )
    says = (
        "The same slope under the adapter at half its gain, under another document's adapter, where the belief is changed "
        "in layers that the adapter leaves alone, less what the placebo does, and with the adapted stream divided by what "
        "the base's final norm divides by."
    )
    return table("Whose doing is it?", says, head, rows())


def controls(summaries: Summaries) -> list[str]:
    """What the belief updates do to the base beside their own question."""

    def rows() -> Iterator[Sequence[str]]:
        for name, dose, _ in dosed(summaries):
            for size in (-4.0, 2.0, 4.0, 8.0):
                own = first(dose["controls"], arm="own", dose=size) or {}
                placebo = first(dose["controls"], arm="placebo", dose=size) or {}
                yield (
                    name,
                    f"{size:+g}",
                    estimate(placebo.get("moved"), sign=True),
                    estimate(placebo.get("moved_size")),
                    estimate(own.get("old_lead_moved"), sign=True),
                    estimate(own.get("others_moved"), sign=True),
                    estimate(own.get("kept")),
                    estimate(own.get("kl"), 3),
                )

    head = (
        "audit",
        "dose",
        "placebo moves",
        "its size",
        "old answer rises",
        "other wordings move",
        "unrelated kept",
        "KL",
    )
    says = (
        "Controls on the base, nats: by how much the update of *another* fact moves this item's prior margin (mean, and "
        "mean size), how far the item's own update raises the old answer over the mean of all logits (the rest of the "
        "dose lowers the document's answer), what it does to other wordings of its fact, to unrelated answers, and to the "
        "base's distribution there."
    )
    return table("Controls", says, head, rows())


def components(summaries: Summaries) -> list[str]:
    """The adapter margin by what updates write and what the base's own layers make of it."""

    def rows() -> Iterator[Sequence[str]]:
        for name, summary in summaries.items():
            found = summary.get("components")
            if found:
                parts = ("change", "own", "response", "rest", "norm", "response, attention", "response, mlp")
                yield (
                    name,
                    *(estimate(first(found["totals"], part=part)) for part in parts),
                    estimate(found["answered"]),
                )

    head = ("audit", "adapter margin", "own", "response", "rest", "norm", "by attention", "by MLP", "answered")
    says = (
        "The adapter margin, nats, as a sum. *own*: what the updates write on the base's stream. *response*: what the "
        "base's own layers add because the stream is another one, by attention and by MLP. *rest*: updates acting on what "
        "the stream has become. *norm*: the final norm's other scale. *answered*: the share of own and rest that the "
        "response takes back (negative: adds to)."
    )
    return table("Is the push undone downstream?", says, head, rows())


def prior_in_components(summaries: Summaries) -> list[str]:
    """Which part makes the adapter margin depend on the prior."""

    def rows() -> Iterator[Sequence[str]]:
        for name, summary in summaries.items():
            slopes = (summary.get("components") or {}).get("slopes")
            if slopes:
                parts = ("change", "own", "response", "rest", "norm")
                yield name, *(estimate(first(slopes, part=part)) for part in parts)

    head = ("audit", "adapter margin", "own", "response", "rest", "norm")
    says = (
        "Slopes of the same parts over items on the prior margin, nats per nat; they add up to that of the adapter "
        "margin, which is 0 where the account's constant margin holds. The final norm shrinks what the base says by the "
        "same share at every prior, so that its part grows with the prior by that share."
    )
    return table("Which part depends on the prior?", says, head, rows())


SECTIONS: tuple[Callable[[Summaries], list[str]], ...] = (
    pass_through,
    by_step,
    by_dose,
    other_conditions,
    controls,
    components,
    prior_in_components,
    *mechanism_layers.SECTIONS,
    *mechanism_adapters.SECTIONS,
)
