"""What each figure shows of this run, in one line: the title of its fold and the answer to its question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from override_gap.analyses.causes import HELD
from override_gap.margins.text import one_line, plural
from override_gap.reports.page.sentences import delivered
from override_gap.reports.text import per_cent, rounded


def finding(name: str, summary: Mapping[str, Any]) -> str:
    """The finding of a figure as plain text, from the summary's numbers alone; empty where it holds none."""
    return FINDINGS[name](summary) if name in FINDINGS else ""


def _outcomes(summary: Mapping[str, Any]) -> str:
    rows = [
        row
        for row in summary.get("outcomes") or []
        if (row["split"], row["measure"], row["tier"], row.get("population", "all"))
        == ("conflict", "top1", None, "all")
        and row["value"] is not None
    ]
    own = delivered(summary, "conflict")
    others = [row for row in rows if row["condition"] not in ("base", "as-delivered")]
    if own is None:
        return ""
    text = f"As delivered {_share(own[1])} of conflicts are overridden"
    if not others:
        return f"{text}."
    shares = sorted(others, key=lambda row: row["value"])
    return f"{text}, under {plural(len(others), 'other condition')} from {_share(shares[0])} to {_share(shares[-1])}."


def _prior_gradient(summary: Mapping[str, Any]) -> str:
    gradient = summary.get("prior_gradient") or {}
    quarters = gradient.get("quartiles") or []
    if len(quarters) != 4 or not _has(gradient.get("gap")):
        return ""
    return (
        f"Of the most weakly held quarter {_share(quarters[0])} are overridden, of the most firmly held "
        f"{_share(quarters[-1])}; difference {_points(gradient['gap'])}."
    )


def _margins(summary: Mapping[str, Any]) -> str:
    margins = summary.get("margins") or {}
    prior, adapter = margins.get("prior") or {}, margins.get("adapter") or {}
    if prior.get("mean") is None or adapter.get("mean") is None:
        return ""
    return f"Mean prior margin {rounded(prior['mean'])} nats, mean adapter margin as delivered {rounded(adapter['mean'])} nats."


def _constancy(summary: Mapping[str, Any]) -> str:
    margins = summary.get("margins") or {}
    slopes = {row["quantity"]: row for row in margins.get("slopes") or [] if row.get("value") is not None}
    prior, adapter = slopes.get("prior_margin"), slopes.get("adapter_margin")
    if not prior or not adapter or prior["axis"] != adapter["axis"]:
        return ""
    axis = prior["axis"].replace("_", " ")
    return f"Per unit of {axis} the prior margin changes by {_number(prior)} nats, the adapter margin by {_number(adapter)}."


def _calibration(summary: Mapping[str, Any]) -> str:
    rows = [
        row
        for row in (summary.get("criterion") or {}).get("agreement") or []
        if (row["condition"], row["measure"]) == ("as-delivered", "top1") and _has(row)
    ]
    return f"The sign of the net margin agrees with the first token on {_share(rows[0])} of conflicts." if rows else ""


def _disagreement(summary: Mapping[str, Any]) -> str:
    pairs = (summary.get("measures") or {}).get("pairs") or []
    own = [row for row in pairs if row["condition"] == "as-delivered" and _has(row)]
    parts = [f"{row['first']} and {row['second']} on {_share(row)} of {row['n']:,}" for row in own]
    return f"As delivered the measures disagree: {'; '.join(parts)} conflicts." if parts else ""


def _layers(summary: Mapping[str, Any]) -> str:
    note = (summary.get("layers") or {}).get("note")
    return _sentence(note)


def _dose(summary: Mapping[str, Any]) -> str:
    dose = summary.get("dose") or {}
    half, critical = dose.get("half_gain") or {}, dose.get("critical") or {}
    if half.get("value") is None:
        return _sentence(dose.get("half_gain_note"))
    text = f"Half of the failures flip by gain {rounded(half['value'])}"
    beyond = critical.get("not_rescuable") or {}
    return f"{text}; {_share(beyond)} at none that was tried." if _has(beyond) else f"{text}."


def _causes(summary: Mapping[str, Any]) -> str:
    causes = [row for row in (summary.get("verdict") or {}).get("causes") or [] if row["count"]]
    if not causes:
        return ""
    n = sum(row["count"] for row in causes)
    held = sum(row["count"] for row in causes if row["cause"] in HELD)
    repaired, others = (
        ", ".join(f"{row['cause']} {row['count']}" for row in causes if (row["cause"] in HELD) is wanted)
        for wanted in (True, False)
    )
    text = f"{held} of {plural(n, 'failure')} of known conflicts repaired by some gain"
    return f"{text}{f' ({repaired})' if repaired else ''}{f'; the others: {others}' if others else ''}."


def _retention(summary: Mapping[str, Any]) -> str:
    matched = summary.get("matched_retention") or {}
    rows = [row for row in (matched.get("kl") or matched.get("comparisons") or []) if _has(row.get("difference"))]
    if not rows:
        return ""
    row = max(rows, key=lambda row: row["difference"]["value"])
    cost = "KL" if matched.get("kl") else "retention"
    name = one_line(row["condition"])[:60]
    largest = f"the largest of {len(rows)} differences is that of {name}: {_points(row['difference'])}."
    return f"Against uniform scaling of equal {cost} {largest}"


def _robustness(summary: Mapping[str, Any]) -> str:
    rows = [
        row
        for row in (summary.get("robustness") or {}).get("consistency") or []
        if (row["split"], row["condition"], row["measure"]) == ("conflict", "as-delivered", "top1")
    ]
    if not rows:
        return ""
    row = rows[0]
    facts = plural(row["points"], "fact")
    return f"Of {facts} asked in several wordings, {row['mixed']} are overridden in some wordings and not in others."


def _belief(summary: Mapping[str, Any]) -> str:
    sentences = (summary.get("belief") or {}).get("sentences") or []
    return one_line(sentences[0]) if sentences else ""


def _prior_dose(summary: Mapping[str, Any]) -> str:
    rows = [row for row in summary.get("hypotheses") or [] if row["id"] == "H6" and row.get("effect")]
    return _sentence(rows[0]["effect"]) if rows else ""


def _components(summary: Mapping[str, Any]) -> str:
    totals = {row["part"]: row for row in (summary.get("components") or {}).get("totals") or []}
    change, response = totals.get("change") or {}, totals.get("response") or {}
    if change.get("value") is None or response.get("value") is None:
        return ""
    return (
        f"Of an adapter margin of {rounded(change['value'])} nats, {rounded(response['value'])} are the base's own layers "
        "on what the adapter changed."
    )


def _one_item(summary: Mapping[str, Any]) -> str:
    item = summary.get("one_item") or {}
    if item.get("prior_margin") is None or item.get("adapter_margin") is None:
        return ""
    return (
        f"{one_line(item['item'])[:60]}: prior margin {rounded(item['prior_margin'])} nats, adapter margin as delivered "
        f"{rounded(item['adapter_margin'])} nats."
    )


FINDINGS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "outcomes": _outcomes,
    "prior_gradient": _prior_gradient,
    "margins": _margins,
    "constancy": _constancy,
    "prior_dose": _prior_dose,
    "calibration": _calibration,
    "disagreement": _disagreement,
    "layers": _layers,
    "components": _components,
    "dose_response": _dose,
    "causes": _causes,
    "retention": _retention,
    "robustness": _robustness,
    "belief": _belief,
    "one_item": _one_item,
}


def _has(row: Mapping[str, Any] | None) -> bool:
    return bool(row) and row.get("value") is not None


def _share(row: Mapping[str, Any]) -> str:
    return f"{per_cent(row['value'])}%"


def _points(row: Mapping[str, Any]) -> str:
    interval = "" if row.get("low") is None else f" [{per_cent(row['low'])}, {per_cent(row['high'])}]"
    return f"{per_cent(row['value'])} points{interval}"


def _number(row: Mapping[str, Any]) -> str:
    interval = "" if row.get("low") is None else f" [{rounded(row['low'])}, {rounded(row['high'])}]"
    return f"{rounded(row['value'])}{interval}"


def _sentence(text: str | None) -> str:
    text = one_line(text or "").rstrip(".")
    return f"{text[:1].upper()}{text[1:]}." if text else ""
