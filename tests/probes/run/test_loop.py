"""A whole run on a tiny model: what is written, that it resumes, that its rows follow from each other."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from override_gap.margins.items.item import Item
from override_gap.probes.errors import AdapterError
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run
from override_gap.probes.sources import open_source
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.folder import RunError
from tests.conftest import conflict, tiny

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
ITEMS = [
    *(conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue", tier="deep") for n in range(6)),
    conflict(90, "one two", "three four", "three"),
    Item("n", "pn", "novel", "pi rho sigma .", "pi rho", "sigma"),
    Item("r", "p0", "retention", "alpha beta red .", "nine", "ten"),
]
PLAN = Plan(
    subject="tiny",
    adapters="fitted",
    items="own",
    policies="as-delivered,uniform-1.5,slb,relevance-gate,margin-matched,logit-fusion",
    probes=("margins", "layers", "causal", "critical", "answers"),
    answers=4,
    batch_size=4,
)


def audit(out: Path, plan: Plan = PLAN, items=ITEMS, **settings) -> pd.DataFrame:
    subject = tiny("llama")
    run(plan, subject, FittedAdapters(subject, **{"steps": 5, "lr": 3e-2, **settings}), items, out)
    return pd.read_parquet(out / "readings")


def test_rows_follow_from_each_other(tmp_path: Path) -> None:
    readings = audit(tmp_path / "run")
    assert len(readings) == len(ITEMS) * 7
    failed = readings[readings.status == "error"]
    assert set(failed.item) == {"c90"}
    assert failed.error.str.contains("prefix").all()
    assert failed.adapter_margin.isna().all()
    ok = readings[readings.status == "ok"]
    assert (ok.adapter_margin - (ok.push - ok.pull)).abs().max() < 1e-5
    assert (ok.net_margin - (ok.adapter_margin - ok.prior_margin)).abs().max() < 1e-4
    base = ok[ok.condition == "base"]
    assert base.adapter_margin.abs().max() == 0
    assert (base.gain_mean == 0).all()
    conflicts = ok[ok.split == "conflict"]
    assert (conflicts.success_margin == (conflicts.net_margin > 0)).all()
    assert ok[ok.condition == "as-delivered"].adapter_margin.abs().min() > 0
    kept = ok[(ok.split == "retention") & (ok.condition == "base")]
    assert kept.success_top1.all()
    gated = ok[(ok.split == "retention") & (ok.condition == "relevance-gate")]
    assert (gated.adapter_margin == 0).all(), "the gate silences a question that the document does not touch"


def test_layers_add_up_to_the_margins(tmp_path: Path) -> None:
    readings = audit(tmp_path / "run")
    layers = pd.read_parquet(tmp_path / "run" / "layers")
    margin = layers.groupby(["item", "condition"]).attribution.sum()
    ok = readings[(readings.status == "ok") & (readings.condition != "logit-fusion-1.5")].set_index(
        ["item", "condition"]
    )
    assert (margin - (ok.prior_margin - ok.adapter_margin)).abs().max() < 1e-3
    delivered = layers[(layers.condition == "as-delivered") & (layers.layer >= 0)]
    norms = delivered.groupby("item").norm.apply(lambda column: (column**2).sum() ** 0.5)
    stored = ok.xs("as-delivered", level="condition").adapter_norm
    assert (norms - stored).abs().max() < 1e-4
    assert delivered.alone.notna().all()
    assert delivered.removed.notna().all()


def test_critical_gain_flips_and_just_below_it_does_not(tmp_path: Path) -> None:
    readings = audit(tmp_path / "run")
    delivered = readings[
        (readings.condition == "as-delivered") & (readings.split == "conflict") & (readings.status == "ok")
    ]
    assert delivered.critical_gain.notna().all()
    found = delivered[delivered.critical_gain.between(0.1, 3.9)]
    assert len(found) >= 2, "the fit must be strong enough for this test to mean anything"
    for row in found.itertuples():
        sides = {}
        for gain in (row.critical_gain, row.critical_gain - 0.04):
            plan = replace(PLAN, policies=f"uniform-{gain:.6f}", probes=("margins",))
            item = next(item for item in ITEMS if item.id == row.item)
            again = audit(tmp_path / f"{row.item}-{gain:.6f}", plan, [item])
            sides[gain] = bool(again[again.condition.str.startswith("uniform")].success_top1.iloc[0])
        assert list(sides.values()) == [True, False]


def test_a_run_resumes_without_measuring_again_and_other_settings_are_refused(tmp_path: Path, monkeypatch) -> None:
    first = audit(tmp_path / "run")
    monkeypatch.setattr(FittedAdapters, "encode", lambda *_: pytest.fail("measured twice"))
    again = audit(tmp_path / "run")
    pd.testing.assert_frame_equal(first, again)
    with pytest.raises(RunError, match="another audit"):
        audit(tmp_path / "run", steps=6)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="holds no run"):
        audit(tmp_path / "other")


def test_an_interrupted_run_ends_in_the_same_readings(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 3)
    whole = audit(tmp_path / "whole")
    encode, calls = FittedAdapters.encode, []

    def dies(self, documents):
        calls.append(documents)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(self, documents)

    monkeypatch.setattr(FittedAdapters, "encode", dies)
    with pytest.raises(KeyboardInterrupt):
        audit(tmp_path / "cut")
    resumed = audit(tmp_path / "cut")
    assert len(calls) == 1 + 1 + 2
    order = ["item", "condition"]
    pd.testing.assert_frame_equal(
        whole.sort_values(order, ignore_index=True), resumed.sort_values(order, ignore_index=True)
    )


def test_no_more_adapters_are_alive_than_a_unit_has_documents(tmp_path: Path, monkeypatch) -> None:
    """So that ten thousand documents need the memory of one unit's adapters."""
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 4)
    subject, alive, most = tiny("llama"), set(), []
    source = FittedAdapters(subject, steps=1)
    encode = source.encode

    def counted(documents):
        gc.collect()
        most.append(len(alive))
        made = encode(documents)
        for adapter in made:
            alive.add(id(adapter))
            weakref.finalize(adapter, alive.discard, id(adapter))
        return made

    monkeypatch.setattr(FittedAdapters, "encode", lambda _, documents: counted(documents))
    items = [conflict(n, f"{WORDS[n % 12]} {WORDS[n // 12]} nu", "red", "blue") for n in range(24)]
    run(
        replace(PLAN, probes=("margins",), policies="as-delivered,uniform-1.5"),
        subject,
        source,
        items,
        tmp_path / "run",
    )
    assert len(most) >= 6
    assert max(most) <= 4


def test_an_adapter_does_not_depend_on_its_neighbours() -> None:
    subject = tiny("llama")
    source = FittedAdapters(subject, steps=3)
    from override_gap.margins.items.item import documents_of

    documents = documents_of(ITEMS)
    together, alone = source.encode(documents), source.encode(documents[:1])
    for path, update in alone[0].updates.items():
        assert torch.allclose(update.dense(), together[0].updates[path].dense(), atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fited", "did you mean 'fitted'"),
        ("fitted:step=3", "did you mean 'steps'"),
        ("fitted:steps=many", "steps needs a int"),
        ("fitted:steps=0", "above 0"),
        ("fitted:modules=up_prj", "no module named up_prj"),
    ],
)
def test_source_words_are_checked(spec: str, message: str) -> None:
    subject = tiny("llama")
    from override_gap.margins.items.item import documents_of

    with pytest.raises(AdapterError, match=message):
        open_source(spec, subject).encode(documents_of(ITEMS[:1]))


def test_an_item_that_does_not_fit_behind_a_prompt_fails_alone(tmp_path: Path) -> None:
    subject = tiny("gpt2")
    long = conflict(7, "one two", "red", "blue", document=" ".join(["sigma"] * 100) + " red .")
    plan = replace(PLAN, policies="in-context", probes=("margins",))
    path = tmp_path / "lora"
    from override_gap.probes.sources.peft_folder import PeftFolder
    from override_gap.probes.sources.peft_write import write_adapter
    from tests.conftest import random_adapter

    write_adapter(random_adapter(subject, torch.Generator().manual_seed(0), ("mlp.c_proj",)), path)
    run(plan, subject, PeftFolder(subject, path), [ITEMS[0], long], tmp_path / "run")
    rows = pd.read_parquet(tmp_path / "run" / "readings").set_index(["item", "condition"])
    assert rows.loc[("c7", "in-context"), "status"] == "error"
    assert "positions" in rows.loc[("c7", "in-context"), "error"]
    assert rows.loc[("c7", "as-delivered"), "status"] == "ok"
    assert rows.loc[("c0", "in-context"), "status"] == "ok"


def test_a_finished_runs_manifest_is_left_alone(tmp_path: Path) -> None:
    audit(tmp_path / "run")
    before = (tmp_path / "run" / "manifest.json").read_text()
    audit(tmp_path / "run")
    assert (tmp_path / "run" / "manifest.json").read_text() == before
    next((tmp_path / "run" / "layers").glob("*.parquet")).unlink()
    audit(tmp_path / "run")
    assert list((tmp_path / "run" / "layers").glob("*.parquet")), "a unit without its layers is measured again"


def test_other_tools_read_the_same_tidy_tables(tmp_path: Path) -> None:
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    readings = audit(tmp_path / "run", replace(PLAN, policies="as-delivered", probes=("margins", "layers")))
    wanted = readings[readings.status == "ok"].groupby("condition").adapter_margin.mean().to_dict()
    files = f"{tmp_path / 'run' / 'readings'}/*.parquet"
    query = f"select condition, avg(adapter_margin) from '{files}' where status = 'ok' group by condition"
    assert dict(duckdb.sql(query).fetchall()) == pytest.approx(wanted)
    table = polars.read_parquet(files).filter(polars.col("status") == "ok").group_by("condition")
    assert dict(table.agg(polars.col("adapter_margin").mean()).rows()) == pytest.approx(wanted)
    counted = f"select count(*) from '{tmp_path / 'run' / 'layers'}/*.parquet'"
    assert duckdb.sql(counted).fetchall() == [(len(pd.read_parquet(tmp_path / "run" / "layers")),)]
