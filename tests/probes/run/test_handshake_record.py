"""The handshake's record: in the manifest, through a resumed run and merged shards, in the summary and a comparison."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from override_gap.analyses.compare.methods import scale_notes
from override_gap.analyses.readings import RunFrame, load
from override_gap.probes.plan import Plan
from override_gap.probes.run import handshake_record
from override_gap.probes.run.audit import audit
from override_gap.probes.run.checks import merged_record
from override_gap.probes.run.engine import Local
from override_gap.probes.run.loop import run_plan
from override_gap.probes.run.resolve import resolve
from override_gap.probes.run.shards import Shard, merge
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.folder import Store
from override_gap.probes.store.manifest import manifest_error
from override_gap.probes.subject.model import Subject
from tests.conftest import conflict, tiny

WORDS = ["alpha", "beta", "gamma", "delta"]
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue", tier="deep") for n in range(3)]
SETTINGS: dict[str, Any] = {"policies": "as-delivered", "probes": ("margins",)}


def record(verified: bool | None = True, gap: float | None = 3e-5, native: bool | None = True, says: str = "s") -> dict:
    checks = [{"name": "fits", "passed": True, "says": "f"}, {"name": "native", "passed": native, "says": "n"}]
    return {"checks": checks, "scale": {"verified": verified, "gap_nats": gap, "says": says}}


@pytest.fixture(scope="module")
def subject() -> Subject:
    return tiny("llama")


def manifest(folder: Path | str) -> dict[str, Any]:
    return json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore")
def test_an_audit_records_its_handshake_once_and_a_resumed_one_keeps_it(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 1)
    folder = audit(subject, FittedAdapters(subject, steps=4, lr=3e-2), ITEMS, out=tmp_path / "run", **SETTINGS)
    first = manifest(folder)["handshake"]
    assert first["scale"]["verified"] is True
    assert 0 <= first["scale"]["gap_nats"] < 1e-3
    assert {"base", "fits", "native", "batch"} <= {check["name"] for check in first["checks"]}
    assert load(folder).manifest["handshake"] == first
    next((tmp_path / "run" / "readings").glob("*.parquet")).unlink()

    def again(*_: Any, **__: Any) -> None:
        raise AssertionError("the handshake was made again")

    monkeypatch.setattr(handshake_record, "check_adapters", again)
    audit(subject, FittedAdapters(subject, steps=4, lr=3e-2), ITEMS, out=tmp_path / "run", **SETTINGS)
    assert manifest(folder)["handshake"] == first
    assert manifest(folder)["complete"]


@pytest.mark.filterwarnings("ignore")
def test_a_run_begun_without_a_handshake_has_one_when_an_audit_goes_on(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 1)
    source = FittedAdapters(subject, steps=4, lr=3e-2)
    made = audit(subject, source, ITEMS, out=tmp_path / "run", **SETTINGS)
    bare = {**manifest(made), "handshake": None, "complete": False, "finished": None}
    next((tmp_path / "run" / "readings").glob("*.parquet")).unlink()
    Store(tmp_path / "run").write_json("manifest.json", {k: v for k, v in bare.items() if k != "checksum"})
    audit(subject, source, ITEMS, out=tmp_path / "run", **SETTINGS)
    assert manifest(made)["handshake"]["scale"]["verified"] is True


def test_merged_shards_keep_the_worst_record(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 1)
    engine = Local(subject, FittedAdapters(subject, steps=2))
    plan = resolve(Plan(subject="tiny", items="own", **SETTINGS), ITEMS)
    folders = [tmp_path / "1", tmp_path / "2"]
    records = [record(gap=3e-5), record(verified=False, gap=2e-5, says="weak")]
    for number, (folder, own) in enumerate(zip(folders, records, strict=True), 1):
        run_plan(engine, plan, folder, shard=Shard(number, 2), handshake=own)
    merged = merge(folders, tmp_path / "merged")
    assert manifest(merged)["handshake"]["scale"] == {"verified": False, "gap_nats": 2e-5, "says": "weak"}


@pytest.mark.parametrize(
    ("records", "verified", "gap"),
    [
        ([record(gap=1e-5), record(gap=3e-5), record(gap=2e-5)], True, 3e-5),
        ([record(gap=1e-5), record(verified=None, gap=None)], None, None),
        ([record(verified=None, gap=None), record(verified=False, gap=1e-5)], False, 1e-5),
    ],
)
def test_a_scale_is_verified_where_every_shard_says_so(records: list, verified: bool | None, gap: float | None) -> None:
    for order in (records, records[::-1]):
        merged = merged_record(order)
        assert merged is not None
        assert (merged["scale"]["verified"], merged["scale"]["gap_nats"]) == (verified, gap)


def test_a_shard_without_a_record_leaves_none_and_a_check_made_by_some_is_not_made() -> None:
    assert merged_record([record(), None]) is None
    assert merged_record([]) is None
    short = record()
    short["checks"] = short["checks"][:1]
    merged = merged_record([record(), short])
    assert merged is not None
    assert [(c["name"], c["passed"]) for c in merged["checks"]] == [("fits", True), ("native", None)]


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {"checks": []},
        {"checks": [], "scale": {"verified": "yes", "gap_nats": None, "says": ""}},
        {"checks": [], "scale": {"verified": True, "gap_nats": -1.0, "says": ""}},
        {"checks": [], "scale": {"verified": True, "gap_nats": True, "says": ""}},
        {
            "checks": [{"name": "fits", "passed": 1, "says": ""}],
            "scale": {"verified": None, "gap_nats": None, "says": ""},
        },
        {"checks": ["fits"], "scale": {"verified": None, "gap_nats": None, "says": ""}},
        {"checks": [], "scale": {"verified": None, "gap_nats": None, "says": 3}},
    ],
)
def test_a_manifest_with_a_malformed_record_is_refused(wrong: Any) -> None:
    assert (manifest_error({"handshake": wrong}) or "").startswith("handshake needs checks and scale")


@pytest.mark.parametrize("good", [None, record(), record(verified=None, gap=None, native=None), record(verified=False)])
def test_a_record_as_written_is_accepted(good: Any) -> None:
    assert manifest_error({"handshake": good}) is None


def test_a_comparison_names_the_methods_whose_scale_is_not_verified(run_frame: RunFrame) -> None:
    def with_record(own: Any) -> RunFrame:
        return replace(run_frame, manifest={**run_frame.manifest, "handshake": own})

    runs = {
        "sound": with_record(record()),
        "weak": with_record(record(verified=False)),
        "other": with_record(record(verified=None, gap=None)),
        "early": with_record(None),
    }
    assert scale_notes(runs) == ["scale not verified: early, other, weak"]
    assert scale_notes({"sound": runs["sound"]}) == []


@pytest.fixture
def run_frame() -> RunFrame:
    from tests.reports import synthetic

    return synthetic.run(12, 4)
