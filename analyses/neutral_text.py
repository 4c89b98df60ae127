"""What adapters change on text that has nothing to do with their documents: KL, the tokens that rise, length and direction."""

from __future__ import annotations

from collections import Counter
from typing import Any

from override_gap.analyses.readings import RunFrame, Table, values
from override_gap.analyses.results import ResultSection, estimate_text
from override_gap.analyses.stats.estimate import Estimate
from override_gap.analyses.stats.intervals import mean, proportion
from override_gap.analyses.stored_geometry import DocumentPoints
from override_gap.margins.items.item import Document

COMMON = 10
"""So many of the tokens that most documents raise are named."""
OUTPUT = {
    "kl": "KL(f || g) on neutral text, nats per token",
    "kept": "share of positions on neutral text whose arg max stays",
    "answer_rise": "rise of the document's own answer on neutral text, nats",
    "answer_rank": "share of other answers that rise less than the document's own on neutral text",
}
WORDS = {
    "own_words": "share of documents of which a word is among the ten tokens that rise most on neutral text",
    "other_words": "the same of a word of another document, by chance",
}
LETTERS = 4
"""Tokens of fewer letters are found in any text."""


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
    labels = points(output["document"])
    words = dict(zip(WORDS, own_and_other_words(run, output), strict=True))
    content: dict[str, Any] = {
        "documents": len(output),
        **{column: estimate.as_json() for column, estimate in estimates.items()},
        **{column: proportion(WORDS[column], found, labels).as_json() for column, found in words.items()},
        "raised": raised(output),
        "layers": layers,
    }
    lines = [f"{name}: {estimate_text(content[column])}" for column, name in (OUTPUT | WORDS).items()]
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


def own_and_other_words(run: RunFrame, output: Table) -> tuple[list[bool], list[bool]]:
    """Whether one of the tokens that each document's adapter raises most is in its text, and whether one is in the next one's."""
    texts = {Document(str(text)).key: str(text).casefold() for text in run.readings["document"].dropna().unique()}
    own = [texts[key] for key in output["document"]]
    found = []
    for of_texts in (own, own[1:] + own[:1]):
        pairs = zip(output["raised"], of_texts, strict=True)
        found.append(
            [any(_is_in(token, text) for token in (() if raised is None else raised)) for raised, text in pairs]
        )
    return found[0], found[1]


def _is_in(token: str, text: str) -> bool:
    word = token.strip().casefold()
    return len(word) >= LETTERS and word in text


def _mean(name: str, rows: Table, column: str, points: DocumentPoints) -> Estimate:
    return mean(name, values(rows[column]), points(rows["document"]))
