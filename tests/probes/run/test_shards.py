"""Shards: merged, they are the undivided run; what does not belong together is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from override_gap.analyses.readings import load
from override_gap.probes.plan import Plan
from override_gap.probes.run.engine import Local, Unit
from override_gap.probes.run.loop import run_plan
from override_gap.probes.run.resolve import resolve
from override_gap.probes.run.shards import Shard, merge
from override_gap.probes.sources.fitted import FittedAdapters
from override_gap.probes.store.folder import RunError, Store
from override_gap.reports.cli.main import main
from tests.conftest import conflict, tiny

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
ITEMS = [conflict(n, f"{WORDS[n]} {WORDS[n + 1]}", "red", "blue", tier="deep") for n in range(7)]
PLAN = Plan(subject="tiny", items="own", policies="as-delivered,slb,random-layers", answers=3)


@pytest.fixture(scope="module")
def engine() -> Local:
    subject = tiny("llama")
    return Local(subject, FittedAdapters(subject, steps=2))


@pytest.fixture(scope="module")
def runs(engine: Local, tmp_path_factory) -> Path:
    """The run undivided, and in three shards."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 1)
        run_plan(engine, resolve(PLAN, ITEMS), folder / "whole")
        for number in (1, 2, 3):
            run_plan(engine, resolve(PLAN, ITEMS), folder / str(number), shard=Shard(number, 3))
    return folder


def shards(runs: Path) -> list[Path]:
    return [runs / str(number) for number in (3, 1, 2)]


def contents(run: Path) -> dict[str, bytes]:
    return {str(file.relative_to(run)): file.read_bytes() for file in run.glob("*/*.parquet")}


def test_merged_shards_hold_the_bytes_of_the_undivided_run(runs: Path, tmp_path: Path) -> None:
    merged = merge(shards(runs), tmp_path / "merged")
    assert contents(merged) == contents(runs / "whole")
    assert len(contents(merged)) == 2 * 7
    assert len(list(tmp_path.iterdir())) == 1, "nothing is left beside the merged run"
    whole, joined = (json.loads((run / "manifest.json").read_text()) for run in (runs / "whole", merged))
    assert set(joined) - set(whole) == {"shards"}
    for key in set(whole) - {"checksum", "timing", "started", "finished", "adapters"}:
        assert joined[key] == whole[key], key
    assert joined["adapters"] == whole["adapters"]


def test_a_merged_run_is_resumed_without_measuring(runs: Path, tmp_path: Path, engine: Local, monkeypatch) -> None:
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 1)
    merged = merge(shards(runs), tmp_path / "merged")
    monkeypatch.setattr(FittedAdapters, "encode", lambda *_: pytest.fail("measured again"))
    run_plan(engine, resolve(PLAN, ITEMS), merged)


def test_each_unit_is_in_one_shard_and_shards_are_of_equal_size() -> None:
    units = [Unit((), (), str(n)) for n in range(50)]
    parts = [Shard(number, 16).share(units) for number in range(1, 17)]
    assert sorted(int(unit.key) for part in parts for unit in part) == list(range(50))
    assert {len(part) for part in parts} == {3, 4}


def test_a_merged_run_is_loaded_and_a_shard_is_refused(runs: Path, tmp_path: Path, capsys) -> None:
    assert main(["merge", *map(str, shards(runs)), "--out", str(tmp_path / "merged")]) == 0
    assert "override-gap report" in capsys.readouterr().out
    assert len(load(tmp_path / "merged").readings) == 7 * 4
    with pytest.raises(ValueError, match="shard 1 of 3"):
        load(runs / "1")


@pytest.fixture
def unfit(runs: Path, tmp_path: Path, engine: Local, monkeypatch) -> Path:
    """Folders that do not belong to a merge of the three shards, each for another reason."""
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 1)
    folder = tmp_path / "unfit"
    shutil.copytree(runs / "1", folder / "repeated")
    run_plan(engine, resolve(replace(PLAN, seed=1), ITEMS), folder / "other seed", shard=Shard(2, 3))
    run_plan(engine, resolve(PLAN, ITEMS), folder / "half", shard=Shard(2, 2))
    shutil.copytree(runs / "2", folder / "torn")
    next((folder / "torn" / "readings").iterdir()).unlink()
    shutil.copytree(folder / "torn", folder / "unfinished")
    manifest = json.loads((runs / "2" / "manifest.json").read_text()) | {"complete": False}
    Store(folder / "unfinished").write_json("manifest.json", manifest)
    return folder


def test_merge_refuses_in_one_line(runs: Path, unfit: Path, tmp_path: Path) -> None:
    one, two, three = (runs / str(number) for number in (1, 2, 3))
    out = tmp_path / "merged"
    for message, folders in (
        ("shard 2 of 3 is missing", (one, three)),
        ("both shard 1", (one, unfit / "repeated", two, three)),
        ("a whole run", (one, runs / "whole", two)),
        ("cannot be read", (one, unfit / "nowhere")),
        ("of another audit", (one, unfit / "other seed", three)),
        ("one of 2 shards", (one, unfit / "half")),
        ("missing: readings: 1 of 2 units have no sound readings", (one, unfit / "torn", three)),
        ("not finished", (one, unfit / "unfinished", three)),
    ):
        with pytest.raises(RunError, match=message) as refusal:
            merge(folders, out)
        assert "\n" not in str(refusal.value)
        assert not out.exists()
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="not an empty folder"):
        merge([one, two, three], out)


def test_a_folder_holds_one_shard(runs: Path, engine: Local, monkeypatch) -> None:
    monkeypatch.setattr("override_gap.probes.run.units.DOCUMENTS_PER_UNIT", 1)
    with pytest.raises(RunError, match="another part"):
        run_plan(engine, resolve(PLAN, ITEMS), runs / "1", shard=Shard(2, 3))
    with pytest.raises(RunError, match="another part"):
        run_plan(engine, resolve(PLAN, ITEMS), runs / "1")


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5", "", " 1/2"])
def test_text_that_names_no_shard_is_refused(text: str, tmp_path: Path, capsys) -> None:
    assert main(["audit", f"--shard={text}", "--out", str(tmp_path / "run")]) == 2
    assert "3/16" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_more_shards_than_units_leave_some_empty_and_merge(engine: Local, tmp_path: Path) -> None:
    for number in (1, 2):
        run_plan(engine, resolve(PLAN, ITEMS[:1]), tmp_path / str(number), shard=Shard(number, 2))
    merged = merge([tmp_path / "1", tmp_path / "2"], tmp_path / "merged")
    assert len(load(merged).readings) == 4


def test_merge_refuses_damaged_linked_and_repeated_shards(runs: Path, tmp_path: Path) -> None:
    copies = [tmp_path / str(number) for number in (1, 2, 3)]
    for folder in copies:
        shutil.copytree(runs / folder.name, folder)
    with pytest.raises(RunError, match="given twice"):
        merge([copies[0], copies[0] / ".." / "1"], tmp_path / "out")
    with pytest.raises(RunError, match="within the run folder"):
        merge(copies, copies[0] / "out")
    table = next((copies[1] / "readings").glob("*.parquet"))
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(RunError, match=r"doctor .* --repair"):
        merge(copies, tmp_path / "out")
    table.unlink()
    table.symlink_to(next((copies[0] / "readings").glob("*.parquet")))
    with pytest.raises(RunError, match="link"):
        merge(copies, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "words",
    [
        ["merge", "1", "--out", "s3://bucket/run"],
        ["merge", "s3://bucket/1", "--out", "run"],
        ["compare", "s3://bucket/1", "2"],
        ["audit", "--out", "memory://bucket/run"],
        ["audit", "--shard", "١/٣"],
    ],
)
def test_urls_and_digits_that_cannot_be_used_are_one_line(
    words: list[str], tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content", [{"shard": [1]}, {"shard": {"number": 1, "of": 0}}, {"shard": {"number": 1, "of": 1}}]
)
def test_a_manifest_that_no_audit_writes_is_one_line(content: dict, tmp_path: Path, capsys) -> None:
    for name in ("readings", "layers"):
        (tmp_path / "run" / name).mkdir(parents=True)
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(content))
    for words in (["merge", str(tmp_path / "run"), "--out", str(tmp_path / "out")], ["report", str(tmp_path / "run")]):
        assert main(words) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert "shows where" not in lines[0]


def test_the_folder_that_one_is_in_is_not_replaced_under_ones_feet(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"\. is the folder that you are in; give --out the name of a new folder"):
        merge(shards(runs), Path())
    assert not list(tmp_path.iterdir())
