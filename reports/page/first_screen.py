"""The first screen of a run in one breath: what was tested, what came out, what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from override_gap.analyses.price import LOSS
from override_gap.analyses.verdict import FEWEST, FEWEST_POINTS
from override_gap.reports.glossary import SHIPPED, explained
from override_gap.reports.page.next_step import next_lead, next_step
from override_gap.reports.page.sentences import Value, delivered, recalls_nothing, sentence, shortened
from override_gap.reports.text import capitalised, estimate, per_cent, untrusted

FOUND = {
    "magnitude": "Right direction, wrong size",
    "representational": "The adapters do not carry the answer",
    "mixed": "Partly a matter of size",
    "no-failure": "Known conflicts are overridden",
    "inconclusive": "No verdict yet",
}


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
    after = tuple(next_step(summary, seen))
    return tested, found, Part("next", "What to do", next_lead(summary), after)


def _name(name: object, seen: set[str]) -> Markup:
    """A model's or a method's name; those that ship with this tool are explained."""
    return explained(str(name), seen, SHIPPED) if name in SHIPPED else shortened(name)


def _tested(summary: Mapping[str, Any], seen: set[str]) -> Iterator[Markup]:
    subject, adapters = summary.get("subject") or {}, summary.get("adapters") or {}
    yield sentence(
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
        yield sentence(f"Asked: {listed}.", seen, *(value for _, values in asked for value in values))


def _found_lead(summary: Mapping[str, Any], seen: set[str]) -> Markup:
    verdict = summary.get("verdict") or {}
    if recalls_nothing(summary) is not None:
        return explained("The adapters recall almost nothing.", seen, ())
    label, size = verdict.get("label", ""), _size(verdict)
    if label == "magnitude" and size:
        return Markup(f"Right direction, too {size}.")
    if label == "inconclusive" and (held := verdict.get("held") or {}).get("n"):
        harm = "The adapters damage the model, and " if _damage(summary) else ""
        why = "why some known conflicts fail is not decided"
        if held["n"] < FEWEST:
            why = "too few known conflicts fail to say why"
        elif held["points"] < FEWEST_POINTS:
            why = "known conflicts fail on too few facts to say why"
        return Markup(f"{capitalised(f'{harm}{why}')}.")
    return Markup(f"{FOUND.get(label, 'No verdict')}.")


def _found(summary: Mapping[str, Any], seen: set[str]) -> Iterator[Markup]:
    if novel := recalls_nothing(summary):
        key, row = novel
        yield sentence(
            "Of {} questions on new facts, which only the documents answer, {} are answered as delivered.",
            seen,
            (key, f"{row['n']:,}"),
            (key, estimate(row, "share")),
        )
    conflicts, known = delivered(summary, "conflict"), delivered(summary, "conflict", "known")
    if conflicts:
        text, shares = "As delivered, the adapters override {} of conflicts", [conflicts]
        if known:
            text += ", and {} of known ones, those whose old answer the model itself gives"
            shares.append(known)
        yield sentence(f"{text}.", seen, *((key, estimate(row, "share")) for key, row in shares))
    yield _verdict(summary, seen)
    if kept := _damage(summary):
        yield sentence(
            "The adapters also damage the model: only {} of unrelated answers are kept.",
            seen,
            (kept[0], estimate(kept[1], "share")),
        )


def _damage(summary: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Unrelated answers kept as delivered, where surely more than LOSS of them are lost; else None."""
    kept = delivered(summary, "retention")
    return kept if kept and kept[1].get("high") is not None and kept[1]["high"] < 1 - LOSS else None


def _verdict(summary: Mapping[str, Any], seen: set[str]) -> Markup:
    """What the verdict's label says, in one sentence; where there is none, why."""
    verdict = summary.get("verdict") or {}
    label, held, failing = verdict.get("label"), verdict.get("held"), verdict.get("failing")
    if label == "no-failure" and failing:
        return sentence(
            "Only {} of the {} known conflicts fail: there is little to repair.",
            seen,
            ("verdict.failing", estimate(failing, "share")),
            ("verdict.failing", f"{failing['n']:,}"),
        )
    if label in ("magnitude", "representational", "mixed") and held:
        size = _size(verdict)
        after = {
            "magnitude": f": there the adapters are {f'too {size}' if size else 'of the wrong size'}, not wrong",
            "representational": ": strength is not what the adapters lack",
            "mixed": "; for the others none was found",
        }[label]
        only = "only " if label == "representational" and held["value"] > 0 else ""
        return _repaired(verdict, "" if label == "representational" else size, only, after, seen)
    if label == "inconclusive" and held and verdict.get("more") is not None:
        return _too_little(verdict, seen)
    if sentences := verdict.get("sentences") or [text for text in (verdict.get("sentence"),) if text]:
        return Markup('<span data-key="verdict.sentence">{}</span>').format(explained(sentences[0], seen))
    reason = (summary.get("notes") or {}).get("verdict", "this run does not hold what the verdict needs")
    return Markup("No verdict: {}.").format(untrusted(reason))


def _too_little(verdict: Mapping[str, Any], seen: set[str]) -> Markup:
    """An inconclusive verdict for want of failures, or of a narrower interval."""
    held = verdict["held"]
    if held["n"] >= FEWEST and held["points"] >= FEWEST_POINTS:
        after = ". The interval is too wide to say whether the adapters are too weak or do not carry the answer"
        return _repaired(verdict, "", "", after, seen)
    return sentence(
        f"{'Only ' if held['n'] < FEWEST else ''}{{}} known conflict{' fails' if held['n'] == 1 else 's fail'}, on {{}} "
        f"fact{'' if held['points'] == 1 else 's'}; a verdict needs {{}} failures on {{}} facts.",
        seen,
        ("verdict.held", f"{held['n']:,}"),
        ("verdict.held", f"{held['points']:,}"),
        ("verdict.rule", f"{FEWEST}"),
        ("verdict.rule", f"{FEWEST_POINTS}"),
    )


def _repaired(verdict: Mapping[str, Any], size: str, only: str, after: str, seen: set[str]) -> Markup:
    """How many of the known conflicts that fail have a gain that repairs them, how many a cheap one, and what follows."""
    held, cheap = verdict["held"], verdict.get("affordable")
    values: list[Value] = [("verdict.held", f"{held['n']:,}"), ("verdict.held", estimate(held, "share"))]
    price = ""
    if cheap and cheap.get("value") is not None and held["value"]:
        price = " ({} one that costs little)"
        values.append(("verdict.affordable", f"{per_cent(cheap['value'])}%"))
    return sentence(
        f"Of the {{}} known conflicts that fail, {only}{{}} have a {_other(size)}gain of their own that repairs them and leaves "
        f"the model intact{price}{after}.",
        seen,
        *values,
    )


def _size(verdict: Mapping[str, Any]) -> str:
    """'weak' or 'strong', from the causes of the failures that a gain repairs; empty where none is known."""
    counts = {row["cause"]: row["count"] for row in verdict.get("causes") or []}
    weak, strong = counts.get("too weak", 0) + counts.get("at a price", 0), counts.get("too strong", 0)
    if not weak + strong:
        return ""
    return "weak" if not strong else "strong" if not weak else "weak or too strong"


def _other(size: str) -> str:
    """Which gains repair failures of this size, before the noun."""
    return {"weak": "larger ", "strong": "smaller "}.get(size, "")
