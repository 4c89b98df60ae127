"""The first screen of a run in one breath: what was tested, what came out, what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from override_gap.analyses.verdict import FEWEST, FEWEST_POINTS
from override_gap.margins.text import plural
from override_gap.reports.glossary import SHIPPED, explained
from override_gap.reports.page.headline import delivered_path, value_at
from override_gap.reports.text import (
    capitalised,
    escape_control_characters,
    estimate,
    per_cent,
    rounded,
    scale_is_verified,
    untrusted,
)

RECALLS_NOTHING = 0.20
"""Below this upper limit of new facts recalled, the page says first that the adapters recall almost nothing."""
SHOWN = 60
"""Characters of another's name that a headline has room for; the table of the run has all of it."""

FOUND = {
    "magnitude": "Right direction, wrong size",
    "representational": "The adapters do not carry the answer",
    "mixed": "Partly a matter of size",
    "no-failure": "The documents win",
    "inconclusive": "Not decided",
}
NEXT = {
    "scale": "Use another gain",
    "as-delivered": "Leave it as delivered",
    "no-gain": "No gain helps",
    "undecided": "Measure more",
}
BUDGET = "No gain helps within this budget: "
"""How the recommendation begins where every gain costs more than the budget."""
Value = tuple[str, object]
"""A key of the summary, and what is shown of the value there."""


@dataclass(frozen=True)
class Part:
    """One of the three parts: its heading, a lead of a few words, and sentences as markup in which terms are explained."""

    name: str
    heading: str
    lead: Markup
    sentences: tuple[Markup, ...]


def first_screen(summary: Mapping[str, Any]) -> tuple[Part, Part, Part]:
    """What was tested, what came out, what to do; every number is inside an element whose data-key is its key in the summary."""
    seen: set[str] = set()
    tested = Part("tested", "What was tested", Markup(""), tuple(_tested(summary, seen)))
    found = Part("found", "What came out", _found_lead(summary, seen), tuple(_found(summary, seen)))
    # its sentences explain what the lead leaves to them
    after = tuple(_next(summary, seen))
    return tested, found, Part("next", "What to do", _next_lead(summary), after)


def delivered(summary: Mapping[str, Any], split: str, population: str = "all") -> tuple[str, Mapping[str, Any]] | None:
    """Key and row of success as delivered on a split, by the first token; None where it was not measured."""
    path = delivered_path(summary, split, population)
    row = value_at(summary, path) if path else None
    return (path, row) if path and row and row.get("value") is not None else None


def recalls_nothing(summary: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """New facts recalled as delivered, where surely less than RECALLS_NOTHING of them are; else None."""
    novel = delivered(summary, "novel")
    return novel if novel and novel[1].get("high") is not None and novel[1]["high"] < RECALLS_NOTHING else None


def shortened(text: object, most: int = SHOWN) -> Markup:
    """Another's name, cut where it is too long for a headline."""
    shown = escape_control_characters(text)
    return untrusted(shown if len(shown) <= most else f"{shown[: most - 1]}\u2026")


def _name(name: object, seen: set[str]) -> Markup:
    """A model's or a method's name; those that ship with this tool are explained."""
    return explained(str(name), seen, SHIPPED) if name in SHIPPED else shortened(name)


def _tested(summary: Mapping[str, Any], seen: set[str]) -> Iterator[Markup]:
    subject, adapters = summary.get("subject") or {}, summary.get("adapters") or {}
    yield _sentence(
        "Do the adapters of {} make the model {} answer as a document says, where the model believes something else?",
        seen,
        ("adapters.name", _name(adapters.get("name", "this method"), seen)),
        ("subject.name", _name(subject.get("name", "a model"), seen)),
    )
    asked: list[tuple[str, list[Value]]] = []
    if conflicts := delivered(summary, "conflict"):
        key, row = conflicts
        facts: list[Value] = [(key, f"{row['points']:,}")] if row.get("points") else []
        kind = "conflict" if row["n"] == 1 else "conflicts"
        over = f" over {{}} fact{'' if row['points'] == 1 else 's'}" if facts else ""
        asked.append((f"{{}} {kind}{over}", [(key, f"{row['n']:,}"), *facts]))
    for split, what in (("novel", "on new facts"), ("combination", "that combine a new fact with another")):
        if found := delivered(summary, split):
            asked.append(
                (f"{{}} question{'' if found[1]['n'] == 1 else 's'} {what}", [(found[0], f"{found[1]['n']:,}")])
            )
    if kept := delivered(summary, "retention"):
        asked.append((f"{{}} unrelated question{'' if kept[1]['n'] == 1 else 's'}", [(kept[0], f"{kept[1]['n']:,}")]))
    if asked:
        texts = [text for text, _ in asked]
        listed = texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
        yield _sentence(f"Asked: {listed}.", seen, *(value for _, values in asked for value in values))


def _found_lead(summary: Mapping[str, Any], seen: set[str]) -> Markup:
    verdict = summary.get("verdict") or {}
    if recalls_nothing(summary) is not None:
        return explained("The adapters recall almost nothing.", seen, ())
    lead = FOUND.get(verdict.get("label", ""), "No verdict")
    return Markup(f"Right direction, too {_size(verdict)}." if verdict.get("label") == "magnitude" else f"{lead}.")


def _found(summary: Mapping[str, Any], seen: set[str]) -> Iterator[Markup]:
    if novel := recalls_nothing(summary):
        key, row = novel
        yield _sentence(
            "Of {} questions on new facts, which only the documents answer, {} are answered as delivered.",
            seen,
            (key, f"{row['n']:,}"),
            (key, estimate(row, "share")),
        )
    conflicts, known = delivered(summary, "conflict"), delivered(summary, "conflict", "known")
    if conflicts:
        text, shares = "As delivered, the document's answer overrides {} of conflicts", [conflicts]
        if known:
            text += ", and {} of those where the model really held the old answer"
            shares.append(known)
        yield _sentence(f"{text}.", seen, *((key, estimate(row, "share")) for key, row in shares))
    yield _verdict(summary, seen)


def _verdict(summary: Mapping[str, Any], seen: set[str]) -> Markup:
    """What the verdict's label says, in one sentence; where there is none, why."""
    verdict = summary.get("verdict") or {}
    label, held, failing = verdict.get("label"), verdict.get("held"), verdict.get("failing")
    if label == "no-failure" and failing:
        return _sentence(
            "Only {} of the {} known conflicts fail: there is little to repair.",
            seen,
            ("verdict.failing", estimate(failing, "share")),
            ("verdict.failing", f"{failing['n']:,}"),
        )
    if label in ("magnitude", "representational", "mixed") and held:
        only = "only " if held["value"] > 0 else ""
        says = {
            "magnitude": f"{{}} are overridden at some other gain, each at its own: they were too {_size(verdict)}, not wrong.",
            "representational": f"{only}{{}} are overridden at any gain that leaves the model intact: they do not lack strength.",
            "mixed": "{} are overridden at some other gain, each at its own, and the others at none.",
        }[label]
        return _sentence(
            f"Of the {{}} known conflicts that fail, {says}",
            seen,
            ("verdict.held", f"{held['n']:,}"),
            ("verdict.held", estimate(held, "share")),
        )
    if label == "inconclusive" and held and verdict.get("more") is not None:
        return _too_little(held, seen)
    if sentences := verdict.get("sentences") or [text for text in (verdict.get("sentence"),) if text]:
        return Markup('<span data-key="verdict.sentence">{}</span>').format(explained(sentences[0], seen))
    reason = (summary.get("notes") or {}).get("verdict", "this run does not hold what the verdict needs")
    return Markup("No verdict: {}.").format(untrusted(reason))


def _too_little(held: Mapping[str, Any], seen: set[str]) -> Markup:
    """An inconclusive verdict for want of failures, or of a narrower interval."""
    if held["n"] >= FEWEST and held["points"] >= FEWEST_POINTS:
        return _sentence(
            "Of the {} known conflicts that fail, {} are overridden at some other gain, each at its own: too wide an interval "
            "to say whether the adapters lack strength or the answer itself.",
            seen,
            ("verdict.held", f"{held['n']:,}"),
            ("verdict.held", estimate(held, "share")),
        )
    return _sentence(
        f"Only {{}} known conflict{'' if held['n'] == 1 else 's'} on {{}} fact{'' if held['points'] == 1 else 's'} fail"
        f"{'s' if held['n'] == 1 else ''}: too few for a verdict, which needs {{}} on {{}}.",
        seen,
        ("verdict.held", f"{held['n']:,}"),
        ("verdict.held", f"{held['points']:,}"),
        ("verdict.rule", f"{FEWEST}"),
        ("verdict.rule", f"{FEWEST_POINTS}"),
    )


def _next_lead(summary: Mapping[str, Any]) -> Markup:
    tuning = summary.get("tuning") or {}
    recommendation = tuning.get("recommendation")
    if recalls_nothing(summary) is not None:
        return Markup("Check the delivery first.")
    if recommendation == "scale":
        place, row = _candidate(tuning)
        gain = row.get("gain") if tuning["policy"].startswith("uniform-") else None
        if gain is None:
            return Markup('Use the policy <span data-key="tuning.policy">{}</span>.').format(
                shortened(tuning["policy"])
            )
        verb = "Scale the adapters by" if gain > 1 else "Weaken the adapters: gain"
        return Markup('{} <span data-key="tuning.candidates.{}">{}</span>.').format(verb, place, rounded(gain))
    if recommendation == "no-gain" and tuning["says"].startswith(BUDGET):
        return Markup("No gain is affordable.")
    return Markup(f"{NEXT.get(recommendation or '', 'Nothing can be recommended')}.")


def _next(summary: Mapping[str, Any], seen: set[str]) -> Iterator[Markup]:
    tuning, verdict = summary.get("tuning") or {}, summary.get("verdict") or {}
    if recalls_nothing(summary) is not None:
        verified = scale_is_verified(summary.get("handshake"))
        yield explained(
            f"The scale is {'' if verified else 'not '}verified: look whether these are the adapters of these documents, and "
            "applied as their method applies them.",
            seen,
        )
    says = tuning.get("says") or ""
    if tuning.get("recommendation") == "scale":
        yield _expected(summary, seen)
    elif says:
        # what the lead has said is not said twice
        text = says
        for start in ("Undecided: ", "No gain helps: ", BUDGET):
            text = text.removeprefix(start)
        if says.startswith(BUDGET) and (keep := tuning["budget"].get("keep")) is not None:
            yield _sentence(
                "The budget asks for {} of unrelated answers kept.", seen, ("tuning.budget", f"{per_cent(keep)}%")
            )
        yield Markup('<span data-key="tuning.says">{}</span>').format(explained(capitalised(text), seen))
    if verdict.get("label") == "representational":
        yield explained(
            "What is missing is the answer: change how the adapters are made, not how strong they are.", seen
        )
    if verdict.get("more") is not None:
        yield _more(verdict, seen)
    if not delivered(summary, "retention") and delivered(summary, "conflict") and "unrelated questions" not in says:
        yield explained("Measure unrelated questions too: without them nobody knows what the adapters damage.", seen)


def _expected(summary: Mapping[str, Any], seen: set[str]) -> Markup:
    """What the recommended policy does on facts held out, before and after: 'conflicts overridden: 67% -> 81%'."""
    tuning, kept = summary["tuning"], delivered(summary, "retention")
    expected, key = tuning["expected"], "tuning.expected"
    text = "Conflicts overridden: {} \u2192 {}"
    values: list[Value] = [
        (f"{key}.conflict_as_delivered", _percent(expected.get("conflict_as_delivered"))),
        (f"{key}.conflict", _percent(expected["conflict"])),
    ]
    if expected.get("difference"):
        text += " ({}, on facts held out of the choice)"
        values.append(
            (
                f"{key}.difference",
                Markup("{}{}").format(
                    "+" * (expected["difference"]["value"] > 0), estimate(expected["difference"], "points")
                ),
            )
        )
    if expected.get("retention"):
        text += "; unrelated answers kept: {} \u2192 {}"
        values += [
            (kept[0], _percent(kept[1])) if kept else ("outcomes", "not measured"),
            (f"{key}.retention", _percent(expected["retention"])),
        ]
        place, row = _candidate(tuning)
        if row.get("kept_at_least") is not None and tuning["budget"].get("keep") is not None:
            text += ", surely at least {} (the budget asks for {})"
            values += [
                (f"tuning.candidates.{place}", f"{100 * row['kept_at_least']:.1f}%"),
                ("tuning.budget", f"{per_cent(tuning['budget']['keep'])}%"),
            ]
    elif expected.get("kl"):
        text += "; KL to the base on unrelated questions {} nats per token"
        values.append((f"{key}.kl", estimate(expected["kl"])))
    return _sentence(f"{text}.", seen, *values)


def _candidate(tuning: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """Place and row of the recommended policy among the candidates."""
    rows = enumerate(tuning.get("candidates") or [])
    return next(((place, row) for place, row in rows if row["condition"] == tuning["policy"]), (-1, {}))


def _more(verdict: Mapping[str, Any], seen: set[str]) -> Markup:
    """What would decide the verdict."""
    n = verdict["more"]["known_conflicts"]
    if not verdict.get("failing"):
        return explained("The verdict needs known conflicts: questions whose old answer the model really gives.", seen)
    if n is None:
        return explained("No number of conflicts of use would decide the verdict.", seen)
    what = "At least" if verdict["more"]["at_least"] else "About"
    noun = plural(n, "more known conflict").removeprefix(f"{n:,}")
    return _sentence(f"{what} {{}}{noun} on new facts would decide the verdict.", seen, ("verdict.more", f"{n:,}"))


def _size(verdict: Mapping[str, Any]) -> str:
    """'weak' or 'strong', from the causes of the failures that a gain repairs."""
    counts = {row["cause"]: row["count"] for row in verdict.get("causes") or []}
    weak, strong = counts.get("too weak", 0) + counts.get("at a price", 0), counts.get("too strong", 0)
    return "weak" if not strong else "strong" if not weak else "weak or too strong"


def _percent(row: Mapping[str, Any] | None) -> str:
    return "not measured" if not row or row.get("value") is None else f"{per_cent(row['value'])}%"


def _sentence(text: str, seen: set[str], *values: Value) -> Markup:
    """A sentence with values at its braces, each bound to its key; terms are explained in its own words, not in the values."""
    first, *rest = text.split("{}")
    whole = explained(first, seen)
    for (key, value), words in zip(values, rest, strict=True):
        whole += Markup('<b data-key="{}">{}</b>').format(key, value) + explained(words, seen)
    return whole
