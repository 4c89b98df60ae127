"""A model card for an adapter repository: front matter in the hub's form, verdict, recommended gain, limits of the evidence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from override_gap.analyses.price import interval
from override_gap.margins.text import plural
from override_gap.reports.export.markdown import escaped, markdown_table
from override_gap.reports.export.markdown import model_card as measured_section
from override_gap.reports.export.plain import PlainTable, plain_text
from override_gap.reports.page.tuning_tables import FIGURES, expected_table

TAGS = ("knowledge-editing", "override-gap")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
"""A model of the hub: owner/name. A folder of this form is told from it by no name, so one that is neither is left out."""
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .,:()%/-+")


def model_card(summary: Mapping) -> str:
    """The whole card: front matter, what was measured, the recommended gain with its price, and what the evidence is not."""
    return "\n".join([front_matter(summary), measured_section(summary), *recommended(summary), *limits(summary)]) + "\n"


def quoted(text: object) -> str:
    """Untrusted text as a YAML string in double quotes, in ASCII; what could be markup outside of YAML is escaped as well."""
    return '"' + "".join(map(_escape, str(text))) + '"'


def _escape(letter: str) -> str:
    if letter in _PLAIN:
        return letter
    code = ord(letter)
    if 0xD800 <= code < 0xE000:
        code = 0xFFFD  # half of a pair is no character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def front_matter(summary: Mapping) -> str:
    """The metadata that the hub reads: base model, library, tags, and the measured figures as a model-index."""
    subject, adapters, items = (summary.get(key) or {} for key in ("subject", "adapters", "items"))
    lines = ["---"]
    name = str(subject.get("name") or "")
    if _REPOSITORY.fullmatch(name):
        lines.append(f"base_model: {quoted(name)}")
    if adapters.get("static") is not False:
        lines += ["library_name: peft"]
    lines += ["tags:", *(f"- {tag}" for tag in TAGS)]
    found = list(metrics(summary))
    if found:
        lines += [
            "model-index:",
            f"- name: {quoted(adapters.get('name') or 'adapters')}",
            "  results:",
            "  - task:",
            "      type: text-generation",
            f"      name: {quoted('Override what the base model believes')}",
            "    dataset:",
            "      type: override-gap",
            f"      name: {quoted(items.get('name') or 'items')}",
            "    metrics:",
        ]
        for kind, name, value in found:
            lines += [f"    - type: {kind}", f"      value: {value:.6g}", f"      name: {quoted(name)}"]
    return "\n".join([*lines, "---", ""])


def metrics(summary: Mapping) -> Iterator[tuple[str, str, float]]:
    """Type, name and value of every figure: as delivered, and of the recommended policy, out of fold."""
    splits = {"conflict": "conflicts overridden", "novel": "new facts recalled", "retention": "unrelated answers kept"}
    for row in summary.get("outcomes") or ():
        where = (row["condition"], row["measure"], row["population"], row["tier"])
        if where == ("as-delivered", "top1", "all", None) and row["split"] in splits and row["value"] is not None:
            yield "accuracy", f"{splits[row['split']]}, as delivered, first token{_between(row)}", row["value"]
    tuning = summary.get("tuning") or {}
    if tuning.get("recommendation") != "scale":
        return
    for key in ("conflict", "novel", "retention", "kl"):
        figure = (tuning.get("expected") or {}).get(key)
        if figure is None or figure["value"] is None:
            continue
        text, kind = FIGURES[key]
        metric = "accuracy" if kind == "share" else "kl"
        yield metric, f"{text}, {tuning['policy']}, out of fold{_between(figure)}", figure["value"]


def _between(figure: Mapping) -> str:
    """' (95% interval 0.55 to 0.77, n 194)', or n alone where there is no interval."""
    low, high = figure.get("low"), figure.get("high")
    known = "" if low is None or high is None else f"95% interval {low:.3g} to {high:.3g}, "
    return f" ({known}n {figure['n']})"


def recommended(summary: Mapping) -> list[str]:
    """The section on the gain: what tuning says, the price out of fold beside in sample, and what was not looked at."""
    tuning = summary.get("tuning") or {}
    if not tuning.get("says"):
        return []
    table = expected_table(summary)
    rows = tuple(tuple(plain_text(cell) for cell in row) for row in table.rows)
    blocks = ["## At which gain?", escaped(plain_text(tuning["says"]))]
    blocks += [escaped(plain_text(line)) for line in tuning.get("further") or ()]
    bounds = tuning["budget"]
    kept = [] if bounds["keep"] is None else [f"at least {100 * bounds['keep']:g}% of unrelated answers kept"]
    kept += [] if bounds["kl"] is None else [f"KL to the base up to {bounds['kl']:g} nats per token there"]
    blocks.append(escaped(f"Budget: {', '.join(kept)}."))
    if rows:
        head = tuple(map(plain_text, table.head))
        blocks += [markdown_table(PlainTable(table.title, table.note, head, rows)), escaped(plain_text(table.note))]
    if tuning.get("recommendation") == "scale":
        blocks.append(
            escaped("The gains are in gains.json, which `override-gap tune` writes beside the adapters.").replace(
                "\\`", "`"
            )
        )
    return ["\n\n".join(blocks), ""]


def limits(summary: Mapping) -> list[str]:
    """What the evidence does not show, a line each."""
    items, subject = summary.get("items") or {}, summary.get("subject") or {}
    conflict: Mapping[str, Any] = next(
        (
            row
            for row in summary.get("outcomes") or ()
            if (row["split"], row["condition"], row["measure"], row["population"], row["tier"])
            == ("conflict", "as-delivered", "top1", "all", None)
        ),
        {},
    )
    lines = [
        f"It is evidence on one base model ({subject.get('name')}, fingerprint {str(subject.get('fingerprint'))[:16]}) and one "
        f"item set ({items.get('name')}); of other models and other kinds of facts it says nothing."
    ]
    if conflict:
        clusters = conflict.get("clusters")
        of_kinds = f" of {plural(clusters, 'relation')}" if clusters else ""
        low, high = conflict["low"], conflict["high"]
        between = "" if low is None else f"; the share overridden as delivered is known to{interval(low, high, '.2f')}"
        lines.append(
            f"Conflicts: {conflict['n']} questions on {plural(conflict['points'], 'knowledge point')}{of_kinds}"
            f"{between}."
        )
    lines.append("Success is judged at the first token of the answer; an answer in words can differ.")
    if not summary.get("complete", True):
        lines.append("The run is not complete.")
    return ["\n".join(["## Limits of the evidence", "", *(f"- {escaped(plain_text(line))}" for line in lines)])]
