"""The gain path in a run folder: layers, maps and readings say the same, and what cannot be split says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from override_gap.probes.plan import Plan, PlanError
from override_gap.probes.readings import margin_path
from override_gap.probes.run.gain_path import map_of
from override_gap.probes.run.loop import run
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.folder import Store
from tests.conftest import conflict, tiny

ITEMS = [
    conflict(0, "alpha beta gamma", "delta", "epsilon"),
    conflict(1, "beta alpha gamma one two three four", "delta", "zeta"),
    conflict(2, "eta theta", "red green", "red blue"),
]
PLAN = Plan("tiny", "fitted", "own", "as-delivered,uniform-2", ("margins", "layers", "gain-path"))


def tables(out: Path, plan: Plan = PLAN) -> Any:
    subject = tiny("llama")
    run(plan, subject, FittedAdapters(subject, steps=6, lr=3e-2, modules=("q_proj", "down_proj")), ITEMS, out)
    return tuple(pd.read_parquet(out / name) for name in ("readings", "layers", "maps") if (out / name).exists())


def test_maps_add_up_to_layers_and_layers_to_the_adapter_margin(tmp_path: Path) -> None:
    readings, layers, maps = tables(tmp_path / "run")
    rows = readings[readings["condition"] == "as-delivered"].set_index("item")
    profile = layers[(layers["condition"] == "as-delivered") & (layers["layer"] >= 0)].set_index(["item", "layer"])
    assert set(maps["map"]) == {"self_attn.q_proj", "mlp.down_proj"}
    assert set(maps["part"]) == {"document"}
    for column in ("path", "path_push", "path_pull", "path_first"):
        by_layer = maps.groupby(["item", "layer"])[column].sum()
        pd.testing.assert_series_equal(by_layer, profile[column].reindex(by_layer.index), atol=1e-5, rtol=1e-4)
    for name, column in (("path", "adapter_margin"), ("path_push", "push"), ("path_pull", "pull")):
        whole = profile[name].groupby("item").sum()
        assert (whole - rows[column]).abs().max() <= 0.02 * rows["adapter_margin"].abs().max()
    gap = (profile["path"].groupby("item").sum() - rows["adapter_margin"]).abs()
    assert gap.to_list() == pytest.approx(rows["path_gap"].reindex(gap.index).to_list(), abs=1e-5)
    assert rows["path_nodes"].isin([3, 6, 12]).all()
    # it is read as delivered, and nowhere else
    others = readings["condition"] != "as-delivered"
    assert readings.loc[others, ["path_nodes", "path_gap"]].isna().all(axis=None)
    assert layers.loc[layers["condition"] != "as-delivered", "path"].isna().all()


def test_items_whose_shares_do_not_add_up_have_none_and_the_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margin_path, "CLOSURE", -1.0)
    monkeypatch.setattr(margin_path, "attribution_tolerance", lambda *_: torch.full((len(ITEMS),), -1.0))
    rules = margin_path.nested_rules()[:1]
    monkeypatch.setattr(margin_path, "nested_rules", lambda: rules)
    out = tmp_path / "run"
    found = tables(out)
    assert len(found) == 2, "no map has a share"
    readings, layers = found
    assert layers["path"].isna().all()
    rows = readings[readings["condition"] == "as-delivered"]
    assert rows["path_gap"].notna().all()
    assert (rows["status"] == "ok").all()
    reasons = [row["reason"] for row in Store(out).manifest()["refused"] if row["probe"] == "gain-path"]
    named = [(reason, item.id) for reason in reasons for item in ITEMS if item.id in reason]
    assert sorted(name for _, name in named) == sorted(item.id for item in ITEMS)
    assert sum(int(reason.split(" of ")[0]) for reason in reasons) == len(ITEMS)


def test_it_is_read_with_the_layers() -> None:
    with pytest.raises(PlanError, match="gain-path is read with the layers"):
        replace(PLAN, probes=("margins", "gain-path"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("model.layers.3.self_attn.q_proj", "self_attn.q_proj"),
        ("transformer.h.0.attn.c_attn", "attn.c_attn"),
        ("model.layers.12.mlp.experts.3.down_proj", "mlp.experts.3.down_proj"),
        ("model.layers.1.input_layernorm.weight", "input_layernorm.weight"),
    ],
)
def test_a_map_is_named_within_its_block(path: str, name: str) -> None:
    assert map_of(path) == name
