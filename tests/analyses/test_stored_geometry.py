"""Adapters against each other from a stored table: simulated sets of adapters whose own share is known, made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.geometry_effects import geometry_effects
from override_gap.analyses.neutral_text import neutral_text
from override_gap.analyses.readings import RunFrame, Table
from override_gap.analyses.stats.clusters import labelled
from override_gap.analyses.stored_geometry import geometry, own_share
from override_gap.margins.items.item import Document
from override_gap.probes.store.schema import GEOMETRY, READINGS
from override_gap.reports.cli._digest import digest
from override_gap.reports.page.sections import tables

WIDTH = 600


def table(vectors: Table, relations: list[str | None], unit: int = 20) -> pd.DataFrame:
    """Rows of the table, two layers, each half of the vector; documents are compared within units, by plain loops."""
    rows = []
    products = [vectors[:, part] @ vectors[:, part].T for part in (slice(None, WIDTH // 2), slice(WIDTH // 2, None))]
    for n, relation in enumerate(relations):
        first = n // unit * unit
        others = [m for m in range(first, min(first + unit, len(vectors))) if m != n]
        for layer, of_layer in enumerate(products):
            row = {"document": Document(f"document {n}").key, "layer": layer, "norm_squared": float(of_layer[n, n])}
            for kind, alike in (("same", True), ("other", False)):
                chosen = [m for m in others if (relations[m] == relation) == alike]
                inner = [float(of_layer[n, m]) for m in chosen]
                cosine = [float(of_layer[n, m] / np.sqrt(of_layer[n, n] * of_layer[m, m])) for m in chosen]
                row[f"n_{kind}"] = len(chosen)
                row |= {f"inner_{kind}": np.mean(inner), f"cosine_{kind}": np.mean(cosine)} if chosen else {}
            rows.append(row)
    return pd.DataFrame(rows).reindex(columns=GEOMETRY.names)


def run_of(rows: pd.DataFrame | None, relations: list[str | None], **more: pd.DataFrame) -> RunFrame:
    """A run with one conflict and one unrelated question for each document; its push is the number of its document."""
    readings = []
    for n, relation in enumerate(relations):
        for split, push in (("conflict", float(n)), ("retention", 0.0)):
            readings.append(
                {"item": f"{split} {n}", "point": f"p{n}", "split": split, "condition": "as-delivered", "status": "ok"}
                | {"document": f"document {n}", "cluster": relation, "push": push, "pull": 0.0, "adapter_margin": push}
                | {"success_top1": n % 3 > 0, "kl": 1.0 / (1 + n), "net_margin": push, "prior_margin": 0.0}
            )
    tables = {} if rows is None else {"geometry": rows}
    return RunFrame({}, pd.DataFrame(readings).reindex(columns=READINGS.names), extra=tables | more)


def drawn(seed: int, count: int, common: float, of_relation: float, own: float) -> tuple[np.ndarray, list[str | None]]:
    """A common part, one per relation (five documents each) and one per document, of these expected norms."""
    rng = np.random.default_rng(seed)
    relations: list[str | None] = [f"r{n % (count // 5)}" for n in range(count)]
    unit = rng.normal(size=(1 + count // 5 + count, WIDTH)) / np.sqrt(WIDTH)
    # what is common has exactly its norm: the truth is that of this one set of adapters' common part
    unit[0] /= np.linalg.norm(unit[0])
    whole = common * unit[:1] + of_relation * unit[1 + np.arange(count) % (count // 5)] + own * unit[1 + count // 5 :]
    return whole, relations


def test_the_own_share_is_what_was_put_in_and_its_interval_holds_it_as_often_as_it_says() -> None:
    inside, values = 0, []
    for seed in range(60):
        whole, relations = drawn(seed, 40, 2.0, 1.0, 1.0)
        products, codes = whole @ whole.T, np.array(relations)
        apart = (codes[:, None] != codes[None]) & (np.arange(40)[:, None] // 20 == np.arange(40)[None] // 20)
        inner = (products * apart).sum(1) / apart.sum(1)
        points = labelled(np.array([f"p{n}" for n in range(40)], dtype=object), np.array(relations, dtype=object))
        own = own_share("own share", products.diagonal().copy(), inner, points)
        values.append(own.value)
        inside += own.low <= 1 - 4 / 6 <= own.high
    assert np.mean(values) == pytest.approx(1 - 4 / 6, abs=4 * np.std(values) / np.sqrt(60))
    assert inside >= 53
    # the interval is no wider than it has to be: its half is about two standard errors
    assert 1.2 * np.std(values) < (own.high - own.low) / 2 < 5 * np.std(values)


def test_one_adapter_for_all_is_named_in_the_first_screen_and_a_large_common_part_is_not() -> None:
    whole, relations = drawn(1, 40, 3.0, 0.0, 0.3)
    found = geometry(run_of(table(whole, relations), relations))
    assert found is not None
    assert found["one_adapter"]
    assert found["own_share"]["value"] == pytest.approx(1 - 9 / 9.09, abs=0.004)
    assert found["cosine_other"]["value"] == pytest.approx(9 / 9.09, abs=0.004)
    summary = {"geometry": found.as_json()}
    screen = " ".join(digest(summary).split())
    assert "one adapter for all documents: at most" in screen
    assert screen.index("one adapter") < screen.index("first-token success")
    titles = [shown.title for shown in tables(summary)]
    assert titles == ["Adapters against each other", "Adapters against each other, by layer"]
    layer = {**summary["geometry"]["layers"][0], "effective_rank": 3.25, "n_unit": 8, "stable_rank": 1.5}
    by_layer = tables({"geometry": {**summary["geometry"], "layers": [layer]}})[1]
    cells = dict(zip(by_layer.head, by_layer.rows[0], strict=True))
    assert (cells["effective rank"], cells["stable rank"]) == ("3.25 of 8", "1.5")
    large, relations = drawn(1, 40, 3.0, 0.0, 1.0)
    other = geometry(run_of(table(large, relations), relations))
    assert other is not None
    assert not other["one_adapter"]
    assert "one adapter" not in digest({"geometry": other.as_json()})


def test_one_direction_at_different_strengths_is_named_too() -> None:
    whole, relations = drawn(5, 40, 3.0, 0.0, 0.3)
    whole = whole * np.random.default_rng(6).uniform(0.3, 2.0, 40)[:, None]
    found = geometry(run_of(table(whole, relations), relations))
    assert found is not None
    assert found["own_share"]["value"] > 0.1
    assert found["one_adapter"]
    assert (
        "at different strengths: the mean cosine between adapters of different documents is at least 0.99"
        in found["says"]
    )


def test_documents_of_one_relation_are_compared_with_each_other_and_it_says_so() -> None:
    whole, _ = drawn(2, 20, 2.0, 0.0, 1.0)
    relations: list[str | None] = ["home"] * 20
    found = geometry(run_of(table(whole, relations), relations))
    assert found is not None
    assert found["pairs"] == "same"
    assert found["own_share"]["value"] == pytest.approx(0.2, abs=0.06)
    assert found["cosine_other"]["value"] is None
    assert "of one relation" in str(found)


def test_what_was_not_compared_has_no_own_share() -> None:
    assert geometry(run_of(None, ["a", "b"])) is None
    whole, _ = drawn(3, 5, 1.0, 0.0, 1.0)
    alone = table(whole[:1], ["a"])
    assert geometry(run_of(alone, ["a"])) is None
    # a document that no item of the run asks about has no point to be clustered by
    foreign = table(whole, ["a", "b", "c", "d", "e"]).assign(document="0" * 16)
    assert geometry(run_of(foreign, ["a"])) is None


def neutral_rows(count: int) -> pd.DataFrame:
    rows = []
    for n in range(count):
        key = Document(f"document {n}").key
        output = {
            "kl": 0.1 * n,
            "kept": 1 - n / 100,
            "raised": ["it", " Document" if n < 5 else f"ument {n}" if n == 13 else f"w{n}"],
            "rises": [2.0, 1.0],
        }
        rows.append({"document": key, "layer": -1, **output, "answer_rise": -1.0, "answer_rank": 0.25})
        rows += [{"document": key, "layer": layer, "radial": 0.1 * layer, "angle": 0.2} for layer in (0, 1)]
    return pd.DataFrame(rows)


def test_means_on_neutral_text_and_the_tokens_that_most_documents_raise() -> None:
    relations: list[str | None] = [f"r{n % 4}" for n in range(20)]
    found = neutral_text(run_of(None, relations, neutral=neutral_rows(20)))
    assert found is not None
    assert found["kl"]["value"] == pytest.approx(0.95)
    assert found["kl"]["clusters"] == 4
    assert found["answer_rank"]["value"] == pytest.approx(0.25)
    # every text is "document" and a number: five tokens are in all texts, one in its own alone; "it" and "w7" are too short
    assert found["own_words"]["value"] == pytest.approx(6 / 20)
    assert found["other_words"]["value"] == pytest.approx(5 / 20)
    assert found["raised"][0] == {"token": "it", "documents": 20, "rise": 2.0}
    assert [row["radial"]["value"] for row in found["layers"]] == pytest.approx([0.0, 0.1])
    assert neutral_text(run_of(None, relations)) is None


def test_effects_are_rank_correlations_over_documents() -> None:
    whole, relations = drawn(4, 40, 1.0, 0.0, 1.0)
    # adapters grow with the number of their document, as their push and KL on neutral text do; KL on questions falls
    whole = whole * np.linspace(1, 3, 40)[:, None]
    rows = table(whole, relations).assign(stable_rank=1.5)
    found = geometry_effects(run_of(rows, relations, neutral=neutral_rows(40)))
    assert found is not None
    by_pair = {(row["measure"], row["outcome"]): row for row in found}
    assert by_pair["neutral KL", "push"]["value"] == pytest.approx(1.0)
    assert by_pair["neutral KL", "KL"]["value"] == pytest.approx(-1.0)
    norm = by_pair["norm", "push"]
    assert norm["value"] > 0.95
    assert norm["low"] > 0.8
    assert ("stable rank", "push") not in by_pair  # it does not vary
    one_lost = run_of(rows, relations, neutral=neutral_rows(40))
    unrelated = one_lost.readings["split"] == "retention"
    one_lost.readings.loc[unrelated, "success_top1"] = one_lost.readings["item"][unrelated] != "retention 7"
    lost = geometry_effects(one_lost)
    assert lost is not None
    assert not any(row["outcome"] == "answers lost" for row in lost)  # one document cannot show what goes with it
    assert all(row["low"] is not None for row in lost)
    assert geometry_effects(run_of(rows.drop(columns="stable_rank"), relations)) is None  # neither probe was asked for
