"""How long an audit will take, said before its first batch: in words, by its parts, and by its own pace when it is resumed."""

from __future__ import annotations

import dataclasses

import pytest

import override_gap as og
from override_gap.probes.plan import Plan
from override_gap.probes.run import audit, time_estimate
from override_gap.probes.run.loop import _measuring
from override_gap.probes.run.resolve import resolve
from override_gap.probes.run.time_estimate import ANSWER_PASSES, AT_FIRST, PROBES, duration, in_words, passes


def count(items: int = 40, **settings) -> float:
    plan = Plan(
        "organism", "hypernetwork", "organism", **{"policies": "as-delivered", "probes": ("margins",), **settings}
    )
    return passes(resolve(plan), items)


def test_each_condition_item_and_probe_adds_its_passes() -> None:
    one, two = count(), count(policies="as-delivered,slb")
    assert two - one == 40 * time_estimate.OF_EACH_CONDITION
    assert (count(items=80) - AT_FIRST) == pytest.approx(2 * (one - AT_FIRST))
    assert count(probes=("margins", "layers")) - one == 40 * PROBES["layers"]
    assert 0 < count(probes=("margins", "search")) - one < 40 * PROBES["search"]  # of conflicts alone
    assert count(probes=("margins", "answers"), answers=5) - one == 5 * 2 * ANSWER_PASSES
    assert count(items=3, probes=("margins", "answers"), answers=5) == count(items=3) + 3 * 2 * ANSWER_PASSES


def test_times_are_said_in_the_unit_that_fits_with_their_range() -> None:
    assert [duration(x) for x in (0.01, 44.6, 99, 120, 7000, 7300)] == [
        "1 s",
        "45 s",
        "99 s",
        "2 min",
        "117 min",
        "2 h",
    ]
    assert in_words(60) == "about 60 s (estimate: 20 s to 3 min)"
    assert in_words(600, sure=True) == "about 10 min (estimate)"


def test_a_resumed_run_goes_by_its_own_pace_and_a_shard_by_its_share() -> None:
    before = {"adapters_s": 10.0, "measuring_s": 90.0, "total_s": 500.0}
    assert _measuring(50, 150, 200, before, 7.0) == "measuring, about 5 min (estimate)"
    assert _measuring(0, 25, 100, {}, 240.0) == "measuring, about 60 s (estimate: 20 s to 3 min)"
    assert _measuring(0, 25, 100, {}, None) == "measuring"


def test_an_audit_says_it_before_anything_is_measured_and_only_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(audit, "seconds_of", lambda engine, resolved, encode_s: 30.0 if encode_s > 0 else None)
    told: list[tuple[int, str]] = []
    og.audit(
        "organism", "hypernetwork", "organism", limit=4, policies="as-delivered", probes="margins", answers=0,
        out=tmp_path / "run", progress=lambda done, total, what: told.append((done, what)),
    )  # fmt: skip
    assert told[0] == (0, "measuring, about 30 s (estimate: 10 s to 90 s)")
    assert not any("estimate" in what for _, what in told[1:])


def test_the_time_of_a_pass_grows_with_the_pass() -> None:
    from override_gap.probes.items import open_items
    from override_gap.probes.subject.load import open_subject

    subject = open_subject("organism", device="cpu")
    items = open_items("organism")[:8]
    found = time_estimate.timed_pass(subject, None, items)
    assert found is not None
    assert 0 < found < 1
    assert time_estimate.timed_pass(subject, None, []) is None
    assert subject.max_positions is not None
    long = dataclasses.replace(items[0], question=f"{items[0].question} " * subject.max_positions)
    assert time_estimate.timed_pass(subject, None, [long]) is None
    assert time_estimate.timed_pass(subject, None, [long, items[1]]) is not None
