"""One sample per item under one condition, from stored readings: what other viewers' logs are made of. Nothing is invented:
an answer that was not generated is none, and what was not measured has no score."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from override_gap.analyses.readings import RunFrame
from override_gap.margins.text import escape_control_characters

SUCCESS = {
    "top1": "success_top1",
    "margin": "success_margin",
    "answer": "success_answer",
    "answer_substring": "success_answer_substring",
}
"""The measures of success by their names, and the columns that hold them; never mixed into one score."""
ABOUT = {
    "top1": "first token: the document's is the most likely one where the answers differ (unrelated: the base's own first token)",
    "margin": "the net margin is above 0: the document's answer is preferred to the old one (unrelated: it is not)",
    "answer": "the greedy answer gives the document's answer (unrelated: the right one)",
    "answer_substring": "the greedy answer contains it anywhere",
}
METADATA = (
    "split", "tier", "known", "point", "relation", "wording", "kind", "condition", "status", "document", "prior_answer",
    "prior_logprob", "prior_margin", "push", "pull", "adapter_margin", "net_margin", "top_token", "top_prob", "doc_logprob",
    "base_top_token", "base_top_prob", "gain_mean", "critical_gain", "kl", "frequency",
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """An item under a condition. `answer` is the greedy answer, None where none was generated; `scores` are 1 or 0 by measure."""

    id: str
    split: str
    question: str
    targets: tuple[str, ...]
    answer: str | None
    scores: Mapping[str, int]
    metadata: Mapping[str, Any]
    error: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


def samples_of(run: RunFrame, condition: str) -> list[Sample]:
    """The samples of a condition, by item. Raises ValueError for a condition that the run does not have, or without texts."""
    names = list(run.readings["condition"].sort_index(kind="stable").unique())
    if condition not in names:
        raise ValueError(f"no condition {condition!r} in this run; it has {', '.join(map(str, names))}")
    rows = run.readings[run.readings["condition"] == condition].sort_values("item", kind="stable")
    if rows["question"].isna().any():
        raise ValueError("the readings hold no questions, as those of early versions; audit again to write samples")
    with_meta = run.readings[run.readings["meta"].notna()] if "meta" in run.readings else rows.iloc[:0]
    meta = dict(zip(with_meta["item"], with_meta.get("meta", ()), strict=True))
    return [_sample(row, _fields(meta.get(row["item"]))) for row in rows.to_dict("records")]


def _sample(row: Mapping[str, Any], meta: Mapping[str, Any]) -> Sample:
    ok = row["status"] == "ok"
    aliases = row.get("aliases")
    targets = (row["answer"], *(aliases if aliases is not None and not isinstance(aliases, float) else ()))
    scores = {name: plain(row.get(column)) for name, column in SUCCESS.items()} if ok else {}
    return Sample(
        text(row["item"]),
        text(row["split"]),
        text(row["question"]),
        tuple(text(target) for target in targets if plain(target) is not None),
        _text_or_none(row.get("answer_text")) if ok else None,
        {name: int(value) for name, value in scores.items() if value is not None},
        {key: value for key in METADATA if (value := plain(row.get(key))) is not None},
        None if ok else text(plain(row.get("error")) or row["status"]),
        meta,
    )


def plain(value: Any) -> Any:
    """A cell as JSON holds it: None for what is missing or no number, a word for what is infinite."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "infinite" if value > 0 else "-infinite"
    return text(value) if isinstance(value, str) else value if isinstance(value, bool | int | float) else None


def text(value: object) -> str:
    """A text that any viewer can show: control characters are written out."""
    return escape_control_characters(value)


def _text_or_none(value: Any) -> str | None:
    found = plain(value)
    return None if found is None else text(found)


def _fields(meta: Any) -> dict[str, Any]:
    """The fields of an item's meta; none where the column holds no object."""
    try:
        found = json.loads(meta) if isinstance(meta, str) else {}
    except ValueError:
        return {}
    return {text(key): plain(value) for key, value in found.items()} if isinstance(found, dict) else {}


def shares(samples: list[Sample]) -> dict[str, dict[str, tuple[float, int]]]:
    """The share of successes and its n, by measure and split: unrelated answers kept and conflicts overridden are never one."""
    found: dict[str, dict[str, list[int]]] = {}
    for sample in samples:
        for measure, score in sample.scores.items():
            found.setdefault(measure, {}).setdefault(sample.split, []).append(score)
    return {
        measure: {split: (sum(scores) / len(scores), len(scores)) for split, scores in splits.items()}
        for measure, splits in found.items()
    }
