"""What adapters change on text that has nothing to do with their documents: KL, the tokens that rise, length and direction."""

from __future__ import annotations

from collections import Counter
from typing import Any

from override_gap.analyses.readings import RunFrame, Table, values
from override_gap.analyses.results import ResultSection, estimate_text
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import mean
from override_gap.analyses.stored_geometry import DocumentPoints

COMMON = 10
"""So many of the tokens that most documents raise are named."""
OUTPUT = {
    "kl": "KL(f || g) on neutral text, nats per token",
    "kept": "share of positions on neutral text whose arg max stays",
    "answer_rise": "rise of the document's own answer on neutral text, nats",
    "answer_rank": "share of other answers that rise less than the document's own on neutral text",
}


def neutral_text(run: RunFrame) -> ResultSection | None:
    """Means over documents, clustered by what the documents are about; None where the probe `neutral` read nothing."""
    rows, points = run.table("neutral"), DocumentPoints.of(run)
    rows = rows[rows["document"].isin(points.by_key)]
    output = rows[rows["layer"] == -1]
    if output.empty:
        return None
    estimates = {column: _mean(name, output, column, points) for column, name in OUTPUT.items()}
    layers = [
        {"layer": int(str(layer))}
        | {column: _mean(column, at, column, points).as_json() for column in ("radial", "angle")}
        for layer, at in rows[rows["layer"] >= 0].groupby("layer", sort=True)
    ]
    content: dict[str, Any] = {
        "documents": len(output),
        **{column: estimate.as_json() for column, estimate in estimates.items()},
        "raised": raised(output),
        "layers": layers,
    }
    lines = [f"{OUTPUT[column]}: {estimate_text(content[column])}" for column in OUTPUT]
    lines.append(
        "raised by most documents: " + ", ".join(f"{row['token']!r} ({row['documents']})" for row in content["raised"])
    )
    return ResultSection("On neutral text", content, "layers", tuple(lines))


def raised(output: Table) -> list[dict[str, Any]]:
    """The tokens that are among the ten most raised of most documents: how many documents, and their mean rise there."""
    counts: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for tokens, rises in zip(output["raised"], output["rises"], strict=True):
        for token, rise in zip(tokens, rises, strict=True) if tokens is not None and rises is not None else ():
            counts[token] += 1
            total[token] += rise
    order = sorted(counts, key=lambda token: (-counts[token], -total[token] / counts[token], token))
    return [{"token": t, "documents": counts[t], "rise": total[t] / counts[t]} for t in order[:COMMON]]


def _mean(name: str, rows: Table, column: str, points: DocumentPoints) -> Estimate:
    return mean(name, values(rows[column]), points(rows["document"]))
