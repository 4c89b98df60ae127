"""An audit that ends by a rule: where it looks and stops, that it resumes with the same looks and goes on without the rule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from override_gap.probes.plan import Plan
from override_gap.probes.run.engine import Local, Unit
from override_gap.probes.run.loop import run_plan
from override_gap.probes.run.resolve import resolve
from override_gap.probes.run.shards import Shard
from override_gap.probes.run.units import split_into_units
from override_gap.probes.run.until import share_of_points
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.doctor import diagnose
from override_gap.probes.store.folder import RunError, Store
from tests.conftest import conflict, tiny

WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu".split()
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue") for n in range(10)]
PLAN = Plan(subject="tiny", adapters="fitted", items="own", policies="as-delivered", probes=("margins",))


@dataclass
class StopAt:
    """Stops at the look with this number; keeps what it was asked."""

    stop: int
    looks: int = 3
    asked: list[tuple[int, list[float]]] = field(default_factory=list)
    fails: bool = False

    def as_json(self) -> Mapping[str, Any]:
        return {"rule": "test", "most_looks": self.looks}

    def look(self, folder: Path, items: frozenset[str], shares: Sequence[float]) -> Mapping[str, Any]:
        there = set(pd.read_parquet(folder / "readings")["item"])
        assert items == there, "a look sees all that was measured, and nothing else"
        if self.fails:
            raise KeyboardInterrupt
        self.asked.append((len(items), list(shares)))
        return {"decided": len(shares) == self.stop, "says": "seen"}


@pytest.fixture
def audit(tmp_path, monkeypatch):
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 2)
    subject = tiny("llama")
    engine = Local(subject, FittedAdapters(subject, steps=1, lr=1e-2))

    def call(until=None, out="run", **more) -> dict[str, Any]:
        run_plan(engine, resolve(PLAN, ITEMS), tmp_path / out, until=until, **more)
        return json.loads((tmp_path / out / "manifest.json").read_text())

    return call


def test_a_run_stops_at_a_look_and_goes_on_without_the_rule(audit, tmp_path):
    rule, said = StopAt(2), []
    manifest = audit(rule, say=said.append)
    assert rule.asked == [(4, [0.4]), (6, [0.4, 0.6])], "five units of two documents, looks after 2, 3 and 5"
    assert manifest["complete"] is True
    assert manifest["until"]["units_at_looks"] == [2, 3, 5]
    assert manifest["until"]["stopped"] == {"units": 3, "items": 6, "unmeasured": 4}
    assert [look["items"] for look in manifest["until"]["looks"]] == [4, 6]
    assert said[-1] == "look after 6 of 10 items: seen; the audit stops here"
    diagnosis = diagnose(tmp_path / "run")
    assert diagnosis.sound
    assert diagnosis.units == 3
    units = split_into_units(resolve(PLAN, ITEMS).items, manifest["identity"], PLAN.seed)
    assert Store(tmp_path / "run").keys() == sorted(unit.key for unit in units[:3]), "the first, in their order"
    again = StopAt(2)
    assert audit(again)["until"] == manifest["until"]
    assert again.asked == [], "it has stopped"
    whole = audit()
    assert whole["until"]["stopped"] is None
    assert len(whole["until"]["looks"]) == 2, "that it was looked at stays known"
    assert len(Store(tmp_path / "run").keys()) == 5
    audit(out="plain")
    left, right = (pd.read_parquet(tmp_path / name / "readings") for name in ("run", "plain"))
    pd.testing.assert_frame_equal(left, right)
    assert audit(StopAt(1))["until"] == whole["until"], "all is measured: there is nothing to stop"


def test_an_interrupted_run_makes_the_same_looks(audit, monkeypatch):
    whole = StopAt(3)
    expected = audit(whole, out="whole")["until"]
    assert expected["stopped"] is None, "the last look is at everything"
    assert whole.asked[-1] == (10, [0.4, 0.6, 1.0])
    with pytest.raises(KeyboardInterrupt):
        audit(StopAt(3, fails=True))
    measure, calls = FittedAdapters.encode, []

    def interrupted(self, documents):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(self, documents)

    first = StopAt(3)
    monkeypatch.setattr(FittedAdapters, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        audit(first)
    assert first.asked == whole.asked[:2], "the look that was not finished is made again"
    monkeypatch.setattr(FittedAdapters, "encode", measure)
    rest = StopAt(3)
    found = audit(rest)["until"]
    assert first.asked + rest.asked == whole.asked
    assert {**found, "begun": 0} == {**expected, "begun": 0}


def test_what_was_measured_before_the_rule_was_given_is_not_looked_at_in_parts(audit, monkeypatch):
    measure, calls = FittedAdapters.encode, []

    def interrupted(self, documents):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure(self, documents)

    monkeypatch.setattr(FittedAdapters, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        audit()
    monkeypatch.setattr(FittedAdapters, "encode", measure)
    rule = StopAt(1)
    audit(rule)
    assert rule.asked[0][0] == 6, "three units were there: the look after two is left out"


def test_shards_other_engines_and_other_rules_are_refused(audit, tmp_path, monkeypatch):
    with pytest.raises(RunError, match="not by a shard; leave --until out"):
        audit(StopAt(1), shard=Shard(1, 2))

    class Other:
        def ask(self, question):
            raise AssertionError

        def measure(self, job, pending, store):
            raise AssertionError

    with pytest.raises(RunError, match="not by Ray"):
        run_plan(Other(), resolve(PLAN, ITEMS), tmp_path / "other", until=StopAt(1))
    monkeypatch.setattr("override_gap.probes.run.loop.MOST_SAMPLED", 9)
    with_nulls = resolve(replace(PLAN, policies="as-delivered,null-other"), ITEMS)
    subject = tiny("llama")
    with pytest.raises(RunError, match="random sample of its documents"):
        run_plan(Local(subject, FittedAdapters(subject, steps=1)), with_nulls, tmp_path / "nulls", until=StopAt(1))
    audit(StopAt(1))
    with pytest.raises(RunError, match="begun with another rule"):
        audit(StopAt(1, looks=4))


@pytest.mark.parametrize(
    "until",
    [
        7,
        {"rule": "decided", "looks": []},
        {"rule": "decided", "looks": [{"units": 1, "share": 0.5}, {"units": 2, "share": 0.5}], "units_at_looks": [1]},
        {"rule": "decided", "looks": [{"units": 1, "share": n / 30} for n in range(1, 25)], "units_at_looks": [1]},
        {"rule": "decided", "looks": [], "units_at_looks": [1], "stopped": {"units": 1, "items": 1, "unmeasured": 1}},
        {"rule": "decided", "looks": [{"units": True, "share": 0.5}], "units_at_looks": [1]},
    ],
)
def test_a_manifest_that_no_audit_writes_is_refused(audit, tmp_path, until):
    audit(StopAt(1))
    store = Store(tmp_path / "run")
    store.write_json("manifest.json", {**store.read_json("manifest.json"), "until": until})
    with pytest.raises(RunError, match="until needs rule, looks and where the run stopped"):
        store.manifest()


def test_a_point_counts_by_the_share_of_its_conflicts():
    items = [conflict(n, f"{WORDS[n]} one", "red", "blue") for n in range(4)]
    items = [type(item)(**{**item.__dict__, "point": point}) for item, point in zip(items, "aabb", strict=True)]
    units = [Unit((), (item,), str(n)) for n, item in enumerate(items)]
    assert [share_of_points(units, n) for n in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    order = [units[0], units[2], units[3], units[1]]
    assert share_of_points(order, 1) == 0.25
