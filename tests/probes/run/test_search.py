"""The search on the organism against passes with the adapter's weights scaled by hand: no hook, no shared pass."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from override_gap.analyses.readings import load
from override_gap.margins.items.files import read_items
from override_gap.probes.organism.faults import Fault, scaled
from override_gap.probes.plan import Plan
from override_gap.probes.readings.batching import BatchSizer
from override_gap.probes.readings.prior import locate, read_prior
from override_gap.probes.readings.unrelated import BROKEN
from override_gap.probes.run.comparisons import Comparisons
from override_gap.probes.run.loop import run
from override_gap.probes.run.read_comparisons import ReadComparisons
from override_gap.probes.run.search import UnitSearch
from override_gap.probes.sources.hypernetwork import OrganismHypernetworkSource, organism_of
from override_gap.probes.store.schema import SEARCH
from override_gap.probes.subject.load import open_subject

PLAN = Plan(policies="as-delivered,uniform-1.5,uniform-3", probes=("margins", "search", "answers"), batch_size=64)


def audit(out: Path, gain: float) -> pd.DataFrame:
    subject = open_subject("organism")
    organism = organism_of(subject)
    items = [item for item in read_items(organism.folder / "items.jsonl") if item.split in ("conflict", "retention")]
    chosen = [item for item in items if item.split == "conflict"][-96:] + [i for i in items if i.split == "retention"][
        :12
    ]
    fault = Fault("times", "magnitude", lambda factors, _: scaled(factors, gain))
    return load(run(PLAN, subject, OrganismHypernetworkSource(organism, fault, 0), chosen, out))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[float, pd.DataFrame]:
    return {gain: audit(tmp_path_factory.mktemp("search") / str(gain), gain) for gain in (1.0, 1 / 16)}


def test_every_column_of_the_search_is_written(runs) -> None:
    table = runs[1 / 16].search
    empty = {name for name in SEARCH.names if table[name].isna().all()}
    assert not empty
    assert set(table["condition"]) == {"as-delivered"}


def test_a_gain_of_the_search_reads_what_the_same_uniform_gain_reads(runs) -> None:
    whole = runs[1.0]
    searched = whole.search[whole.search["gain"] == 1.5].set_index("item")
    under = whole.select("conflict", "uniform-1.5").set_index("item").loc[searched.index]
    assert len(searched) > 5
    assert (searched["net_margin"] - under["net_margin"]).abs().max() < 1e-4
    assert (searched["success_top1"].astype(bool) == under["success_top1"].astype(bool)).all()


def test_only_failures_that_the_base_knows_are_searched(runs) -> None:
    whole = runs[1.0]
    rows = whole.select("conflict", "as-delivered", "known")
    failing = set(rows.loc[~rows["success_top1"].astype(bool), "item"])
    assert set(whole.search["item"]) == failing


def test_the_same_adapter_in_another_unit_costs_the_same_at_the_same_strength(runs) -> None:
    """Gain 16 of a sixteenth of the adapter is the adapter: cost, push and rank are those of gain 1."""
    whole, small = (
        runs[key].search[runs[key].search["gain"] == at].set_index("item") for key, at in ((1.0, 1.0), (1 / 16, 16.0))
    )
    both = whole.index.intersection(small.index[small["push"].notna()])
    assert len(both) > 5
    for column in ("kl", "kept", "push", "net_margin", "rise_rank"):
        assert (whole.loc[both, column] - small.loc[both, column]).abs().max() < 1e-3, column


def test_every_document_is_followed_to_the_gain_that_breaks_the_model(runs) -> None:
    for whole in runs.values():
        last = whole.search.sort_values("gain").groupby("item").tail(1)
        assert last["broken"].all()
        assert (last["kl"] > BROKEN).all()
        earlier = whole.search.drop(last.index)
        assert not earlier["broken"].any()
        assert (earlier["kl"] <= BROKEN).all()


def test_questions_that_the_base_knows_stand_for_unrelated_ones() -> None:
    """Known is read apart, by the readings of the base; an unknown question's first choice falls by any small change."""
    subject = open_subject("organism")
    organism = organism_of(subject)
    items = [item for item in read_items(organism.folder / "items.jsonl") if item.split == "conflict"]
    pool = Comparisons(unrelated=tuple(items[::6]))
    points = {item.document: frozenset({item.point}) for item in items}
    unit = UnitSearch(ReadComparisons(subject, pool, 0), 0, BatchSizer(), points)
    known = read_prior(subject, pool.unrelated, [locate(subject, item) for item in pool.unrelated]).known
    assert 6 < int(known.sum()) < len(pool.unrelated) - 3
    for item in items[::20]:
        *rows, first_text, second_text = unit.rows_for(item.document)
        assert len(set(rows)) == 6
        assert (first_text, second_text) == (len(pool.unrelated), len(pool.unrelated) + 1)
        assert known[rows].all()
        assert all(pool.unrelated[n].point != item.point for n in rows)
