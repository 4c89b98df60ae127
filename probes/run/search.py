"""The search of a unit: what its adapters cost, which other answers they are compared with, and the rows that are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from override_gap.margins.adapter import AnyAdapter
from override_gap.margins.items.item import Item
from override_gap.margins.items.relevance import is_relevant
from override_gap.probes.errors import AdapterError
from override_gap.probes.readings.batching import BatchSizer, rows_that_fit
from override_gap.probes.readings.layers import ReadAtGains
from override_gap.probes.readings.prior import Prior
from override_gap.probes.readings.search import ABOVE, OtherAnswers, Step, search
from override_gap.probes.readings.unrelated import Cost, read_costs
from override_gap.probes.run.comparisons import relation_of
from override_gap.probes.run.read_comparisons import TEXTS, ReadComparisons
from override_gap.probes.subject.model import Subject

#: Questions on which one document's adapter is read for its cost, beside the texts.
QUESTIONS = 6
NO_COST = Cost(float("nan"), float("nan"))


@dataclass(frozen=True)
class Searchable:
    """The adapters under which the items of a batch are searched, one each, and how they are read at gains.

    `keys` name the adapters, so that one that is several items' is judged once; `made_of` are the texts they are made of.
    """

    read: ReadAtGains
    adapters: Sequence[AnyAdapter]
    keys: Sequence[str]
    made_of: Sequence[str]


@dataclass(frozen=True)
class UnitSearch:
    """One unit's search; costs by adapter and gain, and rows chosen by document, are kept while the unit is measured."""

    comparisons: ReadComparisons
    batch_size: int
    batch_sizer: BatchSizer
    points: Mapping[str, frozenset[str]]
    costs: dict[tuple[str, float], Cost] = field(default_factory=dict)
    chosen: dict[str, list[int]] = field(default_factory=dict)

    @property
    def subject(self) -> Subject:
        """The model that is searched on."""
        return self.comparisons.subject

    def rows_for(self, document: str) -> list[int]:
        """The rows on which a document's adapter is read: questions that it is not about, in an order of its own, and texts.

        Questions that the base knows, where there are enough: an answer of which it is unsure is lost by any small change.
        """
        if document not in self.chosen:
            self.chosen[document] = self._choose(document)
        return self.chosen[document]

    def _choose(self, document: str) -> list[int]:
        questions = [item for item, _ in self.comparisons.questions]
        known = self.comparisons.known
        points = self.points.get(document, frozenset())
        foreign = [n for n, item in enumerate(questions) if item.point not in points and item.document != document]
        apart = [n for n in foreign if not is_relevant(document, questions[n].question)]
        key = hashlib.sha256(document.encode())

        def order(n: int) -> bytes:
            return hashlib.sha256(key.digest() + str(n).encode()).digest()

        sure = [n for n in apart if known[n]]
        enough = next((rows for rows in (sure, apart) if len(rows) >= QUESTIONS), foreign)
        chosen = sorted(enough, key=order)[:QUESTIONS]
        return [*chosen, *range(len(questions), len(questions) + TEXTS)]

    def read_costs(self, wanted: Mapping[str, tuple[str, AnyAdapter]], gain: float) -> None:
        """Read what is not known yet of adapters, by key, each with the document that it is made of, at a uniform gain."""
        missing = [key for key in wanted if (key, gain) not in self.costs]
        if not missing:
            return
        chosen = {key: self.rows_for(wanted[key][0]) for key in missing}
        longest = max((len(place.fed) for place in self.comparisons.rows.divergences), default=1)
        rows = self.batch_size or rows_that_fit(self.subject, longest)
        size = max(1, rows // (QUESTIONS + TEXTS))

        def read(keys: Sequence[str]) -> None:
            adapters = [wanted[key][1] for key in keys]
            at = [gain] * len(keys)
            try:
                costs = read_costs(self.subject, self.comparisons.rows, [chosen[key] for key in keys], adapters, at)
            except AdapterError:
                if len(keys) > 1:
                    for key in keys:
                        read([key])
                    return
                # the item's own rows say what is wrong with the adapter
                costs = [NO_COST]
            self.costs.update({(key, gain): cost for key, cost in zip(keys, costs, strict=True)})

        def too_large(key: str, _: BaseException) -> None:
            self.costs[key, gain] = NO_COST

        for _ in self.batch_sizer.each([missing[n : n + size] for n in range(0, len(missing), size)], read, too_large):
            pass

    def rows(
        self,
        condition: str,
        items: Sequence[Item],
        prior: Prior,
        under: Searchable,
        failing: Sequence[int],
        *,
        to_breaking: bool = True,
    ) -> list[dict[str, Any]]:
        """Search the failing rows of a batch under one adapter each, and then at which gain each adapter breaks the model.

        Costs without a reading are rows as well; without `to_breaking` the search ends where each item's does.
        """
        if not failing:
            return []
        keys = under.keys

        def costs(rows: Sequence[int], gain: float) -> list[Cost]:
            self.read_costs({keys[n]: (under.made_of[n], under.adapters[n]) for n in rows}, gain)
            return [self.costs[keys[n], gain] for n in rows]

        others = self.others_for(items, prior)
        steps = search(self.subject, prior, under.read, costs, failing, others)
        steps += until_broken(steps, costs) if to_breaking else []
        texts = {top: self.subject.tokenizer.decode([top]) for top in {s.top for s in steps if s.top is not None}}
        return [_as_row(step, items[step.row], condition, texts) for step in steps]

    def others_for(self, items: Sequence[Item], prior: Prior) -> OtherAnswers:
        """The other answers that each item of a batch is compared with: neither its own two, nor what begins like them."""
        others, first = self.comparisons.others
        tokens = sorted(set(first))
        by_token: dict[int, set[str]] = {token: set() for token in tokens}
        for item, token in zip(others, first, strict=True):
            by_token[token].add(relation_of(item) or "")
        at = torch.tensor(tokens, dtype=torch.long)
        both = torch.stack([prior.pre.cpu(), prior.doc.cpu()], dim=1)
        counts = (at[None, None] != both[:, :, None]).all(1)
        relations = [relation_of(item) for item in items]
        alike = [[relation is not None and relation in by_token[token] for token in tokens] for relation in relations]
        same = torch.tensor(alike, dtype=torch.bool).view(len(items), len(tokens))
        return OtherAnswers(at, counts, counts & same)


def until_broken(steps: Sequence[Step], costs: Callable[[Sequence[int], float], Sequence[Cost]]) -> list[Step]:
    """Further gains of rows that ended before their adapter broke the model: its cost alone, up to the gain that breaks it."""
    last: dict[int, Step] = {}
    for step in steps:
        if step.gain >= 1 and (step.row not in last or step.gain > last[step.row].gain):
            last[step.row] = step
    active = {row: step.gain for row, step in last.items() if step.cost.measured and not step.cost.broken}
    further = []
    for gain in ABOVE:
        rows = [row for row, reached in active.items() if reached < gain]
        if not active:
            break
        for row, cost in zip(rows, costs(rows, gain) if rows else [], strict=True):
            further.append(Step(row, gain, cost))
            if cost.broken or not cost.measured:
                del active[row]
    return further


def _as_row(step: Step, item: Item, condition: str, texts: Mapping[int, str]) -> dict[str, Any]:
    number = {"kl": step.cost.kl, "kept": step.cost.kept}
    return {
        "item": item.id,
        "point": item.point,
        "split": item.split,
        "condition": condition,
        "gain": step.gain,
        "push": step.push,
        "pull": step.pull,
        "net_margin": step.net,
        "success_top1": step.first,
        "top_token": None if step.top is None else texts[step.top],
        "doc_logprob": step.doc_logprob,
        "rise_rank": step.rank,
        "rise_rank_relation": step.rank_relation,
        "rise_level_relation": step.level_relation,
        "rise_rank_base": step.rank_base,
        "push_excess": step.excess,
        "doc_place": step.place,
        "doc_place_relation": step.place_relation,
        "other_answers": step.others,
        "broken": step.cost.broken,
        **{name: value if abs(value) < float("inf") else None for name, value in number.items()},
    }
