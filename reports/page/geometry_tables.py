"""Tables of adapters against each other and on neutral text, each beside what the adapters do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from override_gap.reports.page.table import Cell, Table
from override_gap.reports.text import SIZE_HEAD, estimate, per_cent, rounded, size_cell, untrusted


def geometry_tables(summary: Mapping) -> list[Table]:
    """Documents against each other, layer by layer, on neutral text, and what of these goes with effect."""
    return [
        Table(
            "Adapters against each other",
            "Own share: of the squared norm of a document's whole update, what is not common to documents of other relations; "
            "0: one adapter for all of them, 1: nothing in common. This is what adapters are, not what they do: whether what is "
            "common carries an answer, the conditions null-other and null-mean tell.",
            ("quantity", "estimate", SIZE_HEAD),
            tuple(_documents(summary.get("geometry") or {})),
        ),
        Table(
            "Adapters against each other, by layer",
            "Norm: root mean square over documents, weight units. Effective rank: over a unit's documents. "
            "Stable rank: of an update, squared Frobenius over squared spectral norm. "
            "In span: share of an update in the span of its weight's leading left singular vectors, and by chance. Intruders: "
            "of the leading singular vectors of the changed weights, those unlike every one of the weight's own. The last "
            "three are read with --probes geometry, of large models for a sample of documents.",
            (
                "layer",
                "norm",
                "own share",
                "cosine, same relation",
                "other",
                "effective rank",
                "stable rank",
                "in span (by chance)",
                "intruders",
            ),
            tuple(_layers(summary.get("geometry") or {})),
        ),
        Table(
            "On text that has nothing to do with the document",
            "Each adapter as delivered on text of the base's own. The rise of a token: how far the adapter raises its logit, "
            "mean over positions, less the mean over all tokens. Length and angle are of the residual stream behind the last "
            "layer.",
            ("quantity", "estimate", SIZE_HEAD),
            tuple(_neutral(summary.get("neutral") or {})),
        ),
        Table(
            "What an adapter is beside what it does",
            "Rank correlation over documents, with 95% intervals that resample knowledge points and relations. Each interval "
            "stands for itself: of as many pairs as there are here, one in twenty is expected to leave out zero by chance.",
            ("measure", "goes with", "rank correlation", SIZE_HEAD),
            tuple(
                (row["measure"], row["outcome"], estimate(row), size_cell(row))
                for row in summary.get("geometry_effects") or []
            ),
        ),
    ]


def _documents(geometry: Mapping) -> Iterator[tuple[Cell, ...]]:
    if not geometry:
        return
    pairs = {"other": "documents of other relations", "same": "other documents of the one relation that there is"}
    yield (
        f"own share, against {pairs[geometry['pairs']]}",
        estimate(geometry["own_share"]),
        size_cell(geometry["own_share"]),
    )
    for kind, name in (("same", "the same relation"), ("other", "another relation")):
        row = geometry[f"cosine_{kind}"]
        if row["value"] is not None:
            yield f"mean cosine with documents of {name}", estimate(row), size_cell(row)


def _layers(geometry: Mapping) -> Iterator[tuple[Cell, ...]]:
    for row in geometry.get("layers") or []:
        span = "" if row["overlap"] is None else f"{rounded(row['overlap'])} ({rounded(row['overlap_random'])})"
        yield (
            f"{row['layer']}",
            rounded(row["norm"]),
            estimate(row["own_share"]),
            rounded(row["cosine_same"]),
            rounded(row["cosine_other"]),
            "" if row.get("n_unit") is None else f"{rounded(row['effective_rank'])} of {rounded(row['n_unit'])}",
            rounded(row["stable_rank"]),
            span,
            "" if row["intruders"] is None else f"{row['intruders']} of {row['looked_at']}",
        )


def _neutral(neutral: Mapping) -> Iterator[tuple[Cell, ...]]:
    names = {
        "kl": "KL to the base, nats per token",
        "kept": "share of first choices kept",
        "answer_rise": "rise of the document's own answer, nats",
        "answer_rank": "share of other documents' answers that rise less",
        "own_words": "documents of which a word is among the ten tokens that rise most, share",
        "other_words": "the same of a word of another document, by chance",
    }
    for key, name in names.items():
        row = neutral.get(key) or {}
        if row.get("value") is not None:
            yield name, estimate(row), size_cell(row)
    for row in (neutral.get("layers") or [])[-1:]:
        yield (
            f"relative change of the stream's length, layer {row['layer']}",
            estimate(row["radial"]),
            size_cell(row["radial"]),
        )
        yield f"angle of the stream, layer {row['layer']}, radians", estimate(row["angle"]), size_cell(row["angle"])
    if neutral.get("raised"):
        count = neutral["documents"]
        for row in neutral["raised"][:3]:
            share = per_cent(row["documents"] / count)
            yield (
                untrusted(f"among the ten most raised tokens of most documents: {row['token']!r}"),
                f"{share}%",
                f"{count:,}",
            )
