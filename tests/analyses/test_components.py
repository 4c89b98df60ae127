"""Parts of the adapter margin on made-up components whose four runs are known, against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from override_gap.analyses.components import components
from override_gap.analyses.readings import RunFrame
from tests.simulate import simulate_readings

LAYERS, HEADS = 3, 2
KINDS = ("attention", "mlp")


def made_up(taken: float, seed: int = 0) -> tuple[RunFrame, dict[str, np.ndarray]]:
    """A run whose components follow from what each writes with and without updates, on either stream, [item, layer, kind].

    The base's own layers take back this share of what the updates write. The components' sum is the adapter margin.
    """
    run = simulate_readings(0, 30, 90, others=6)
    rng = np.random.default_rng(seed)
    items = run.select("conflict", "as-delivered")[["item", "point"]].to_numpy()
    shape = (len(items), LAYERS, len(KINDS))
    base = rng.normal(0, 2, shape)
    own = rng.gamma(2.0, 0.5, shape)
    rest = rng.normal(0.3, 0.2, shape)
    response = -taken * (own + rest) + rng.normal(0, 0.05, shape)
    before, after = 1.0, rng.uniform(0.7, 0.9, (len(items), 1, 1))
    written = {"base": before * base, "rescaled": after * base}
    written |= {"own": -after * own, "response": -after * response}
    written["attribution"] = after * (base - own - response - rest)
    rows = []
    for n, (item, point) in enumerate(items):
        identity = {"item": item, "point": point, "split": "conflict"}
        for layer in range(LAYERS):
            for k, kind in enumerate(KINDS):
                parts = [(kind, None, 1.0)]
                if kind == "attention":
                    parts += [("head", head, (1 + 2 * head) / 4) for head in range(HEADS)] + [("bias", None, 0.0)]
                for component, head, share in parts:
                    key = {**identity, "layer": layer, "component": component, "head": head}
                    numbers = {name: share * values[n, layer, k] for name, values in written.items()}
                    rows.append({**key, "condition": "base", "attribution": numbers.pop("base")})
                    rows.append({**key, "condition": "as-delivered", **numbers})
    parts = {"own": after * own, "response": after * response, "rest": after * rest, "norm": (before - after) * base}
    return replace(run, extra={"components": pd.DataFrame(rows)}), parts


def test_parts_are_the_four_runs_and_add_up_to_the_change() -> None:
    run, parts = made_up(0.4)
    found = components(run)
    totals = {row["part"]: row["value"] for row in found["totals"]}
    for name, values in parts.items():
        assert totals[name] == pytest.approx(values.sum((1, 2)).mean(), abs=1e-9)
    assert totals["change"] == pytest.approx(sum(totals[name] for name in parts), abs=1e-9)
    assert totals["response, mlp"] == pytest.approx(parts["response"][:, :, 1].sum(1).mean(), abs=1e-9)
    rows = {(row["layer"], row["component"]): row for row in found["layers"]}
    assert set(rows) == {(layer, kind) for layer in range(LAYERS) for kind in (*KINDS, "layer")}
    assert rows[1, "attention"]["own"]["mean"] == pytest.approx(parts["own"][:, 1, 0].mean(), abs=1e-9)
    assert rows[2, "layer"]["rest"]["mean"] == pytest.approx(parts["rest"][:, 2].sum(1).mean(), abs=1e-9)


@pytest.mark.parametrize(("taken", "said"), [(0.4, "take back a part"), (-0.4, "add to what"), (0.0, "is open here")])
def test_the_share_taken_back_is_the_planted_one(taken: float, said: str) -> None:
    run, parts = made_up(taken, seed=1)
    found = components(run)
    share = found["answered"]
    by_hand = -parts["response"].sum() / (parts["own"] + parts["rest"]).sum()
    assert share["value"] == pytest.approx(by_hand, abs=1e-9)
    assert share["low"] <= by_hand <= share["high"]
    assert abs(share["value"] - taken) < 0.02
    assert said in found["note"]


def test_slopes_on_the_prior_are_those_of_a_line_through_the_items_and_add_up() -> None:
    run, parts = made_up(0.4)
    slopes = {row["part"]: row["value"] for row in components(run)["slopes"]}
    prior = run.select("conflict", "as-delivered")["prior_margin"].to_numpy(float)
    for name, values in parts.items():
        assert slopes[name] == pytest.approx(np.polyfit(prior, values.sum((1, 2)), 1)[0], abs=1e-9)
    assert slopes["change"] == pytest.approx(sum(slopes[name] for name in parts), abs=1e-9)


def test_heads_are_ordered_by_their_change_and_counted_once() -> None:
    run, parts = made_up(0.4)
    heads = components(run)["heads"]
    change = sum(parts.values())[:, :, 0].mean(0)
    expected = sorted(
        ((abs(change[layer] * (1 + 2 * head) / 4), layer, head) for layer in range(LAYERS) for head in range(HEADS)),
        reverse=True,
    )
    assert [(row["layer"], row["head"]) for row in heads] == [(layer, head) for _, layer, head in expected]
    assert heads[0]["change"]["mean"] == pytest.approx(change[heads[0]["layer"]] * 0.75, abs=1e-9)


def test_what_is_added_to_a_layer_alone_is_its_margin_less_what_it_writes() -> None:
    run, parts = made_up(0.4)
    layers = run.layers.assign(alone=np.where(run.layers["layer"] >= 0, 2.5 + run.layers["layer"], np.nan))
    rows = components(replace(run, layers=layers))["alone"]
    assert [row["layer"] for row in rows] == list(range(LAYERS))
    for row in rows:
        own = parts["own"][:, row["layer"]].sum(1).mean()
        assert row["beyond"]["mean"] == pytest.approx(2.5 + row["layer"] - own, abs=1e-9)


def test_a_run_without_components_has_no_section() -> None:
    assert components(simulate_readings(0, 10, 20)) is None
