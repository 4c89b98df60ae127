"""The sections of the page of methods: verdicts, what changed, causes, price, gradients, pass-through, paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from override_gap.analyses.adjusted_gradient import OUTCOMES, adjusted_words, in_context, regressions
from override_gap.analyses.causes import MEANING, causes
from override_gap.analyses.compare.methods import side_by_side
from override_gap.analyses.dose_response import gains
from override_gap.analyses.pass_through import pass_through
from override_gap.analyses.price import price
from override_gap.analyses.readings import RunFrame, points_of, truth, values
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import proportion
from override_gap.analyses.verdict import verdict

PROMPTS = {"in-context, plain": "in-context", "in-context, instructed": "in-context-instructed"}
#: What the first version of the page called the methods.
BEFORE = {"hypernetwork": "mixed"} | dict.fromkeys(("fitted, weak", "fitted, strong", "rank-one"), "representational")


def verdicts(frames: dict[str, RunFrame]) -> list[str]:
    """What the verdict says of each method, in its own words."""
    found = {name: verdict(readings) for name, readings in frames.items()}
    return ["", "## Verdicts", "", *(f"- **{name}**: *{v.label}*. {v.sentence}" for name, v in found.items())]


def changed(frames: dict[str, RunFrame]) -> list[str]:
    """The labels beside those of the first version of this page, whose verdicts read two larger gains and nothing else."""
    lines = ["", "## What changed", ""]
    lines += [
        "The first version of this page called a method after gains of 1.5 and 2 alone, and did not ask for content.",
        "",
    ]
    lines += ["| method | then | now | flips | held | of failures | gains searched |", "|---|---|---|---|---|---|---|"]
    for name, readings in frames.items():
        now = verdict(readings)
        shares = [cell(share.as_json()) if share else "-" for share in (now.rescued, now.held)]
        failures = str(now.held.n) if now.held else "-"
        gains_read = f"{now.searched.low:g} to {now.searched.high:g}" if now.searched else "-"
        lines.append(
            f"| {name} | {BEFORE.get(name, '-')} | {now.label} | {' | '.join(shares)} | {failures} | {gains_read} |"
        )
    lines += [
        f"| {name} | {label} | not measured again | - | - | - | - |"
        for name, label in BEFORE.items()
        if name not in frames
    ]
    return lines


def cause_table(frames: dict[str, RunFrame]) -> list[str]:
    """How many failures of each method have each cause."""
    counts = {
        name: found.items["cause"].value_counts()
        for name, readings in frames.items()
        if (found := causes(readings)) is not None
    }
    lines = [
        "",
        "## Causes of failure",
        "",
        f"| method | failures | {' | '.join(MEANING)} |",
        "|---" * (len(MEANING) + 2) + "|",
    ]
    for name, by_cause in counts.items():
        cells = [str(int(by_cause.get(cause, 0))) for cause in MEANING]
        lines.append(f"| {name} | {int(by_cause.sum())} | {' | '.join(cells)} |")
    return lines


def prices(frames: dict[str, RunFrame]) -> list[str]:
    """Override, unrelated answers kept and mean KL on unrelated questions at every uniform gain."""
    lines = ["", "## Price", "", "KL to the base in nats per token, on the retention questions.", ""]
    lines += ["| method | gain | conflicts overridden | unrelated kept | KL |", "|---|---|---|---|---|"]
    for name, readings in frames.items():
        paid = price(readings)
        for at in paid.rows if paid else ():
            condition = gains(readings)[at.gain]
            rows = readings.select("conflict", condition)
            share = proportion("success", truth(rows["success_top1"]), points_of(rows))
            kl = "-" if at.kl is None else cell(at.kl.as_json())
            lines.append(f"| {name} | {at.gain:g} | {cell(share.as_json())} | {cell(at.retention.as_json())} | {kl} |")
    return lines


def gradients(frames: dict[str, RunFrame]) -> list[str]:
    """The slopes of failure and net margin on prior strength, alone and adjusted, of each method and of each prompt."""
    lines = ["", "## Failure on prior strength", ""]
    lines += [
        "Slopes per standard deviation of log P(y_pre), of all conflicts that the base knows: of failure (log-odds; above 0:",
        "firm answers are harder to override) and of the net margin (nats; below 0). Here and below intervals are clustered by",
        "knowledge point and speak of these relations alone, which are fewer than ten.",
        "",
    ]
    lines += ["| method | outcome | alone | adjusted | for |", "|---|---|---|---|---|"]
    frames = {name: _by_point(readings) for name, readings in frames.items()}
    first = next(iter(frames.values()), None)
    rows = [(name, readings, "as-delivered") for name, readings in frames.items()]
    rows += [(name, first, condition) for name, condition in PROMPTS.items() if first is not None]
    for name, readings, condition in rows:
        fits = [fit for fit in regressions(readings, condition) if fit.population == "all"]
        for outcome in OUTCOMES:
            if chosen := [fit for fit in fits if fit.outcome == outcome]:
                alone, most = chosen[0], chosen[-1]
                cells = [name, outcome, _or_reason(alone.slope), _or_reason(most.slope), _covariates(most.adjusted_for)]
                lines.append(f"| {' | '.join(cells)} |")
    return lines


def against_prompt(frames: dict[str, RunFrame]) -> list[str]:
    """The same slopes with the document in the prompt, and the difference on the same items, where one run holds both."""
    lines = ["", "## Adapter against the document in the prompt", ""]
    lines += ["The same slopes on the same items, and their difference: is it the adapter, or any conflict?", ""]
    lines += ["| method | outcome | adjusted for | adapter | prompt | adapter - prompt |", "|---|---|---|---|---|---|"]
    for name, readings in frames.items():
        section = in_context(_by_point(readings))
        for slopes in section.content["slopes"] if section else ():
            if slopes["population"] == "all":
                cells = [cell(slopes[key]) for key in ("adapter", "prompt")]
                difference = slopes["note"] or cell(slopes["difference"])
                cells = [name, slopes["outcome"], _covariates(slopes["adjusted_for"]), *cells, difference]
                lines.append(f"| {' | '.join(cells)} |")
    return lines


def pass_through_table(frames: dict[str, RunFrame]) -> list[str]:
    """The slope of the adapted margin on the base margin: 1 a constant adapter margin, 0 a level that the adapter sets."""
    lines = ["", "## Pass-through", ""]
    lines += [
        "Slope of the adapted margin on the base's: 1 a constant adapter margin, 0 a level that the adapter sets.",
        "",
    ]
    lines += [
        "| method | adapter margin over prior margin | least squares | other wordings as instrument |",
        "|---|---|---|---|",
    ]
    for name, readings in frames.items():
        rows = readings.select("conflict", "as-delivered", "known")
        ratio = values(rows["adapter_margin"]).mean() / values(rows["prior_margin"]).mean()
        cells = [_or_reason(pass_through(_by_point(readings), "known", method).slope) for method in ("ols", "iv")]
        lines.append(f"| {name} | {ratio:.2f} | {' | '.join(cells)} |")
    return lines


def _covariates(adjusted_for: Sequence[str]) -> str:
    return adjusted_words(adjusted_for).removeprefix("adjusted for ") if adjusted_for else "nothing"


def _or_reason(estimate: Estimate) -> str:
    """The estimate, or why the data do not allow one."""
    return cell(estimate.as_json()) if estimate.known else "; ".join(estimate.caveats)


def _by_point(readings: RunFrame) -> RunFrame:
    """The readings without their relations, so that intervals are clustered by knowledge point."""
    return replace(readings, readings=readings.readings.drop(columns="cluster", errors="ignore"))


def cell(estimate: dict[str, Any]) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:.2f}" if low is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def differences(frames: dict[str, RunFrame]) -> list[str]:
    """Paired differences between every two methods, as delivered."""
    if len(frames) < 2:
        return []
    lines = ["", "Paired differences by first token, on the same items:", ""]
    lines += ["| items | methods | difference | p, Holm |", "|---|---|---|---|"]
    for pair in side_by_side(frames).pairs:
        if pair["measure"] == "top1" and pair["tier"] is None and pair["population"] == "all":
            lines.append(
                f"| {pair['split']} | {pair['first']} - {pair['second']} | {cell(pair['difference'])} | {pair['p_holm']:.2g} |"
            )
    return lines
