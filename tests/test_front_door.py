"""The front door: `import override_gap as og` is cheap, and what it offers takes names or open objects alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import override_gap as og
from override_gap.probes.plan import PlanError
from override_gap.probes.sources.fitted import FittedAdapters
from tests.conftest import conflict, tiny

HEAVY = {"torch", "transformers", "transformer_lens", "pandas", "numpy", "pyarrow", "seaborn", "statsmodels"}
ITEMS = [
    conflict(n, question=f"{w} alpha beta", answer=a) for n, (w, a) in enumerate([("one", "red"), ("two", "blue")])
]


def test_importing_it_loads_no_library() -> None:
    code = "import sys; import override_gap as og; dir(og); print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not set(out.split()) & HEAVY


def test_every_name_it_offers_is_there_and_no_other() -> None:
    assert all(getattr(og, name) is not None for name in og.__all__)
    assert set(og.__all__) <= set(dir(og))
    with pytest.raises(AttributeError, match="no attribute 'adit'"):
        _ = og.adit


def test_measure_and_audit_give_the_same_readings_of_open_objects(tmp_path: Path) -> None:
    subject = tiny("llama")
    source = FittedAdapters(subject, steps=3, lr=3e-2)
    policies = "as-delivered,uniform-2,in-context"
    table = og.measure(subject, source, ITEMS, policies=policies)
    assert list(zip(table["item"], table["condition"], strict=True)) == [
        (item.id, name) for item in ITEMS for name in ("base", "as-delivered", "uniform-2", "in-context")
    ]
    run = og.audit(subject, source, ITEMS, policies=policies, probes=["margins"], answers=0, out=tmp_path / "run")
    assert run == tmp_path / "run"
    stored = pd.concat([pd.read_parquet(file) for file in sorted((tmp_path / "run" / "readings").glob("*.parquet"))])
    both = table.merge(stored, on=["item", "condition"], suffixes=("", "_stored"))
    assert len(both) == len(table) == len(stored)
    for name in ("prior_margin", "push", "pull", "adapter_margin", "net_margin", "prior_logprob"):
        assert (both[name] - both[f"{name}_stored"]).abs().max() < 1e-5, name


def test_a_finished_audit_is_not_measured_again(tmp_path: Path) -> None:
    subject = tiny("llama")
    calls: list[tuple[int, int, str]] = []
    settings = {"policies": "as-delivered", "probes": ("margins",), "answers": 0, "out": tmp_path / "run"}
    source = FittedAdapters(subject, steps=1)
    og.audit(subject, source, ITEMS, **settings)
    og.audit(subject, source, ITEMS, **settings, progress=lambda *step: calls.append(step))
    assert calls == [(2, 2, "measured")]


def test_policies_and_probes_are_a_list_or_have_commas(tmp_path: Path) -> None:
    subject = tiny("llama")
    source = FittedAdapters(subject, steps=1)
    og.audit(subject, source, ITEMS, policies=["as-delivered", "slb"], probes="margins, layers", out=tmp_path / "run")
    plan = og.load(tmp_path / "run").manifest["plan"]
    assert plan["policies"] == "as-delivered,slb"
    assert plan["probes"] == ["margins", "layers"]


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(PlanError, match=r"unknown setting 'polices'; known: .*policies"):
        og.audit("organism", polices="slb")
