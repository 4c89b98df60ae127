"""Why each failing conflict fails: one cause per item, by a written rule, from the gains at which it was searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from override_gap.analyses.price import KL_BOUND, LOSS
from override_gap.analyses.readings import DELIVERED, RunFrame, Table, once_per_run, points_of, truth, values
from override_gap.analyses.results import rows_frame
from override_gap.analyses.stats.estimate import LEVEL, Estimate, HtmlRepr
from override_gap.analyses.stats.intervals import proportion
from override_gap.margins.content import MEASURED_FOR_CONTENT, has_content

MEANING = {
    "too weak": "content; comes first at a larger gain that is affordable",
    "at a price": "content; comes first only at a larger gain that is not affordable",
    "too strong": "content; comes first only at a gain below 1",
    "third token": "content, and the document's answer beats the old one, but another token stays first",
    "saturates": "content, but the margin stops growing before the document's answer beats the old one",
    "broken first": "content, and the margin still grows where the adapter breaks the model",
    "no content": "the document's answer rises no more than other documents' answers or the base's own alternatives",
    "undecided": "the search ended before the item came first or the adapter broke the model",
}
"""Every cause, in the order of the table: the first three are *held*."""
HELD = ("too weak", "at a price", "too strong")
PEAK = 0.05
"""The margin has stopped growing if it falls from its peak by more than this share of its whole rise."""
RAISED = 0.5
"""Of an item that is never held: its push is at least this share of its pull, chosen on the plants of world 0."""
SETTLED = 0.05
"""A margin that moves less than this over an octave, nats, has reached its limit: no gain that breaks the model is needed."""
#: Columns of the readings that stand beside an item's cause.
OF_READINGS = ("known", "tier", "relation", "cluster", "prior_logprob", "question", "document")


@dataclass(frozen=True)
class Causes(HtmlRepr):
    """One row per failing known conflict in `items`: what was found of it, then what an interval needs of its readings.

    `cause` is one of MEANING. `told`: whether anything was read that tells if the adapter gave the answer. `second_choice`:
    whether the document's answer is the base's own second choice, `leads_relation`: whether it is the one that the base
    puts first among the answers of its relation; either can be brought up by an edit which reads no document. `gain` is the
    one that repairs the item (of those that do the least above 1, else the least below, since smaller gains cost less), NaN
    where none does; `kl` (nats per token) and `kept` are what it costs there, and `affordable` says whether that is within
    the bounds; `words` is 1 or 0 where it was answered in words, else NaN.
    """

    items: Table

    def share(self, *causes: str, level: float = LEVEL) -> Estimate:
        """The share of failures with one of these causes."""
        among = self.items["cause"].isin(causes).to_numpy(dtype=float)
        return proportion(" or ".join(causes), among, points_of(self.items), level)

    def frame(self) -> pd.DataFrame:
        """One row per cause: its meaning, how many failures have it, and their share."""
        counts = self.items["cause"].value_counts()
        return rows_frame(
            {"cause": cause, "meaning": meaning, "count": int(counts[cause])} | self.share(cause).as_json()
            for cause, meaning in MEANING.items()
            if cause in counts
        )

    def as_json(self) -> list[dict[str, Any]]:
        """The rows ``verdict.causes`` of the summary."""
        return [dict(row) for row in self.frame().to_dict("records")]

    def __str__(self) -> str:
        rows = self.frame().to_dict("records")
        return "\n".join(
            ["causes of failure", *(f"  {row['cause']}: {row['count']} ({row['meaning']})" for row in rows)]
        )


@once_per_run
def causes(run: RunFrame, condition: str = DELIVERED) -> Causes | None:
    """The cause of every searched failure under its own adapter, or under that of a null condition; None without a search."""
    rows = run.search[run.search["condition"] == condition]
    if rows.empty:
        return None
    found = [_cause(item, group.sort_values("gain")) for item, group in rows.groupby("item", sort=True)]
    items = pd.DataFrame(found)
    affordable = _affordable(items)
    weak = items["cause"] == "too weak"
    items = items.assign(cause=np.where(weak & ~affordable, "at a price", items["cause"]), affordable=affordable)
    # what else an interval needs of an item stands in its readings
    delivered = run.select("conflict", DELIVERED).set_index("item")
    further = [name for name in OF_READINGS if name in delivered]
    return Causes(items.join(delivered[further], on="item"))


def content(rows: Table) -> Bool[np.ndarray, " n"]:
    """Whether the answer was given by the adapter (`has_content`), per row; true where that cannot be told."""
    return _content(rows) != 0


def _content(rows: Table) -> Float[np.ndarray, " n"]:
    return has_content(*(values(rows[name]) for name in MEASURED_FOR_CONTENT))


def held(rows: Table) -> Bool[np.ndarray, " n"]:
    """Whether y_doc comes first with content at a gain that does not break the model, per row of the search."""
    broken = truth(rows["broken"]) == 1
    return (truth(rows["success_top1"]) == 1) & content(rows) & ~broken


def _cause(item: object, rows: Table) -> dict[str, Any]:
    """One item's row; `rows` are its gains, ascending. What is affordable is told afterwards, over all items."""
    gains, holds = values(rows["gain"]), held(rows)
    row = {"item": item, "point": rows["point"].iloc[0], "gain": np.nan, "kl": np.nan, "kept": np.nan}
    row["words"] = _words(rows)
    row["told"] = not bool(np.isnan(_content(rows)).all())
    row["second_choice"] = bool((values(rows["doc_place"]) == 0).any())
    row["leads_relation"] = bool((values(rows["doc_place_relation"]) == 0).any())
    up, down = np.flatnonzero(holds & (gains > 1)), np.flatnonzero(holds & (gains < 1))
    if len(up) or len(down):
        at = up[0] if len(up) else down[0]
        price = {name: float(values(rows[name])[at]) for name in ("kl", "kept")}
        return row | price | {"gain": float(gains[at]), "cause": "too weak" if len(up) else "too strong"}
    read = rows[(truth(rows["broken"]) != 1) & rows["net_margin"].notna()]
    return row | {"cause": _cause_of_unheld(read, bool((truth(rows["broken"]) == 1).any()))}


def _cause_of_unheld(rows: Table, broke: bool) -> str:
    """The cause of an item that no gain repairs, from the gains at which it was read."""
    if rows.empty:
        return "broken first" if broke else "undecided"
    net, gains = values(rows["net_margin"]), values(rows["gain"])
    last, prev = _octaves(gains, net)
    # growth that still quickens has reached no limit: an adapter so weak that the largest gain hardly moves anything
    settled = len(net) > 2 and abs(last) < SETTLED and not 0 < prev < last
    if not broke and not settled:
        return "undecided"
    won = net > 0
    if not (_raised_from_the_first(rows) or content(rows)[won][:1].any()):
        return "no content"
    if won.any():
        return "third token"
    return "saturates" if _saturates(gains, net) else "broken first"


def _raised_from_the_first(rows: Table) -> bool:
    """Whether y_doc has content at the least gain read, where it need not come first, and is not merely left where it is.

    That gain and the first at which y_doc beats y_pre are the only ones at which an unheld item is judged: over many some
    rank is high by chance, and at large ones the final norm has shrunk every logit, so that low ones rise as well. An edit
    that lowers all but y_doc has its rank too: with m the median rise of the base's leading alternatives, the push beyond m
    must be at least RAISED of what y_pre is lowered below m. Where m is not known, the rank decides.
    """
    push, pull, excess = (values(rows[name])[0] for name in ("push", "pull", "push_excess"))
    median = (push + pull - excess) / 2
    lowered_only = push - median <= max(0.0, RAISED * (median - pull))
    return bool(content(rows)[0] and not lowered_only)


def _saturates(gains: Float[np.ndarray, " gain"], net: Float[np.ndarray, " gain"]) -> bool:
    """Whether the net margin stops growing below zero: it peaks inside the range, or its octaves shrink to a limit below zero.

    With last and prev the rises over the last two octaves of gain, the limit of a geometric continuation is
    m + last r / (1 - r), r = last / prev (Aitken's delta-squared process).
    """
    if len(net) < 2:
        return False
    rise = net.max() - net.min()
    if net.max() - net[-1] > PEAK * rise:
        return True
    last, prev = _octaves(gains, net)
    if last <= 0:
        return True
    if prev <= 0 or last >= prev:
        return False
    ratio = last / prev
    return bool(net[-1] + last * ratio / (1 - ratio) <= 0)


def _octaves(gains: Float[np.ndarray, " gain"], net: Float[np.ndarray, " gain"]) -> tuple[float, float]:
    """The rise of the net margin over the last octave of gain, and over the one before, nats."""
    half, quarter = _at(gains[-1] / 2, gains, net), _at(gains[-1] / 4, gains, net)
    return float(net[-1] - half), half - quarter


def _at(gain: float, gains: Float[np.ndarray, " gain"], net: Float[np.ndarray, " gain"]) -> float:
    """The net margin at a gain, linear in the logarithm of the gain between those read."""
    return float(np.interp(np.log2(gain), np.log2(gains), net))


def _words(rows: Table) -> float:
    """1 if an answer in words is right at some gain, 0 if none is, NaN where none was generated."""
    said = truth(rows["success_answer"])
    return float(np.nanmax(said)) if not np.isnan(said).all() else np.nan


def _affordable(items: Table) -> Bool[np.ndarray, " n"]:
    """Whether the gain that repairs each item is affordable: the cheapest first, as long as both bounds hold.

    Each gain costs at most KL_BOUND, and all of them together lose at most LOSS of the base's first choices
    on unrelated questions. A bound per item would not do: each document's adapter is read on a handful of questions.
    """
    kl, kept = values(items["kl"]), values(items["kept"])
    order = np.argsort(np.where(np.isnan(kl), np.inf, kl), kind="stable")
    within = kl[order] <= KL_BOUND
    loss = np.cumsum(np.where(within, 1 - kept[order], 0.0)) / np.arange(1, len(items) + 1)
    last = np.flatnonzero(within & (loss <= LOSS))
    affordable = np.zeros(len(items), dtype=bool)
    if len(last):
        affordable[order[: last[-1] + 1]] = True
    return affordable
