"""One way to read a run: what doctor calls serious is refused, in doctor's words, by everything that reads a run's numbers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import override_gap as og
from override_gap.analyses.readings import load
from override_gap.probes.plan import Plan
from override_gap.probes.run.engine import Local
from override_gap.probes.run.loop import run_plan
from override_gap.probes.run.resolve import resolve
from override_gap.probes.run.shards import Shard, merge
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store import parquet_table
from override_gap.probes.store.checksum import DamagedError, read_checked, with_checksum
from override_gap.probes.store.doctor import diagnose, repair
from override_gap.probes.store.finding import SERIOUS
from override_gap.probes.store.folder import RunError, Store
from override_gap.probes.store.sealed import examine
from override_gap.reports.cli.main import WRONG, main
from override_gap.reports.export.latex import latex
from override_gap.reports.export.markdown import markdown
from override_gap.reports.export.model_card import model_card
from override_gap.reports.figures.style import run_and_summary
from tests.conftest import conflict, tiny

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"]
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue", tier="deep") for n in range(6)]
PLAN = Plan("tiny", "fitted", "own", policies="as-delivered", probes=("margins", "layers"), batch_size=4)


def audit(out: Path, plan: Plan = PLAN, shard: Shard | None = None) -> Path:
    subject = tiny("llama")
    engine = Local(subject, FittedAdapters(subject, steps=1, lr=3e-2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 3)
        run_plan(engine, resolve(plan, ITEMS), out, shard=shard)
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run, the same with another seed, the same measured at another time (in other batches), and a shard."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {
        "own": audit(folder / "own"),
        "other": audit(folder / "other", replace(PLAN, seed=1)),
        "again": audit(folder / "again", replace(PLAN, batch_size=1)),
        "shard": audit(folder / "shard", shard=Shard(1, 2)),
        "shard 2": audit(folder / "shard 2", shard=Shard(2, 2)),
    }
    assert Store(runs["own"]).keys() == Store(runs["again"]).keys(), "batches are no part of a run's identity"
    return runs


def first(folder: Path, table: str = "readings") -> Path:
    return sorted((folder / table).glob("*.parquet"))[0]


def rewritten(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(file)), file)


def edited(folder: Path, seal: str, **values: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text()) | values
    if seal != "kept":
        del manifest["checksum"]
    manifest = with_checksum(manifest) if seal == "made again" else manifest
    (folder / "manifest.json").write_text(json.dumps(manifest))


def unit_of(other: Path, folder: Path, renamed: bool) -> None:
    """The tables of another run's first unit, under their own name or in place of this run's first unit."""
    target = first(folder).name if renamed else first(other).name
    for table in ("readings", "layers"):
        shutil.copy(first(other, table), folder / table / target)


def without_unit(folder: Path, runs: dict[str, Path]) -> None:
    for table in ("layers", "readings"):
        first(folder, table).unlink()


def linked(folder: Path, runs: dict[str, Path]) -> None:
    file = first(folder)
    shutil.move(file, folder.parent / "moved")
    file.symlink_to(folder.parent / "moved")


def piped(folder: Path, runs: dict[str, Path]) -> None:
    first(folder).unlink()
    os.mkfifo(first(folder, "layers").parent.parent / "readings" / first(folder, "layers").name)


def other_margin(table: pa.Table) -> pa.Table:
    margins = table.column("adapter_margin").to_numpy().copy()
    margins[0] += 1e-12
    return table.set_column(table.column_names.index("adapter_margin"), "adapter_margin", pa.array(margins))


def without_note(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata(None)


TAMPERING: dict[str, Callable[[Path, dict[str, Path]], object]] = {
    "a unit is removed": without_unit,
    "a table is removed": lambda folder, _: first(folder, "layers").unlink(),
    "a table is a pipe": piped,
    "a table is cut": lambda folder, _: first(folder).write_bytes(first(folder).read_bytes()[:-100]),
    "a number is changed": lambda folder, _: rewritten(first(folder), other_margin),
    "a unit of another run in place of one": lambda folder, runs: unit_of(runs["other"], folder, renamed=True),
    "a unit of another run is added": lambda folder, runs: unit_of(runs["other"], folder, renamed=False),
    "a unit of this run measured at another time": lambda folder, runs: unit_of(runs["again"], folder, renamed=False),
    "a table of another unit": lambda folder, _: shutil.copy(
        sorted((folder / "layers").glob("*.parquet"))[1], first(folder, "layers")
    ),
    "readings without a checksum": lambda folder, _: rewritten(first(folder), without_note),
    "layers without a checksum": lambda folder, _: rewritten(first(folder, "layers"), without_note),
    "no table has a checksum": lambda folder, _: [
        rewritten(file, without_note) for file in sorted(folder.glob("*/*.parquet"))
    ],
    "the manifest is edited": lambda folder, _: edited(folder, "kept", seed=7),
    "the manifest is edited, its checksum removed": lambda folder, _: edited(folder, "removed", seed=7),
    "the manifest is cut": lambda folder, _: (folder / "manifest.json").write_text("{"),
    "the manifest is removed": lambda folder, _: (folder / "manifest.json").unlink(),
    "a condition more is promised, sealed again": lambda folder, _: edited(
        folder, "made again", conditions=["base", "as-delivered", "slb"]
    ),
    "a condition less is promised, sealed again": lambda folder, _: edited(folder, "made again", conditions=["base"]),
    "more units are promised, sealed again": lambda folder, _: edited(folder, "made again", units=5),
    "more items are promised, sealed again": lambda folder, _: edited(
        folder, "made again", items={"name": "own", "sha256": "0", "count": 9}
    ),
    "another identity, sealed again": lambda folder, _: edited(folder, "made again", identity="0" * 16),
    "items.json is edited": lambda folder, _: (folder / "items.json").write_text('{"checksum": "0", "items": []}'),
    "a sound items.json of another run": lambda folder, _: (folder / "items.json").write_text(
        json.dumps(with_checksum({"items": []}))
    ),
    "readings are a link": linked,
}
READERS: dict[str, Callable[[Path, dict[str, Path], Path], object]] = {
    "og.load": lambda folder, runs, out: og.load(folder),
    "og.report": lambda folder, runs, out: og.report(folder),
    "report": lambda folder, runs, out: main(["report", str(folder), "--quiet"]),
    "report --format md": lambda folder, runs, out: main(["report", str(folder), "--format", "md", "--quiet"]),
    "compare": lambda folder, runs, out: main(["compare", str(runs["other"]), str(folder), "--out", f"{out}.html"]),
    "tune": lambda folder, runs, out: main(["tune", str(folder), "--out", f"{out}.json"]),
    "power": lambda folder, runs, out: main(["power", "--pilot", str(folder)]),
}


@pytest.fixture
def folder(runs: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs["own"], tmp_path / "run"))


@pytest.mark.parametrize("tampering", TAMPERING)
def test_whatever_reads_a_run_refuses_what_doctor_calls_serious_in_its_words(
    tampering: str, folder: Path, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TAMPERING[tampering](folder, runs)
    assert main(["doctor", str(folder)]) == WRONG
    printed = capsys.readouterr().out.splitlines()
    serious = next(line for line in printed if line.startswith(tuple(f"{kind}: " for kind in SERIOUS)))
    before = sorted(str(file) for file in tmp_path.rglob("*"))
    for name, read in READERS.items():
        if name.startswith("og."):
            with pytest.raises(RunError) as refusal:
                read(folder, runs, tmp_path / "out")
            line = str(refusal.value)
        else:
            assert read(folder, runs, tmp_path / "out") == WRONG, name
            line = capsys.readouterr().err.strip().splitlines()[-1]
        if "symbolic link" in serious or ("manifest.json" in serious and "missing" in serious):
            assert "symbolic link" in line or "manifest.json" in line, name
        elif "it is a pipe" in serious:
            assert "is a pipe" in line, name
        else:
            assert serious in line, name
    assert sorted(str(file) for file in tmp_path.rglob("*")) == before, "a refused run is left as it is"


@pytest.mark.parametrize("tampering", ["a number is changed", "layers without a checksum", "a table is removed"])
def test_merge_refuses_a_shard_that_doctor_calls_unsound(tampering: str, runs: dict[str, Path], tmp_path: Path) -> None:
    shards = [Path(shutil.copytree(runs[name], tmp_path / name)) for name in ("shard", "shard 2")]
    TAMPERING[tampering](shards[1], runs)
    serious = next(finding for finding in diagnose(shards[1]).findings if finding.kind in SERIOUS)
    with pytest.raises(RunError) as refusal:
        merge(shards, tmp_path / "merged")
    assert str(serious) in str(refusal.value)
    assert not (tmp_path / "merged").exists()


def test_a_merged_run_lists_the_units_of_its_shards(runs: dict[str, Path], tmp_path: Path) -> None:
    merged = merge([runs["shard"], runs["shard 2"]], tmp_path / "merged")
    assert diagnose(merged).findings == ()
    assert Store(merged).manifest()["seals"]["units"] == Store(runs["own"]).manifest()["seals"]["units"]
    pd.testing.assert_frame_equal(load(merged).readings, load(runs["own"]).readings)


def test_what_is_whole_is_read_by_all(runs: dict[str, Path], folder: Path, tmp_path: Path, capsys) -> None:
    for name in ("og.load", "tune", "power"):  # the report of a whole run is read in tests/cli/test_report.py
        READERS[name](folder, runs, tmp_path / "out")
        assert "damaged" not in capsys.readouterr().err, name
    assert diagnose(folder).findings == ()


def test_a_unit_measured_at_another_time_is_set_aside_and_measured_again(folder: Path, runs: dict[str, Path]) -> None:
    wanted = load(folder).readings
    unit_of(runs["again"], folder, renamed=False)
    assert any(sentence.startswith("moved readings") for sentence in repair(folder))
    audit(folder)
    assert diagnose(folder).sound
    pd.testing.assert_frame_equal(load(folder).readings, wanted)


def test_a_run_that_is_measured_again_is_not_complete_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed then, its manifest must not vouch for units that were measured since."""
    without_unit(folder, {})
    monkeypatch.setattr(FittedAdapters, "encode", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        audit(folder)
    manifest = Store(folder).manifest()
    assert (manifest["complete"], manifest["seals"]) == (False, None)
    assert {finding.kind for finding in diagnose(folder).findings} == {"unfinished"}
    assert len(load(folder).readings) == 6, "what was measured before it stopped can be read"


def test_a_file_that_states_more_rows_than_its_run_can_have_is_not_read(folder: Path, monkeypatch) -> None:
    """Two million rows of one value take some kilobytes of a file."""
    file = first(folder)
    table = pq.read_table(file)
    many = {field.name: pa.array(np.zeros(2_000_000), pa.float64()).cast(pa.float64()) for field in table.schema}
    pq.write_table(pa.table(many), file)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("rows were read"))
    with pytest.raises(DamagedError, match=r"it states 2,000,000 rows; as its manifest is, it has at most 12"):
        Store(folder).faults(file.stem)


def test_a_text_that_is_repeated_is_measured_before_it_is_spelt_out(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "a.parquet"
    text = pa.array(["x" * 10_000, "y"])
    rows = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2_000, np.int32)), text)
    pq.write_table(pa.table({"item": rows.cast(pa.string())}), file)
    assert file.stat().st_size < 20_000
    monkeypatch.setattr(parquet_table, "LARGEST_TABLE", 2**24)
    with pytest.raises(DamagedError, match=r"take 20,\d+,\d+ bytes or more"):
        read_checked(file)
    monkeypatch.undo()
    assert pc.unique(read_checked(file)[0].column("item")).to_pylist() == ["x" * 10_000]


def test_tables_are_kept_only_where_they_are_asked_for(runs: dict[str, Path]) -> None:
    assert sum(map(len, examine(runs["own"]).tables["readings"])) == 12
    assert not any(examine(runs["own"], keep=False).tables.values())


@pytest.mark.parametrize("also", ["memory", "seals", "both", "nothing"])
def test_a_manifest_whose_seal_was_taken_out_is_damaged(folder: Path, also: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text()) | {"seed": 7}
    gone = {"both": ["memory", "seals"], "nothing": []}.get(also, [also])
    for name in ["checksum", *gone]:
        del manifest[name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="its checksum was taken out"):
        load(folder)


def test_a_run_without_any_checksum_stays_readable_with_a_caution(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("checksum", "memory", "seals"):
        del manifest[name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for file in folder.glob("*/*.parquet"):
        rewritten(file, without_note)
    assert len(load(folder).cautions) == 1


@pytest.mark.parametrize(
    "note",
    [
        '"tables": "x"',
        '"tables": ["layers"]',
        '"tables": {"layers": 1}',
        '"faults": 1e400',
        '"faults": "x"',
        '"faults": -3',
        f'"faults": {10**30}',
        '"faults": {}',
        '"faults": true',
        '"unit": 3',
        '"identity": []',
    ],
)
def test_a_note_of_another_form_is_damage_that_is_repaired(folder: Path, note: str) -> None:
    def noted(table: pa.Table) -> pa.Table:
        old = table.schema.metadata[b"override_gap"].decode()
        # the last of two equal keys counts
        return table.replace_schema_metadata({b"override_gap": f"{old[:-1]}, {note}}}".encode()})

    rewritten(first(folder), noted)
    assert [finding.kind for finding in diagnose(folder).findings] == ["damaged", "missing"]
    assert "its note is not what was written" in diagnose(folder).findings[0].says
    assert any(sentence.startswith("moved readings") for sentence in repair(folder))


def test_a_merge_of_shards_without_seals_seals_their_units(runs: dict[str, Path], tmp_path: Path) -> None:
    shards = [Path(shutil.copytree(runs[name], tmp_path / name)) for name in ("shard", "shard 2")]
    for shard in shards:
        edited(shard, "made again", seals=None)
    merged = merge(shards, tmp_path / "merged")
    assert Store(merged).manifest()["seals"]["units"] == Store(runs["own"]).manifest()["seals"]["units"]


def test_a_figure_takes_a_stored_summary_only_of_the_readings_that_it_draws(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    """What `report` wrote while fewer items were there, or what somebody edited, is computed again."""
    run = shutil.copytree(runs["own"], tmp_path / "run")
    og.report(run)
    written = Store(run).read_json("summary.json")
    assert written is not None
    assert run_and_summary(run, None)[1] == written
    plain = {key: value for key, value in written.items() if key != "checksum"}
    marked = {**plain, "outcomes": ["not what was measured"]}
    for content in (
        {**written, "outcomes": marked["outcomes"]},  # edited
        with_checksum({**marked, "content": "0" * 64}),  # of other readings
        {key: value for key, value in marked.items() if key != "content"},  # of an earlier version
    ):
        Store(run).write_json("summary.json", content)
        assert json.loads(json.dumps(run_and_summary(run, None)[1]["outcomes"])) == written["outcomes"]
    shutil.copytree(runs["other"], tmp_path / "other")
    assert load(tmp_path / "other").content != load(run).content == load(runs["own"]).content


def test_what_cannot_be_checked_is_said_wherever_the_numbers_are(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of an early version, without any checksum: its numbers come with the caution in every form."""
    run = shutil.copytree(runs["own"], tmp_path / "run")
    for file in run.rglob("*.parquet"):
        pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)
    sealing = ("checksum", "seals", "memory", "identity")
    old = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({k: v for k, v in old.items() if k not in sealing}))
    assert main(["report", str(run), "--quiet"]) == 0
    summary = json.loads((run / "summary.json").read_text())
    said = {
        "terminal": capsys.readouterr().out,
        "page": (run / "report.html").read_text(),
        "summary": "; ".join(summary["cautions"]),
        "md": markdown(summary),
        "tex": latex(summary),
        "card": model_card(summary),
    }
    assert main(["tune", str(run), "--out", str(tmp_path / "gains.json")]) == 0
    said["tune"] = capsys.readouterr().err
    for name, text in said.items():
        words = " ".join(text.replace("{-}", "-").split())
        assert "the tables have no checksum (written by an older version)" in words.replace("The", "the"), name
    assert og.load(run).cautions == load(run).cautions != ()


def test_a_stray_items_json_is_moved_aside_and_nothing_has_to_be_measured_again(folder: Path) -> None:
    TAMPERING["a sound items.json of another run"](folder, {})
    [finding] = diagnose(folder).findings
    assert "which was complete without one" in finding.says
    assert "give the audit" not in finding.advice
    repair(folder)
    assert diagnose(folder).findings == ()
