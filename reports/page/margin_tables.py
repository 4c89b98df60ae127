"""Tables of margins: their size and slopes, the criterion against what the model says, and where layers stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from override_gap.reports.page.table import Table
from override_gap.reports.text import ABSENT, SIZE_HEAD, estimate, p_cell, rounded, size_cell, untrusted

PROFILE = (
    "norm", "attribution_base", "attribution_adapted", "lens_base", "lens_adapted", "direct", "path", "path_first",
    "alone", "removed",
)  # fmt: skip

METHODS = {"ols": "least squares", "iv": "other wordings as instrument"}


def margin_tables(summary: Mapping) -> Iterator[Table]:
    """Margins over conflicts, then their slopes and association."""
    margins = summary.get("margins") or {}
    named = [(name, margins.get(name)) for name in ("prior", "adapter", "push", "pull")]
    named += [(f"adapter, {row['condition']}", row) for row in margins.get("adapter_by_condition") or []]
    yield Table(
        "Margins over conflicts",
        "In nats; cv = sd / |mean|, blank where the mean is near zero.",
        ("margin", "mean", "sd", "cv", SIZE_HEAD),
        tuple(
            (untrusted(name), *(rounded(row.get(key)) for key in ("mean", "sd", "cv")), size_cell(row))
            for name, row in named
            if row
        ),
    )
    correlation, equivalence = margins.get("correlation"), margins.get("equivalence")
    quantities = [(row["quantity"], row["axis"], row, row.get("p")) for row in margins.get("slopes") or []]
    quantities.append(("adapter against prior margin, Spearman", ABSENT, correlation, None))
    if equivalence:
        bound = f" (constant if within \u00b1{equivalence['bound']:g})" if equivalence.get("bound") is not None else ""
        name = f"adapter slope / prior slope{bound}"
        quantities.append((name, equivalence.get("axis", ""), equivalence, equivalence.get("p")))
    yield Table(
        "Slopes and association of margins",
        (correlation or {}).get("note") or "Least squares, errors clustered by knowledge point.",
        ("quantity", "axis", "estimate", "p", SIZE_HEAD),
        tuple(
            (untrusted(name), untrusted(axis), estimate(row), p_cell(p), size_cell(row))
            for name, axis, row, p in quantities
            if row
        ),
    )
    yield pass_through_table(summary)


def pass_through_table(summary: Mapping) -> Table:
    """The slope of the adapted margin on the base's, and whether the adapter has the margin that it needs."""
    through = (summary.get("margins") or {}).get("pass_through") or {}
    check = through.get("margin") or {}
    note = (
        "Adapted margin g(y_pre) - g(y_doc) on the base's f(y_pre) - f(y_doc), over conflicts: 1 where the adapter margin is "
        "the same for every conflict, 0 where the adapter sets a level. F: how well other wordings predict the base's margin. "
        "p: of a slope within 1 \u00b1 " + f"{through.get('bound', 0.25):g}."
    )
    if check.get("reason"):
        note += f" These slopes do not speak of the method: {check['reason']}."
    rows = [
        (
            row["population"],
            METHODS[row["method"]],
            estimate(row),
            rounded(row.get("first_stage_f")),
            p_cell(row.get("p")),
            row,
        )
        for row in through.get("slopes") or []
        if row.get("value") is not None
    ]
    return Table(
        "Pass-through: adapted margin on base margin",
        note,
        ("items", "method", "slope", "F", "p", SIZE_HEAD),
        tuple((*cells, size_cell(row)) for *cells, row in rows),
    )


def criterion_table(summary: Mapping) -> Table:
    """The criterion against each measure of success."""
    return Table(
        "Does the criterion predict what the model says?",
        "Net margin above zero against success by the measure. Between the two answers the criterion holds by "
        "definition; it can fail where a third token wins, or on a longer answer.",
        ("condition", "measure", "agreement", "override by both", "criterion only", "said only", SIZE_HEAD),
        tuple(
            (
                untrusted(row["condition"]),
                row["measure"],
                estimate(row, "share"),
                *(rounded(row.get(key)) for key in ("true_override", "third_token", "without_criterion")),
                size_cell(row),
            )
            for row in (summary.get("criterion") or {}).get("agreement") or []
        ),
    )


def layer_tables(summary: Mapping) -> Iterator[Table]:
    """The profile over depth, then the layers that policies chose."""
    layers = summary.get("layers") or {}
    profile = layers.get("profile") or []
    keys = [key for key in PROFILE if any(row.get(key) for row in profile)]
    yield Table(
        "Layers",
        layers.get("note") or "Means over conflicts with 95% intervals; layer \u22121 is the embedding.",
        ("layer", *(key.replace("_", ", ") for key in keys)),
        tuple(
            (rounded(row["layer"]).replace("-", "\u2212"), *(estimate(_mean(row.get(key))) for key in keys))
            for row in profile
        ),
    )
    yield Table(
        "Layers chosen, and those with the largest effect",
        "As many layers as the policy boosts, by their mean causal effect. Carried: the share of all layers' effect.",
        ("policy", "chose most often", "largest effect", "carried by its choice", "carried by the best", SIZE_HEAD),
        tuple(
            (
                untrusted(row["condition"]),
                ", ".join(map(str, row["chosen"])),
                ", ".join(map(str, row["best"])),
                f"{row['carried']:.0%}",
                f"{row['best_carried']:.0%}",
                size_cell(row),
            )
            for row in layers.get("choices") or []
        ),
        open=True,
    )


def _mean(row: Mapping | None) -> Mapping | None:
    """A mean with its interval, in the shape of an estimate."""
    return {**row, "value": row["mean"]} if row else None
