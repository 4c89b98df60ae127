"""What to do next, from a summary's recommendation and verdict: the last part of the first screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from override_gap.analyses.tune.limits import FEWEST_RELATIONS
from override_gap.margins.text import plural
from override_gap.reports.glossary import explained
from override_gap.reports.page.sentences import Value, delivered, percent, recalls_nothing, sentence, shortened
from override_gap.reports.text import capitalised, estimate, per_cent, rounded, scale_is_verified

NEXT = {
    "as-delivered": "Leave it as delivered",
    "no-gain": "Scaling does not help",
    "undecided": "Measure more",
}
CHECK = "Check the delivery"
BUDGET = "No gain helps within this budget: "
"""How the recommendation begins where every gain costs more than the budget."""


def next_lead(summary: Mapping[str, Any]) -> Markup:
    """The recommendation in a few words."""
    tuning = summary.get("tuning") or {}
    recommendation = tuning.get("recommendation")
    if recalls_nothing(summary) is not None:
        return Markup(f"{CHECK} first.")
    if recommendation == "scale":
        place, row = _candidate(tuning)
        gain = row.get("gain") if tuning["policy"].startswith("uniform-") else None
        if gain is None:
            return Markup('Use the policy <span data-key="tuning.policy">{}</span>.').format(
                shortened(tuning["policy"])
            )
        verb = "Scale the adapters up" if gain > 1 else "Scale the adapters down"
        return Markup('{}, to gain <span data-key="tuning.candidates.{}">{}</span>.').format(verb, place, rounded(gain))
    if recommendation == "no-gain" and tuning["says"].startswith(f"{BUDGET}even"):
        return Markup("Use none of the gains measured here: each costs too much.")
    if (summary.get("verdict") or {}).get("label") == "representational" and recommendation in (None, "no-gain"):
        verified = scale_is_verified(summary.get("handshake"))
        return Markup(f"{'Change' if verified else f'{CHECK}, then change'} how the adapters are made.")
    return Markup(f"{NEXT.get(recommendation or '', 'Nothing can be recommended')}.")


def next_step(summary: Mapping[str, Any], seen: set[str]) -> Iterator[Markup]:
    """The recommendation in sentences, with what it wins and costs, or with what to measure."""
    tuning, verdict = summary.get("tuning") or {}, summary.get("verdict") or {}
    if recalls_nothing(summary) is not None:
        verified = scale_is_verified(summary.get("handshake"))
        yield explained(
            f"The scale is {'' if verified else 'not '}verified: look whether these are the adapters of these documents, and "
            "applied as their method applies them.",
            seen,
        )
    says, representational = tuning.get("says") or "", verdict.get("label") == "representational"
    unverified = not scale_is_verified(summary.get("handshake")) and recalls_nothing(summary) is None
    check_first = representational and unverified and str(next_lead(summary)).startswith(CHECK)
    if check_first:
        yield explained(
            "First see that the adapters are applied at their full strength, which this run has not verified: adapters that "
            "are not applied at all look the same.",
            seen,
        )
    if tuning.get("recommendation") == "scale" and recalls_nothing(summary) is None:
        yield _expected(summary, seen)
    elif says:
        # what the lead has said is not said twice
        text = f"if all of that is right: {says[0].lower()}{says[1:]}" if tuning["recommendation"] == "scale" else says
        for start in ("Undecided: ", "No gain helps: ", *((BUDGET,) if says.startswith(f"{BUDGET}even") else ())):
            text = text.removeprefix(start)
        if says.startswith(f"{BUDGET}even") and (keep := tuning["budget"].get("keep")) is not None:
            yield sentence(
                "The budget asks for {} of unrelated answers kept.", seen, ("tuning.budget", f"{per_cent(keep)}%")
            )
        if says.startswith(f"{BUDGET}even") and tuning.get("further"):
            text = f"{text} {tuning['further'][0]}"
        yield Markup('<span data-key="tuning.says">{}</span>').format(explained(capitalised(text), seen))
    if representational:
        yield explained(
            "What the failures lack is the answer, not strength: they need adapters made in another way.", seen
        )
        if unverified and not check_first:
            yield explained("Have the scale verified too: adapters that are not applied at all look the same.", seen)
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
        (f"{key}.conflict_as_delivered", percent(expected.get("conflict_as_delivered"))),
        (f"{key}.conflict", percent(expected["conflict"])),
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
            (kept[0], percent(kept[1])) if kept else ("outcomes", "not measured"),
            (f"{key}.retention", percent(expected["retention"])),
        ]
        place, row = _candidate(tuning)
        if row.get("kept_at_least") is not None and tuning["budget"].get("keep") is not None:
            both = ((kept[1] if kept else {}).get("clusters") or 0) >= FEWEST_RELATIONS
            text += f", at least {{}} by its one-sided 95% limit{'' if both else ' by fact'} (the budget asks for {{}})"
            values += [
                (f"tuning.candidates.{place}", f"{100 * row['kept_at_least']:.1f}%"),
                ("tuning.budget", f"{per_cent(tuning['budget']['keep'])}%"),
            ]
    elif expected.get("kl"):
        text += "; KL to the base on unrelated questions {} nats per token"
        values.append((f"{key}.kl", estimate(expected["kl"])))
    return sentence(f"{text}.", seen, *values)


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
        return explained("No number of conflicts that could be measured would decide the verdict.", seen)
    noun = plural(n, "more known conflict").removeprefix(f"{n:,}")
    if verdict["more"]["at_least"]:
        text = f"The verdict's rule asks for at least {{}}{noun} before it reads any."
    else:
        text = f"About {{}}{noun} on further facts would decide the verdict, if they are like these."
    return sentence(text, seen, ("verdict.more", f"{n:,}"))
