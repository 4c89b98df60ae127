"""Shares along the path of gains for a margin that is a quadratic form in the gains, where all of them are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.gain_path import gain_path
from override_gap.analyses.layer_choice import layer_choice
from override_gap.analyses.readings import RunFrame
from tests.simulate import simulate_readings

LAYERS = 4


def quadratic(coupling: float, seed: int = 0) -> tuple[RunFrame, dict[str, np.ndarray]]:
    """A run whose adapter margin is b.s + s.C.s / 2 in the gains s of four layers, plus what is true of it, [item, layer].

    `coupling` stands off the diagonal of C. The shares are b + C 1 / 2, the slopes at gain 0 b, a layer alone gives
    b + diag(C) / 2, and the loss when it is removed is b + C 1 - diag(C) / 2: worked out on paper.
    """
    run = simulate_readings(0, 30, 90, others=6)
    rng = np.random.default_rng(seed)
    rows = run.readings["condition"].eq("as-delivered") & run.readings["split"].eq("conflict")
    items = run.readings.loc[rows, ["item", "point"]].to_numpy()
    b = rng.gamma(2.0, 0.4, (len(items), LAYERS))
    diagonal = rng.normal(0.3, 0.1, (len(items), LAYERS))
    path = b + (diagonal + coupling * (LAYERS - 1)) / 2
    alone = b + diagonal / 2
    lost = b + diagonal / 2 + coupling * (LAYERS - 1)
    margin = path.sum(1)
    readings = run.readings.copy()
    readings.loc[rows, "adapter_margin"] = margin
    readings.loc[rows, "path_nodes"] = 3
    readings.loc[rows, "path_gap"] = 0.01
    layers, maps = [], []
    for n, (item, point) in enumerate(items):
        identity = {"item": item, "point": point, "split": "conflict"}
        for layer in range(LAYERS):
            share = {
                "path": path[n, layer],
                "path_push": path[n, layer] + 1,
                "path_pull": 1.0,
                "path_first": b[n, layer],
            }
            more = {"alone": alone[n, layer], "removed": margin[n] - lost[n, layer], "norm": float(LAYERS - layer)}
            layers.append({**identity, "condition": "as-delivered", "layer": layer, **share, **more})
            for name, part, of in (("a", "document", 0.75), ("b", "document", 0.0), ("b", "shared", 0.25)):
                maps.append(
                    {**identity, "layer": layer, "map": name, "part": part} | {k: of * v for k, v in share.items()}
                )
    found = replace(run, readings=readings, layers=pd.DataFrame(layers), extra={"maps": pd.DataFrame(maps)})
    return found, {"path": path, "first": b, "alone": alone, "lost": lost, "margin": margin}


@pytest.mark.parametrize(("coupling", "says"), [(0.4, "help each other"), (-0.2, "compete"), (0.0, "open")])
def test_terms_and_shares_are_those_of_the_quadratic_form(coupling: float, says: str) -> None:
    run, true = quadratic(coupling)
    found = gain_path(run)
    assert found is not None
    terms = {row["term"]: row["value"] for row in found["terms"]}
    assert terms["first order"] == pytest.approx(true["first"].sum(1).mean())
    assert terms["own curvature"] == pytest.approx((true["alone"] - true["first"]).sum(1).mean())
    pairs = LAYERS * (LAYERS - 1) / 2
    assert terms["between layers"] == pytest.approx(coupling * pairs, abs=1e-9)
    total = terms["first order"] + terms["own curvature"] + terms["between layers"]
    assert total == pytest.approx(terms["adapter margin"])
    assert says in found["note"]
    by_layer = [row["path"]["value"] for row in found["layers"]]
    assert by_layer == pytest.approx(true["path"].mean(0).tolist())
    maps = {row["map"]: row["path"]["value"] for row in found["maps"]}
    parts = {row["part"]: row["path"]["value"] for row in found["parts"]}
    whole = true["margin"].mean()
    assert maps == pytest.approx({"a": 0.75 * whole, "b": 0.25 * whole})
    assert parts == pytest.approx({"document": 0.75 * whole, "shared": 0.25 * whole})
    assert (found["closed"], found["tried"]) == (len(true["margin"]), len(true["margin"]))


def test_what_a_reading_would_have_chosen_carries_as_much_as_counted_one_by_one() -> None:
    run, true = quadratic(0.1)
    rows = {(row["effect"], row["reading"]): row for row in layer_choice(run)}
    causal = (true["alone"] + true["lost"]) / 2
    # a quarter of four layers is one; the norm always chooses layer 0
    for name, effect in (("path", true["path"]), ("causal", causal)):
        norm = rows[name, "norm"]
        assert norm["layers"] == [0]
        assert norm["value"] == pytest.approx(effect[:, 0].sum() / effect.sum())
        assert norm["best"] == pytest.approx(sum(max(row) for row in effect) / effect.sum())
        assert norm["by_chance"] == pytest.approx(0.25)
        assert norm["low"] < norm["value"] < norm["high"]
        first = rows[name, "first order"]
        by_hand = sum(row[slopes.argmax()] for row, slopes in zip(effect, true["first"], strict=True)) / effect.sum()
        assert first["value"] == pytest.approx(by_hand)
    # on a quadratic form the mean of alone and removed is the share itself
    assert rows["causal", "path"]["value"] == pytest.approx(rows["causal", "path"]["best"])
    assert ("path", "path") not in rows
    assert ("causal", "alone") not in rows


def test_items_whose_shares_do_not_add_up_are_counted_and_left_out() -> None:
    run, true = quadratic(0.1)
    layers = run.layers.copy()
    lost = layers["item"].iloc[0]
    layers.loc[layers["item"] == lost, ["path", "path_push", "path_pull", "path_first"]] = np.nan
    found = gain_path(replace(run, layers=layers))
    assert found is not None
    assert (found["closed"], found["tried"]) == (len(true["margin"]) - 1, len(true["margin"]))
    terms = {row["term"]: row for row in found["terms"]}
    assert terms["adapter margin"]["n"] == found["closed"]
    assert terms["adapter margin"]["value"] == pytest.approx(true["margin"][1:].mean())


def test_a_run_without_the_probe_has_no_section() -> None:
    assert gain_path(simulate_readings(0, 30, 90, others=6)) is None


def test_without_causal_the_rest_is_not_split() -> None:
    run, true = quadratic(0.4)
    found = gain_path(replace(run, layers=run.layers.drop(columns=["alone", "removed"])))
    assert found is not None
    terms = {row["term"]: row["value"] for row in found["terms"]}
    assert "own curvature" not in terms
    assert terms["beyond first order"] == pytest.approx((true["margin"] - true["first"].sum(1)).mean())
    assert {row["effect"] for row in found["choice"]} == {"path"}
