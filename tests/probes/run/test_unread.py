"""What cannot be read of a model is refused by name, and a check that was not made is not reported as passed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import override_gap as og
from override_gap.probes.plan import Plan
from override_gap.probes.run.loop import run
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.folder import Store
from override_gap.reports.build import rebuild
from tests.conftest import conflict, tiny

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue", tier="deep") for n in range(4)]


def measured(family: str, out: Path, *, probes: str, **settings) -> tuple[dict, pd.DataFrame]:
    subject = tiny(family)
    subject = replace(subject, **settings) if settings else subject
    plan = Plan("tiny", "fitted", "own", "as-delivered", tuple(probes.split(",")))
    run(plan, subject, FittedAdapters(subject), ITEMS, out)
    layers = pd.concat([pd.read_parquet(file) for file in sorted((out / "layers").glob("*.parquet"))])
    return Store(out).manifest(), layers


def test_a_stream_that_is_not_split_is_refused_and_its_check_not_reported_as_passed(tmp_path: Path) -> None:
    manifest, layers = measured("llama", tmp_path / "run", probes="margins,layers,causal", norm=None)
    assert [row["probe"] for row in manifest["refused"]] == ["layers"]
    assert "neither LayerNorm nor RMSNorm" in manifest["refused"][0]["reason"]
    assert manifest["parity"]["attribution_max_abs"] is None
    assert manifest["parity"]["attribution_passed"] is None
    assert layers["norm"].notna().all()  # what needs no norm is there
    assert layers.loc[layers["condition"] == "as-delivered", "alone"].notna().all()
    assert "attribution" not in layers or layers["attribution"].isna().all()
    rebuild(tmp_path / "run", lambda _: None)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "attributions were not read" in page
    assert "neither LayerNorm nor RMSNorm" in page


def test_attributions_that_were_not_asked_for_are_no_passed_check(tmp_path: Path) -> None:
    manifest, _ = measured("llama", tmp_path / "run", probes="margins")
    assert (manifest["parity"]["attribution_max_abs"], manifest["parity"]["attribution_passed"]) == (None, None)
    assert manifest["parity"]["passed"] is True
    assert manifest["refused"] == []


@pytest.mark.parametrize(("family", "given"), [("llama", True), ("gemma2", False)])
def test_direct_is_given_or_refused_with_its_reason(tmp_path: Path, family: str, given: bool) -> None:
    manifest, layers = measured(family, tmp_path / "run", probes="margins,layers")
    assert manifest["parity"]["attribution_passed"] is True
    delivered = layers[(layers["condition"] == "as-delivered") & (layers["layer"] >= 0)]
    assert ("direct" in delivered and delivered["direct"].notna().all()) == given
    reasons = [row["reason"] for row in manifest["refused"] if row["probe"] == "layers, direct"]
    assert bool(reasons) != given
    if not given:
        assert reasons == ["what lies between layers.0.mlp.down_proj and the stream is no straight line"]


def test_an_audit_says_what_it_could_not_read(tmp_path: Path) -> None:
    subject, said = tiny("gemma2"), []
    source = FittedAdapters(subject)
    og.audit(
        subject, source, ITEMS, policies="as-delivered", probes="margins,layers", out=tmp_path / "r", say=said.append
    )
    assert any("layers, direct" in text and "no straight line" in text for text in said)


@pytest.mark.parametrize("norm", [True, False])
def test_components_are_stored_or_refused_with_their_reason(tmp_path: Path, norm: bool) -> None:
    manifest, layers = measured(
        "llama", tmp_path / "run", probes="margins,layers,components", **({} if norm else {"norm": None})
    )
    reasons = [row["reason"] for row in manifest["refused"] if row["probe"] == "components"]
    files = sorted((tmp_path / "run" / "components").glob("*.parquet"))
    assert (len(reasons), bool(files)) == ((0, True) if norm else (1, False))
    if not norm:
        assert "neither LayerNorm nor RMSNorm" in reasons[0]
        return
    parts = pd.concat([pd.read_parquet(file) for file in files])
    whole = parts[parts["component"].isin(["embedding", "attention", "mlp"])]
    key = ["item", "condition", "layer"]
    gaps = whole.groupby(key)["attribution"].sum() - layers.set_index(key)["attribution"]
    assert len(gaps) == len(ITEMS) * 2 * 4
    assert gaps.abs().max() < 1e-4
