"""Run folders are read as they were written; other folders are refused in one line."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from override_gap.analyses.outcomes import by_split
from override_gap.analyses.readings import ORDER, RunFrame, gain_of, load, once_per_run, table, values
from override_gap.analyses.summary import summarise
from override_gap.probes.store.checksum import with_checksum
from override_gap.probes.store.folder import Store
from override_gap.reports.page.explorer import explorer
from tests.simulate import simulate_readings


@pytest.fixture(scope="module")
def run():
    return simulate_readings(
        0, 24, 60, others=12, errors=3, conditions=("base", "as-delivered", "uniform-2", "in-context")
    )


@pytest.fixture
def folder(run, tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(run.manifest))
    for name, whole in (("readings", run.readings), ("layers", run.layers)):
        (tmp_path / name).mkdir()
        items = sorted(set(whole["item"]))
        for number, part in enumerate((items[:20], items[20:])):
            rows = whole[whole["item"].isin(part)]
            rows.convert_dtypes().to_parquet(tmp_path / name / f"{number}.parquet")
    return tmp_path


def test_a_stored_run_gives_the_same_summary(run, folder):
    loaded = load(folder)
    assert summarise(replace(loaded, cautions=())) == summarise(run)
    assert summarise(loaded)["cautions"] == list(loaded.cautions) != []


def test_errors_do_not_enter_statistics(run):
    assert len(run.select("conflict", "as-delivered")) == 57
    assert len(run.readings[run.readings["split"] == "conflict"]) == 60 * 4


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a run folder"):
        load(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        load(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="nothing was measured"):
        load(tmp_path)
    (tmp_path / "readings").mkdir()
    (tmp_path / "readings" / "a.parquet").write_text("torn")
    with pytest.raises(ValueError, match=r"a\.parquet"):
        load(tmp_path)


def test_missing_columns_and_duplicate_readings_are_named(run):
    with pytest.raises(ValueError, match="prior_margin"):
        RunFrame({}, run.readings.drop(columns="prior_margin"))
    with pytest.raises(ValueError, match="two readings"):
        RunFrame({}, pd.concat([run.readings, run.readings.head(1)]))


@pytest.mark.parametrize(
    ("name", "gain"),
    [
        ("base", 0),
        ("as-delivered", 1),
        ("uniform-1.25", 1.25),
        ("uniform-x", None),
        ("uniform-nan", None),
        ("uniform-inf", None),
        ("uniform--5", None),
        ("slb", None),
        ("logit-fusion-1.5", None),
    ],
)
def test_the_gain_of_a_condition(name, gain):
    assert gain_of(name) == gain


def of_first_item(folder):
    rows = pd.read_parquet(next((folder / "readings").glob("*.parquet")))
    return rows[rows["item"] == rows["item"].iloc[0]]


def test_a_column_that_is_empty_in_one_table_is_that_of_the_others(folder):
    whole = load(folder).readings
    part = of_first_item(folder)
    empty = part.assign(item="apart", critical_gain=None, known=None, net_margin=None)
    empty.to_parquet(folder / "readings" / "zz.parquet")
    readings = load(folder).readings
    assert readings["net_margin"].dtype == whole["net_margin"].dtype == float
    assert readings["known"].isna().sum() == whole["known"].isna().sum() + len(part)
    pd.testing.assert_series_equal(readings[readings["item"] != "apart"]["net_margin"], whole["net_margin"])


def test_readings_are_sorted_and_their_index_is_their_place_in_the_files(folder):
    readings = load(folder).readings
    stored = pd.concat([pd.read_parquet(f) for f in sorted((folder / "readings").glob("*.parquet"))], ignore_index=True)
    back = readings.sort_index()
    assert back["item"].tolist() == stored["item"].tolist()
    np.testing.assert_array_equal(values(back["net_margin"]), values(stored["net_margin"]))
    keys = list(zip(readings["split"], readings["condition"], readings["item"], strict=True))
    assert keys == sorted(keys)
    assert keys != list(zip(stored["split"], stored["condition"], stored["item"], strict=True)), (
        "else nothing was sorted"
    )


def test_rows_without_errors_are_in_memory_once_and_cells_are_their_parts(folder):
    sound = load(folder)
    sound = RunFrame(sound.manifest, sound.readings[sound.readings["status"] == "ok"])
    run = RunFrame(sound.manifest, sound.readings.sort_values(ORDER))
    assert run.measured is run.readings
    assert sum(map(len, run.cells.values())) == len(run.measured)
    own = run.cells["conflict", "base"]
    assert np.shares_memory(own["net_margin"].to_numpy(), run.readings["net_margin"].to_numpy())
    one_fails = run.readings.assign(status=["error", *["ok"] * (len(run.readings) - 1)])
    run = RunFrame(run.manifest, one_fails.sample(frac=1, random_state=0))
    assert len(run.measured) == len(one_fails) - 1
    assert [len(rows) for rows in run.cells.values()].count(0) == 0
    for (split, condition), rows in run.cells.items():
        assert set(rows["split"]) == {split}
        assert set(rows["condition"]) == {condition}
        assert rows["item"].is_monotonic_increasing


def test_an_item_whose_adapter_failed_keeps_what_was_read_of_the_base(folder):
    sound = load(folder)
    item = sound.select("conflict", "base", "known")["item"].iloc[0]
    for file in (folder / "readings").glob("*.parquet"):
        rows = pd.read_parquet(file)
        failed = (rows["item"] == item) & (rows["condition"] != "base")
        rows.loc[failed, ["known", "prior_margin", "prior_logprob", "net_margin", "adapter_margin"]] = None
        rows.loc[failed, "status"] = "error"
        # as an audit writes it: the base's row first
        rows.sort_values("condition", key=lambda names: names != "base", kind="stable").to_parquet(file)
    run = load(folder)
    assert sum(row["known"] for row in by_split(run)) == sum(row["known"] for row in by_split(sound))
    shown, before = (explorer(each, summarise(each))["items"] for each in (run, sound))
    assert shown["known"][shown["item"].index(before["item"][0])] is not None
    assert sorted(map(str, shown["known"])) == sorted(map(str, before["known"]))


def test_an_index_that_repeats_does_not_decide_the_order(run):
    rows = run.readings.sample(frac=1, random_state=1)
    for index in ([0] * len(rows), rows["condition"].tolist()):
        again = RunFrame(run.manifest, rows.set_axis(index))
        for key, cell in run.cells.items():
            assert again.cells[key]["item"].tolist() == cell["item"].tolist()


def test_equal_lists_are_one_array():
    texts, nested = pa.list_(pa.string()), pa.list_(pa.list_(pa.string()))
    found = table([pa.table({"lists": pa.array([["a"], None, ["a"], []], texts)})] * 2)
    deeper = table([pa.table({"own": pa.array([[["a"]], None], nested)})])
    assert found is not None
    assert deeper is not None
    lists = found["lists"]
    assert [None if own is None else list(own) for own in lists] == [["a"], None, ["a"], []] * 2
    assert lists[0] is lists[2] is lists[4]
    assert deeper["own"][0][0].tolist() == ["a"]


def test_tables_of_other_types_are_refused_in_one_line(folder):
    part = of_first_item(folder)
    for name, note in (("yy", 1), ("zz", "a note")):
        part.assign(item=name, remark=note).to_parquet(folder / "readings" / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"not of one audit.*remark.*made again"):
        load(folder)


def test_duplicate_layers_are_named(run, folder):
    repeated = pd.concat([run.layers, run.layers.head(1)])
    with pytest.raises(ValueError, match=r"two rows in layers under .* at layer -?\d+; one is expected"):
        RunFrame({}, run.readings, repeated)
    file = folder / "layers" / "0.parquet"
    stored = pd.read_parquet(file)
    pd.concat([stored, stored.head(1)]).to_parquet(file)
    with pytest.raises(ValueError, match=rf"{folder}: inconsistent: 0: item .* two rows in layers .* at layer"):
        load(folder)


@pytest.mark.parametrize("seed", ["0", 1.5, True, [1], -1])
def test_a_seed_that_is_not_a_whole_number_is_refused(run, folder, seed):
    (folder / "manifest.json").write_text(json.dumps({**run.manifest, "seed": seed}))
    with pytest.raises(ValueError, match=r"manifest\.json: seed needs a whole number.*doctor .* --repair"):
        load(folder)


def test_files_without_rows_are_told_from_missing_files(run, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "readings").mkdir()
    run.readings.head(0).to_parquet(tmp_path / "readings" / "a.parquet")
    with pytest.raises(ValueError, match=r"readings: its files hold no rows.*made again"):
        load(tmp_path)


def test_an_analysis_is_made_once_for_each_run_and_its_settings(run) -> None:
    calls: list[tuple[RunFrame, int]] = []

    @once_per_run
    def analysis(run: RunFrame, seed: int = 0) -> int:
        calls.append((run, seed))
        return len(calls)

    assert [analysis(run), analysis(run, 0), analysis(run, seed=0), analysis(run, 1), analysis(run)] == [1, 1, 1, 2, 1]
    changed = replace(run, readings=run.readings.assign(kl=0.0))
    assert analysis(changed) == 3, "a run with other readings is another run"
    assert calls == [(run, 0), (run, 1), (changed, 0)]


@pytest.mark.parametrize("lost", ["layers", "maps"])
def test_a_table_that_the_readings_name_and_that_is_gone_is_refused_like_a_damaged_one(run, tmp_path, lost):
    (tmp_path / "manifest.json").write_text(json.dumps(with_checksum(run.manifest)))
    for name in ("readings", "layers"):
        (tmp_path / name).mkdir()
    readings, layers = (
        [{name: None if pd.isna(value) else value for name, value in row.items()} for row in rows.to_dict("records")]
        for rows in (run.readings.drop(columns="cluster"), run.layers)
    )
    of_map = {"point": "p", "split": "conflict", "layer": 0, "map": "q_proj", "part": "document"}
    maps = [{"item": readings[0]["item"], **of_map, "path": 1.0, "path_push": 1.0, "path_pull": 0.0, "path_first": 1.0}]
    Store(tmp_path).write_unit("unit", readings, layers, tables={"maps": maps})
    assert len(load(tmp_path).table("maps")) == 1
    (tmp_path / lost / "unit.parquet").unlink()
    with pytest.raises(
        ValueError, match=rf"{lost}/unit\.parquet: missing; `override-gap doctor .* --repair` moves the unit"
    ):
        load(tmp_path)


def test_a_run_of_an_earlier_version_names_no_tables_and_may_lack_one(folder):
    for file in (folder / "layers").glob("*.parquet"):
        file.unlink()
    assert load(folder).layers.empty
